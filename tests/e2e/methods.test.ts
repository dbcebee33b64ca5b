/** Every method over real processes and sockets: the same bits for any number of workers. (MoCo v2 plainly: invariance.test.ts.) */
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { readEvents } from "../../src/telemetry/index.js";
import { checkpointOf, digestsWith, IS_FULL, SMALL_RUN, tandem, temporaryFolder } from "./tandem.js";

const folder = temporaryFolder();
const WORKERS = IS_FULL ? [1, 2, 4] : [1, 2];

const SYNC = "--set=model.syncBatchNorm=true";

/** What `npm test` leaves out differs from its neighbours in nothing that workers exchange. (SimCLR: resumed, below.) */
const MORE: readonly (readonly [string, ...string[]])[] = [
  ["simclr"],
  ["simclr", "--set=engine.heldRanks=4"],
  ["moco-v1"],
  ["supcon"],
  [fileURLToPath(new URL("../../examples/own-method.js", import.meta.url))],
  ["moco-v2", SYNC, "--set=moco.shuffle=none"],
  ["moco-v3", SYNC, "--set=model.hiddenDim=64", "--precision=bf16"],
];

const METHODS: readonly (readonly [string, ...string[]])[] = [
  ["moco-v2", "--set=moco.shuffle=across-ranks", "--eager", "--optimizer=lars"],
  ["moco-v3", "--set=model.hiddenDim=64", "--set=model.embeddingDim=32"],
  ["supcon-queue", "--precision=bf16", "--optimizer=adamw", "--set=optimizer.clipNorm=1"],
  ["simclr", SYNC],
  ...(IS_FULL ? MORE : []),
];

describe.each(METHODS)("--method %s %s %s %s %s %s", (method, ...settings) => {
  it(`leaves the same digests with ${WORKERS.join(", ")} workers`, { timeout: 120_000 }, async () => {
    const [one, ...others] = await digestsWith(folder, ["--steps", "4", "--method", method, ...settings], WORKERS);
    expect(Object.keys(one).sort()).toEqual(["buffers", "key", "optimizer", "query", "queue"]);
    for (const other of others) expect(other).toEqual(one);
  });
});

it.each([["--set=engine.heldRanks=2"], [SYNC]])(
  "resumed with other workers, an exchange of embeddings goes on as if nothing had been %s",
  { timeout: 120_000 },
  async (...settings) => {
    const out = join(folder, `stopped${settings.join("")}`);
    const simclr = ["--method", "simclr", "--steps", "4", ...settings];
    const [undisturbed] = await digestsWith(folder, simclr, [1]);
    const flags = [...SMALL_RUN, ...simclr, "--workers", "2", "--stop-after", "2"];
    const stopped = await tandem(["train", ...flags, "--out", out]);
    expect(stopped.code, stopped.stderr).toBe(0);
    const resumed = await tandem(["train", "--resume", "--out", out, "--workers", "3"]);
    expect(resumed.code, resumed.stderr).toBe(0);
    expect((await checkpointOf(out)).sha256).toEqual(undisturbed);
    let steps = 0;
    for await (const event of readEvents(join(out, "events.jsonl"))) {
      if (event.kind !== "step") continue;
      steps++;
      // Means over the ranks, each on one worker.
      for (const ms of [event.forwardMs, event.backwardMs]) expect(ms).toBeGreaterThan(0);
      expect(event.forwardMs + event.backwardMs).toBeLessThan(event.stepMs);
    }
    expect(steps).toBe(4);
  },
);
