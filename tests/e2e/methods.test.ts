/** Every method over real processes and sockets: the same bits for any number of workers. (MoCo v2: invariance.test.ts.) */
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { checkpointOf, digestsWith, SMALL_RUN, tandem, temporaryFolder } from "./tandem.js";

const folder = temporaryFolder();
/** `npm run invariance` has them all. */
const WORKERS = process.env["INVARIANCE"] === "full" ? [1, 2, 4] : [1, 4];

const METHODS: readonly (readonly [string, ...string[]])[] = [
  ["moco-v1"],
  ["moco-v2", "--set", "moco.shuffle=across-ranks"],
  ["moco-v3", "--set", "model.hiddenDim=64", "--set", "model.embeddingDim=32"],
  ["simclr"],
  ["supcon"],
  ["supcon-queue"],
  [fileURLToPath(new URL("../../examples/own-method.js", import.meta.url))],
];

describe.each(METHODS)("--method %s %s %s %s %s", (method, ...settings) => {
  it(`leaves the same digests with ${WORKERS.join(", ")} workers`, { timeout: 120_000 }, async () => {
    const [one, ...others] = await digestsWith(folder, ["--steps", "8", "--method", method, ...settings], WORKERS);
    expect(Object.keys(one).sort()).toEqual(["buffers", "key", "optimizer", "query", "queue"]);
    for (const other of others) expect(other).toEqual(one);
  });
});

it(
  "resumed with other workers, an exchange of embeddings goes on as if nothing had been",
  { timeout: 120_000 },
  async () => {
    const [whole] = await digestsWith(folder, ["--steps", "8", "--method", "simclr"], [1]);
    const out = join(folder, "stopped");
    const flags = ["--method", "simclr", "--workers", "2", "--stop-after", "3"];
    const stopped = await tandem(["train", ...SMALL_RUN, "--steps", "8", ...flags, "--out", out]);
    expect(stopped.code, stopped.stderr).toBe(0);
    const resumed = await tandem(["train", "--resume", "--out", out, "--workers", "3"]);
    expect(resumed.code, resumed.stderr).toBe(0);
    expect((await checkpointOf(out)).sha256).toEqual(whole);
  },
);
