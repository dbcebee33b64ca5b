/** How weights reach the workers never shows in what is trained, nor in what is evaluated on the way. */
import { mkdirSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, it, vi } from "vitest";
import { Dealer } from "zeromq";
import { encodePng } from "../../src/data/decode.js";
import { sampleRequestCodec } from "../../src/protocol/wire.js";
import { welcomeOf } from "../integration/fuzz/handshake.js";
import { uniform } from "../fixtures/drawn.js";
import { checkpointOf, eventsOf, SMALL_RUN, start, tandem, temporaryFolder } from "./tandem.js";

const folder = temporaryFolder();

async function trained(name: string, flags: readonly string[]) {
  const out = join(folder, name);
  const run = [
    ...SMALL_RUN,
    "--precision",
    "bf16",
    "--set",
    "evaluation.everyEpochs=1",
    "--epochs",
    "1",
    ...(flags.some((flag) => flag.startsWith("--workers=")) ? [] : ["--workers=2"]),
  ];
  const { code, stderr } = await tandem(["train", ...run, ...flags, "--out", out]);
  expect(code, stderr).toBe(0);
  const scores = eventsOf(out)
    .filter(({ kind }) => kind === "evaluated")
    .map((event) => (event as { accuracy?: number }).accuracy);
  return { sha256: (await checkpointOf(out)).sha256, scores };
}

it("is the same through memory, in float32, in bfloat16 and as differences", { timeout: 240_000 }, async () => {
  const shared = await trained("shared", []);
  expect(shared.scores.length).toBeGreaterThan(0);
  const apart = ["--no-shared-memory", "--wire-weights"];
  for (const flags of [
    [...apart, "fp32", "--data-delivery", "stream", "--no-overlap"],
    [...apart, "bf16"],
    [...apart, "delta", "--aggregators", "2"],
    [...apart, "delta", "--workers=1"],
    // Each rank alone on its worker, so that its gradient leaves shard by shard.
    [...apart, "fp32", "--aggregators", "2", "--workers=4"],
  ])
    expect(await trained(flags.join(""), flags), flags.join(" ")).toEqual(shared);
});

it(
  "ends with one line, and a checkpoint, where the folder of streamed samples is gone",
  { timeout: 90_000 },
  async () => {
    const [data, out] = [join(folder, "pictures"), join(folder, "gone")];
    mkdirSync(join(data, "train/a"), { recursive: true });
    for (let index = 0; index < 64; index++)
      writeFileSync(
        join(data, `train/a/${String(index)}.png`),
        await encodePng(Uint8Array.from(uniform(index, 768, 0, 256)), 16),
      );
    const own = ["--data", `folder:${data}`, "--set", "data.cacheMiB=0", "--set", "membership.minWorkers=1"];
    const served = ["--data-delivery", "stream", "--listen", "tcp://127.0.0.1:*", "--steps", "5000", "--out", out];
    const coordinator = start(["coordinator", ...SMALL_RUN.slice(2), ...own, ...served]);
    await vi.waitUntil(() => coordinator.stderr().includes("listening at"), { timeout: 20_000 });
    const connect = /tcp:\/\/127\.0\.0\.1:\d+/.exec(coordinator.stderr())?.[0] ?? "";
    // More than anybody may ask for: the connection is closed, and the coordinator goes on.
    const { samplesPort, runId } = await welcomeOf(connect);
    const greedy = new Dealer({ linger: 1000 });
    greedy.connect(`tcp://127.0.0.1:${String(samplesPort)}`);
    const want = { runId, indices: new Array<number>(200_000).fill(1) };
    await greedy.send(Buffer.from(sampleRequestCodec.encode({ body: "want", want })));

    const worker = start(["worker", "--connect", connect]);
    await vi.waitUntil(() => eventsOf(out).some(({ kind }) => kind === "step"), { timeout: 30_000 });
    greedy.close();
    renameSync(data, `${data}.away`);
    const ended = await coordinator.ended;
    expect(ended.code, ended.stderr).toBe(2);
    expect(ended.stderr.trim().split("\n").at(-1)).toMatch(/^tandem: image .* cannot be read \(ENOENT\)/);
    expect((await worker.ended).code).not.toBe(1);
    expect((await checkpointOf(out)).step).toBeGreaterThan(0);
  },
);

it(
  "finds the samples where a coordinator has them that came back while they were being listed",
  { timeout: 90_000 },
  async () => {
    const out = join(folder, "early");
    const own = ["--set", "membership.minWorkers=1", "--data-delivery", "stream", "--steps", "6", "--out", out];
    const first = start(["coordinator", ...SMALL_RUN, ...own, "--listen", "tcp://127.0.0.1:*"]);
    await vi.waitUntil(() => first.stderr().includes("listening at"), { timeout: 20_000 });
    const connect = /tcp:\/\/127\.0\.0\.1:\d+/.exec(first.stderr())?.[0] ?? "";
    const worker = start(["worker", "--connect", connect]);
    await vi.waitUntil(() => worker.stderr().includes("welcome to"), { timeout: 20_000, interval: 1 });
    first.process.kill("SIGKILL");
    await first.ended;
    // Its samples are two ports behind now, and were anywhere before.
    const second = start(["coordinator", "--resume", "--out", out, "--data-delivery", "stream", "--listen", connect]);
    expect((await worker.ended).code, worker.stderr()).toBe(0);
    expect((await second.ended).code, second.stderr()).toBe(0);
  },
);
