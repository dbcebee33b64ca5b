/** `tandem train` starts again what is killed, and the run ends with the bits of an undisturbed one. */
import { join } from "node:path";
import { describe, expect, it, vi } from "vitest";
import {
  checkpointOf,
  kill,
  ownProcesses,
  SMALL_RUN,
  start,
  stepsOf,
  tandem,
  temporaryFolder,
  type Running,
} from "./tandem.js";

const folder = temporaryFolder();
const FLAGS = [...SMALL_RUN, "--steps", "30", "--set", "checkpoint.everySteps=10"];

const children = ({ process: { pid } }: Running, command: string) => ownProcesses(pid, command);

describe("train", { timeout: 120_000 }, () => {
  it("starts killed workers and a killed coordinator again", async () => {
    const calm = join(folder, "calm");
    expect((await tandem(["train", ...FLAGS, "--workers=1", "--out", calm])).code).toBe(0);

    const out = join(folder, "killed");
    const run = start(["train", ...FLAGS, "--out", out]);
    await vi.waitUntil(() => stepsOf(out) > 5, { timeout: 40_000 });
    kill(children(run, "worker"));
    await vi.waitUntil(() => stepsOf(out) > 12, { timeout: 40_000 });
    kill(children(run, "coordinator"));
    const { code, stderr } = await run.ended;
    expect(code, stderr).toBe(0);
    expect(stderr.match(/worker-\d: its process has ended with SIGKILL; it is started again/g)).toHaveLength(2);
    expect(stderr).toContain("the coordinator's process has ended with SIGKILL; it is started again");
    expect((await checkpointOf(out)).sha256).toEqual((await checkpointOf(calm)).sha256);
  });

  it("gives up after --max-restarts, and says how to go on", async () => {
    const out = join(folder, "given-up");
    const run = start(["train", ...FLAGS, "--max-restarts", "0", "--out", out]);
    await vi.waitUntil(() => stepsOf(out) > 0, { timeout: 40_000 });
    kill(children(run, "worker"));
    const { code, stderr } = await run.ended;
    expect(code).toBe(2);
    expect(stderr).toMatch(/tandem: all workers have ended, the last with SIGKILL/);

    const again = start(["train", "--resume", "--max-restarts", "0", "--out", out]);
    await vi.waitUntil(() => children(again, "worker").length === 2, { timeout: 40_000 });
    kill(children(again, "coordinator"));
    const left = await again.ended;
    expect(left.code).toBe(2);
    expect(left.stderr).toContain(`go on from the last checkpoint with --resume --out ${out}`);
  });

  it.each(["-1", "1.5", "x"])("refuses --max-restarts %s", async (given) => {
    const { code, stderr } = await tandem(["train", `--max-restarts=${given}`, "--out", join(folder, "none")]);
    expect(code).toBe(2);
    expect(stderr).toMatch(/^tandem: --max-restarts wants a whole number, 0 for none\n$/);
  });
});
