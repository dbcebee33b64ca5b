/** `kill -9` at any moment of a checkpoint: the newest that was whole is there, and what is there is whole. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, expect, it } from "vitest";
import { latestCheckpoint, readCheckpoint } from "../../src/checkpoint/index.js";
import { random } from "../../src/cli/simulate/random.js";

const WRITER = fileURLToPath(new URL("../../dist/tests/integration/checkpoint-writer.js", import.meta.url));
/** `npm run chaos` kills a hundred times. */
const KILLS = Number(process.env["KILLS"] ?? 25);
/** Longer than a few checkpoints take, in ms. */
const MOST_MS = 120;

const folder = mkdtempSync(join(tmpdir(), "tandem-kill-"));
afterAll(() => {
  rmSync(folder, { recursive: true, force: true });
});

it(`leaves a whole checkpoint behind, ${KILLS} times`, { timeout: 180_000 }, async () => {
  const draw = random(1);
  const run = join(folder, "run");
  const skipped: string[] = [];
  let next = 1;
  for (let kill = 0; kill < KILLS; kill++) {
    const child = spawn(process.execPath, [WRITER, run, String(next)], { stdio: ["ignore", "pipe", "inherit"] });
    let said = "";
    child.stdout.on("data", (bytes: Buffer) => (said += bytes.toString()));
    await once(child.stdout, "data");
    await new Promise((resolve) => setTimeout(resolve, draw.next() * MOST_MS));
    child.kill("SIGKILL");
    await once(child, "close");
    const told = Number(said.trim().split("\n").at(-1));
    const { step, groups } = await readCheckpoint(await latestCheckpoint(run, (error) => skipped.push(error.message)));
    expect(step).toBeGreaterThanOrEqual(told);
    for (const [tensor] of Object.values(groups)) expect(tensor?.data[0]).toBe(step);
    next = step + 1;
  }
  // Nothing half written is ever taken for a checkpoint.
  expect(skipped).toEqual([]);
});
