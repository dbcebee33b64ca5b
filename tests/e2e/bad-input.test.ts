/** Each mistake gets one line that names the thing and the remedy, exit code 2, and loses nothing. */
import { cpSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type AddressInfo } from "node:net";
import { join } from "node:path";
import { beforeAll, describe, expect, it, vi } from "vitest";
import { checkpointOf, SMALL_RUN, start, tandem, temporaryFolder } from "./tandem.js";

const folder = temporaryFolder();
const run = join(folder, "run");
const config = join(folder, "run.yaml");

async function mistake(args: readonly string[], message: string): Promise<void> {
  const { code, stderr, stdout } = await tandem(args, folder);
  expect(stderr).toContain(message);
  expect(code).toBe(2);
  expect(stderr.trim().split("\n"), "one line").toHaveLength(1);
  expect(stderr.startsWith("tandem: ")).toBe(true);
  expect(stdout).toBe("");
}

beforeAll(async () => {
  const trained = await tandem(["train", ...SMALL_RUN, "--steps", "2", "--workers", "1", "--out", run]);
  expect(trained.code, trained.stderr).toBe(0);
  writeFileSync(config, (await tandem(["config", ...SMALL_RUN, "--steps", "2"])).stdout);
}, 60_000);

describe("a mistake", () => {
  const png = Buffer.from(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==",
    "base64",
  );
  const out = ["--out", join(folder, "new")];

  it.each([
    [
      ["train", "--set", "moco.temprature=1", ...out],
      "unknown config key moco.temprature: did you mean moco.temperature?",
    ],
    [["train", "--set", "moco.temperature=warm", ...out], 'moco.temperature = "warm": expected number'],
    [["train", "--data", "folder:nowhere", ...out], "nowhere"],
    [["train", "--data", "synthetic:train=100", ...out], "global batch of 128"],
    [["train", "--set", "moco.queueSize=127", ...out], "moco.queueSize = 127 is smaller than the global batch of 128"],
    [["train", "--config", "none.yaml", ...out], "cannot read the config file none.yaml"],
    [["k8s", "render", "--preset", "gpu", "--config", "-"], "--config -: name a file"],
    [["k8s", "render", "--preset", "gpu", "--workers", "3"], "a step has 2 ranks (parallel.worldSize)"],
    [["train", "--encoder", "resnet19", ...out], "resnet19"],
    [
      ["train", "--set", "model.syncBatchNorm=true", "--encoder", "vit-tiny", ...out],
      "does nothing for encoder vit-tiny, which has no batch norm: set it to false",
    ],
    [["train", "--batch", "many", ...out], "--batch wants a number"],
    [["train", "--precision", "fp16", ...out], 'Given: "fp16", Choices: "fp32", "bf16", "auto"'],
    [["train", "--eager", "--precision", "bf16", ...out], "engine.precision = bf16 needs engine.mode = compiled"],
    [["train", "--set", "engine.mode=graph", ...out], 'engine.mode = "graph"'],
    [["train", "--epochs", "3", "--steps", "4", ...out], "mutually exclusive"],
    [["train", "--seed", "1", "--seed", "2", ...out], "--seed is given 2 times"],
    [["train", "--stop-after", "0", ...out], "--stop-after 0: give the number of a step"],
    [["train", "--steps"], "Not enough arguments following: steps"],
    [["train", "--out", ""], "--out is empty"],
    [["train", "--out", "a", "--out", "b"], "tandem: --out is given 2 times"],
    [["train", "--device", "tpu", ...out], "--device tpu"],
    [["train", "--set", "moco.queueSize=4194305", ...out], "moco.queueSize = 4194305: too big"],
    [["train", "--workers", "0", ...out], "parallel.workers = 0: too small"],
    [["train", "--resume"], "--resume needs --out"],
    [["train", "--resume", "--out", "none"], "none holds no run to resume"],
    [["trane"], 'there is no command "trane"; did you mean train?'],
    [[], "give a command"],
    [["evaluate"], "say how"],
    [["evaluate", "knn"], "give either --checkpoint DIR or --pixels"],
    [["coordinator"], "--out is missing"],
    [["coordinator", "--listen", "localhost:1", ...out], "--listen localhost:1 is no address"],
    [["coordinator", "--listen", "tcp://127.0.0.999:5555", ...out], "cannot listen on tcp://127.0.0.999:5555"],
    [["coordinator", "--listen", "tcp://192.0.2.1:5555", ...out], "can be reached from other machines: give --keys"],
    [["coordinator", "--listen", "tcp://0.0.0.0:5555", ...out], "can be reached from other machines: give --keys"],
    [["coordinator", "--keys", "nowhere", ...out], "cannot read nowhere/secret.key (ENOENT)"],
    [["worker", "--connect", "tcp://localhost:1", "--keys", "nowhere"], "cannot read nowhere/secret.key (ENOENT)"],
    [["worker", "--connect", "tcp://localhost:1", "--patience", "-1"], "--patience wants a number of seconds"],
    [["keys"], "say what: tandem keys new"],
    [["keys", "new", "--worker", "../x"], "--worker ../x"],
    [["worker", "--connect", "tcp://localhost"], "--connect tcp://localhost is no address"],
    [["worker", "--connect", "tcp://localhost:1", "--device", "tpu"], "--device tpu"],
    [["checkpoint", "nowhere"], "nowhere"],
    [["bench", "step", "--measured", "0"], "--measured 0"],
  ])("in `tandem %j` is told", async (args, message) => {
    await mistake(args, message);
  });

  it("such as an empty class is told", async () => {
    mkdirSync(join(folder, "photos/train/cat"), { recursive: true });
    mkdirSync(join(folder, "photos/train/dog"), { recursive: true });
    writeFileSync(join(folder, "photos/train/cat/1.png"), png);
    await mistake(["train", "--data", "folder:photos", ...out], 'dog" has no images');
  });

  it("such as a run directory that is taken is told", async () => {
    await mistake(["train", "--out", run], `${run} already holds a run: add --resume`);
  });

  it("such as a resumption with another config is told, and the run stays as it was", async () => {
    const before = await checkpointOf(run);
    await mistake(["train", "--resume", "--out", run, "--steps", "3"], "schedule.steps = 2, and now 3 is asked for");
    await mistake(
      ["train", "--resume", "--out", run, "--set", "model.encoder=resnet18"],
      'model.encoder = "resnet-tiny"',
    );
    expect(await checkpointOf(run)).toEqual(before);
  });

  it("such as a resumption in another precision, or eagerly, is told", async () => {
    await mistake(["train", "--resume", "--out", run, "--precision", "bf16"], "engine.precision");
    await mistake(["train", "--resume", "--out", run, "--eager"], "engine.mode");
  });

  it("such as a resumption with other data is told", async () => {
    await mistake(
      ["train", "--resume", "--out", run, "--data", "synthetic:size=16,train=401,test=40"],
      "another data set",
    );
  });

  it("such as a second coordinator on a run directory is told, and one that was killed leaves it free", async () => {
    const taken = join(folder, "locked");
    cpSync(run, taken, { recursive: true });
    const args = ["coordinator", "--resume", "--out", taken, "--listen", "tcp://127.0.0.1:*"];
    const first = start(args, folder);
    await vi.waitUntil(() => first.stdout().includes("listening") || first.stderr().includes("listening"), {
      timeout: 20_000,
    });
    await mistake(args, `locked is in use by the coordinator with process id ${String(first.process.pid)}`);
    first.process.kill("SIGKILL");
    await first.ended;
    const resumed = await tandem(["train", "--resume", "--out", taken, "--workers", "1"], folder);
    expect(resumed.code, resumed.stderr).toBe(0);
  });

  it("such as a port in use is told", async () => {
    const server = createServer().listen(0, "127.0.0.1");
    await vi.waitUntil(() => server.listening);
    const { port } = server.address() as AddressInfo;
    const listen = `tcp://127.0.0.1:${port}`;
    await mistake(["coordinator", "--config", config, "--listen", listen, "--out", "busy"], `${listen} is in use`);
    server.close();
    expect(existsSync(join(folder, "busy"))).toBe(false);
  });

  it("such as a corrupt checkpoint is told, with its file", async () => {
    const copy = join(folder, "corrupt");
    cpSync(run, copy, { recursive: true });
    const path = join(copy, "checkpoints/step-2/key.safetensors");
    const bytes = readFileSync(path);
    bytes[bytes.length - 1] ^= 1;
    writeFileSync(path, bytes);
    await mistake(["checkpoint", join(copy, "checkpoints/step-2")], path);
    await mistake(["evaluate", "knn", "--checkpoint", join(copy, "checkpoints/step-2")], path);
    const { code, stderr } = await tandem(["train", "--resume", "--out", copy]);
    expect(code).toBe(2);
    expect(stderr).toContain("none of the 1 checkpoints");
  });

  it("such as another run's checkpoint, or a run without its manifest, is told", async () => {
    const [mine, theirs] = [join(folder, "mine"), join(folder, "theirs")];
    cpSync(run, mine, { recursive: true });
    const made = await tandem(["train", "--config", config, "--workers", "1", "--seed", "8", "--out", theirs], folder);
    expect(made.code, made.stderr).toBe(0);
    rmSync(join(mine, "checkpoints"), { recursive: true });
    cpSync(join(theirs, "checkpoints"), join(mine, "checkpoints"), { recursive: true });
    await mistake(["train", "--resume", "--out", mine], "step-2 is of another run");
    rmSync(join(mine, "manifest"));
    await mistake(["train", "--resume", "--out", mine], "holds no run that can be resumed (no file manifest)");
  });

  it("such as events that cannot be read are told", async () => {
    const copy = join(folder, "eventless");
    cpSync(run, copy, { recursive: true });
    writeFileSync(join(copy, "events.jsonl"), '{"kind":"step"}\nnothing\n{"time":"t","kind":"step","step":1}\n');
    expect((await tandem(["status", copy])).stdout).toContain("not begun");
    rmSync(join(copy, "events.jsonl"));
    expect((await tandem(["status", copy])).code).toBe(0);
    mkdirSync(join(copy, "events.jsonl"));
    await mistake(["status", copy], "cannot read the run's events: EISDIR");
  });

  it("such as fewer workers than the run waits for is told", async () => {
    const few = ["--workers", "1", "--set", "membership.minWorkers=2", "--out", join(folder, "few")];
    await mistake(["train", ...few], "raise --workers");
  });

  it("such as a checkpoint of another architecture is told", async () => {
    const other = join(folder, "other");
    cpSync(run, other, { recursive: true });
    // A run whose config was edited by hand: the encoder no longer fits its checkpoint.
    const path = join(other, "config.yaml");
    writeFileSync(path, readFileSync(path, "utf8").replace(/^ {2}head: mlp$/m, "  head: linear"));
    await mistake(["coordinator", "--resume", "--out", other, "--listen", "tcp://127.0.0.1:*"], "another architecture");
  });

  it("of a worker's is told to it and to the coordinator, who goes on", { timeout: 120_000 }, async () => {
    const at = join(folder, "refusing");
    const coordinator = start(["coordinator", "--config", config, "--listen", "tcp://127.0.0.1:*", "--out", at]);
    await vi.waitUntil(() => coordinator.stderr().includes("listening at"), { timeout: 20_000 });
    const [connect = ""] = /tcp:\S+/.exec(coordinator.stderr()) ?? [];
    for (const [flag, value] of [
      ["--threads", "9"],
      ["--device", "gpu:99"],
    ] as const) {
      const refused = await tandem(["worker", "--connect", connect, flag, value]);
      expect(refused.code).toBe(2);
      expect(refused.stderr.trim().split("\n").at(-1)).toMatch(new RegExp(`^tandem: .*${value}`));
    }
    const otherData = await tandem(["worker", "--connect", connect, "--data", "synthetic:size=16,train=399,test=40"]);
    expect(otherData.code).toBe(2);
    expect(otherData.stderr).toContain("data set differs from the run's");
    expect(coordinator.stderr()).toContain("data set differs from the run's");
    const fitting = await tandem(["worker", "--connect", connect]);
    expect(fitting.code, fitting.stderr).toBe(0);
    const ended = await coordinator.ended;
    expect(ended.code, ended.stderr).toBe(0);
  });
});

it("a second signal ends a run at once", { timeout: 60_000 }, async () => {
  const at = join(folder, "impatient");
  const running = start(["train", ...SMALL_RUN, "--epochs", "5000", "--workers", "1", "--out", at]);
  await vi.waitUntil(() => running.stderr().includes("step"), { timeout: 30_000 });
  running.process.kill("SIGINT");
  running.process.kill("SIGTERM");
  const { code } = await running.ended;
  // Null: by the signal.
  expect([0, null, 130, 143]).toContain(code);
});
