import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { hostname, tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { lockRun as lockRunOr, runHolder } from "../../../src/checkpoint/index.js";

let run = "";
beforeEach(() => {
  run = mkdtempSync(join(tmpdir(), "tandem-lock-"));
});
afterEach(() => {
  rmSync(run, { recursive: true, force: true });
});
const taken = (error: Error) => {
  throw error;
};
const lockRun = (directory: string) => lockRunOr(directory, taken);
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
    const own = await lockRun(run);
    const { place } = holder();
    await own.release();
    for (const gone of [
      { pid, start: "1" },
      { pid: process.pid, start: "1" },
    ]) {
      left({ host: hostname(), place, ...gone });
      const began = performance.now();
      const lock = await lockRun(run);
      expect(performance.now() - began).toBeLessThan(2000);
      expect(holder()["pid"]).toBe(process.pid);
      await lock.release();
    }
  });

  it("is taken over from a dead process that its parent has not asked after", async () => {
    // `exec` makes the shell a program that never asks after its children.
    const parent = spawn("sh", ["-c", "sleep 0.5 & echo $!; exec sleep 60"], { stdio: ["ignore", "pipe", "ignore"] });
    const [text] = (await once(parent.stdout, "data")) as [Buffer];
    const pid = Number(text.toString());
    await vi.waitUntil(() => / Z /.test(readFileSync(`/proc/${String(pid)}/stat`, "utf8")));
    const own = await lockRun(run);
    const { place } = holder();
    await own.release();
    const start = readFileSync(`/proc/${String(pid)}/stat`, "utf8")
      .replace(/^.*\) /s, "")
      .split(" ")[19];
    left({ host: hostname(), place, pid, start });
    expect(await runHolder(run)).toBeNull();
    await (await lockRun(run)).release();
    parent.kill();
  });

  it.each([
    ["years ahead", 3e9],
    ["years behind", 1e9],
  ])(
    "of another machine, whose clock is %s, holds while it is touched, and not for long after",
    { timeout: 20_000 },
    async (_, date) => {
      left({ host: "elsewhere", place: "another boot", pid: 1, start: "" });
      let touches = 0;
      const touching = setInterval(() => {
        utimesSync(file(), date, date + ++touches);
      }, 1000);
      await expect(lockRun(run)).rejects.toThrow(/process id 1 on elsewhere/);
      clearInterval(touching);
      await (await lockRun(run)).release();
    },
  );

  it("that another has taken all the same is told to its holder, once", { timeout: 20_000 }, async () => {
    const told: Error[] = [];
    const lock = await lockRunOr(run, (error) => told.push(error));
    left({ host: "elsewhere", place: "another boot", pid: 7, start: "" });
    await expect.poll(() => told, { timeout: 10_000 }).toHaveLength(1);
    expect(told[0]).toMatchObject({
      code: "RUN_LOCKED",
      message: expect.stringContaining("process id 7 on elsewhere"),
    });
    await new Promise((resolve) => setTimeout(resolve, 2500));
    expect(told).toHaveLength(1);
    await lock.release();
    expect(holder()["pid"]).toBe(7);
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
