import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { hostname, tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { lockRun } from "../../../src/checkpoint/index.js";

let run = "";
beforeEach(() => {
  run = mkdtempSync(join(tmpdir(), "tandem-lock-"));
});
afterEach(() => {
  rmSync(run, { recursive: true, force: true });
});
const file = () => join(run, "coordinator.lock");
const holder = () => JSON.parse(readFileSync(file(), "utf8")) as Record<string, unknown>;
const left = (changes: Record<string, unknown>) => {
  writeFileSync(file(), JSON.stringify({ ...changes, since: "2026-01-01T00:00:00.000Z", token: "another" }));
};

describe("a run directory's lock", () => {
  it("is one coordinator's, named to the other, until it is released", async () => {
    const lock = await lockRun(run);
    expect(holder()).toMatchObject({ pid: process.pid, host: hostname() });
    await expect(lockRun(run)).rejects.toMatchObject({
      code: "RUN_LOCKED",
      message: expect.stringMatching(
        new RegExp(`in use by .* process id ${String(process.pid)} on ${hostname()}, since 20`),
      ),
    });
    await lock.release();
    expect(readdirSync(run)).toEqual([]);
    await (await lockRun(run)).release();
  });

  it("is taken over from a process that is gone, also where its number is another's by now", async () => {
    const { pid } = spawnSync(process.execPath, ["-e", ""]);
    for (const gone of [
      { pid, start: "some boot 1" },
      { pid: process.pid, start: "an earlier boot 1" },
    ]) {
      left({ host: hostname(), ...gone });
      const lock = await lockRun(run);
      expect(holder()["pid"]).toBe(process.pid);
      await lock.release();
    }
  });

  it("of another host holds while it is touched, and not for long after", async () => {
    left({ host: "elsewhere", pid: 1, start: "" });
    await expect(lockRun(run)).rejects.toThrow(/process id 1 on elsewhere/);
    const aWhileAgo = Date.now() / 1000 - 31;
    utimesSync(file(), aWhileAgo, aWhileAgo);
    await (await lockRun(run)).release();
  });

  it("that is torn is as good as left, and of several who find it one takes it", async () => {
    writeFileSync(file(), "{");
    const outcomes = await Promise.allSettled([lockRun(run), lockRun(run), lockRun(run)]);
    const taken = outcomes.filter(({ status }) => status === "fulfilled");
    expect(taken).toHaveLength(1);
    for (const outcome of outcomes) if (outcome.status === "fulfilled") await outcome.value.release();
    expect(existsSync(file())).toBe(false);
  });

  it("that cannot be written is told with the directory", async () => {
    writeFileSync(join(run, "file"), "");
    await expect(lockRun(join(run, "file", "run"))).rejects.toMatchObject({ code: "RUN_DIRECTORY" });
  });
});
