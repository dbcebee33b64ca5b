/** A run with an encoder of the user's own: the same bits for any number of workers, and nobody trains with another file. */
import { appendFileSync, copyFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { beforeAll, describe, expect, it, vi } from "vitest";
import { checkpointOf, SMALL_RUN, start, tandem, temporaryFolder } from "./tandem.js";

const folder = temporaryFolder();
const RUN = [...SMALL_RUN, "--encoder", "./mine.js", "--steps", "3"];

beforeAll(() => {
  copyFileSync(fileURLToPath(new URL("../../examples/own-encoder.js", import.meta.url)), join(folder, "mine.js"));
});

describe("a run with an encoder of the user's own", () => {
  it("refuses a worker whose file is another, and takes one whose copy is the same", { timeout: 120_000 }, async () => {
    copyFileSync(join(folder, "mine.js"), join(folder, "other.js"));
    appendFileSync(join(folder, "other.js"), "// changed\n");
    const coordinator = start(["coordinator", ...RUN, "--listen", "tcp://127.0.0.1:*", "--out", "served"], folder);
    const at = () => /tcp:\/\/127\.0\.0\.1:\d+/.exec(coordinator.stdout() + coordinator.stderr())?.[0];
    await vi.waitUntil(at, { timeout: 60_000 });
    const worker = (file: string) => tandem(["worker", "--connect", at() ?? "", "--encoder", file], folder);
    const refused = await worker("other.js");
    expect(refused.code).toBe(2);
    expect(refused.stderr).toMatch(/tandem: the encoder other\.js is not the run's: its sha256 is [\da-f]{12}…/);
    const taken = await worker("mine.js");
    expect(taken.code, taken.stderr).toBe(0);
    expect((await coordinator.ended).code).toBe(0);
    expect(taken.stderr).not.toContain("runs eagerly");
  });

  it("leaves with two workers the digests of the one", { timeout: 120_000 }, async () => {
    const { code, stderr } = await tandem(["train", ...RUN, "--workers", "2", "--out", "2"], folder);
    expect(code, stderr).toBe(0);
    const [one, two] = await Promise.all(["served", "2"].map((out) => checkpointOf(join(folder, out))));
    expect(two.sha256).toEqual(one.sha256);
  });

  it(
    "does not begin where the file does not serve, and does not go on where it was changed",
    { timeout: 60_000 },
    async () => {
      writeFileSync(join(folder, "five.js"), "export default 5;\n");
      for (const [args, message] of [
        [["train", ...RUN, "--encoder", "five.js", "--out", "new"], "--encoder is given 2 times"],
        [["train", ...SMALL_RUN, "--encoder", "five.js", "--out", "new"], "gives neither a tf.LayersModel nor"],
        [
          ["train", ...SMALL_RUN, "--encoder", "./none.js", "--out", "new"],
          "cannot read the encoder ./none.js (ENOENT)",
        ],
      ] as const) {
        const { code, stderr } = await tandem(args, folder);
        expect(stderr).toContain(message);
        expect(stderr.trim().split("\n")).toHaveLength(1);
        expect(code).toBe(2);
      }
      appendFileSync(join(folder, "mine.js"), "// changed\n");
      const changed = await tandem(["train", "--resume", "--out", "2"], folder);
      expect(changed.code).toBe(2);
      expect(changed.stderr).toContain("the encoder ./mine.js is not the run's");
    },
  );
});
