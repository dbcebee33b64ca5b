/** A disk that is full or read-only for a while: the run and its checkpoints survive, and the next one is written again. */
import { execFileSync, spawn } from "node:child_process";
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { once } from "node:events";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { fileURLToPath } from "node:url";
import { expect, it } from "vitest";
import { SMALL_RUN, temporaryFolder } from "./tandem.js";

const folder = temporaryFolder();
const PROGRAM = fileURLToPath(new URL("../../bin/tandem.js", import.meta.url));

/** A mount of its own needs no privilege in a namespace of its own, where the system has them. */
function canMount(): boolean {
  try {
    execFileSync("unshare", ["--user", "--map-root-user", "--mount", "mount", "-t", "tmpfs", "tmpfs", folder]);
    return true;
  } catch {
    return false;
  }
}

/** What is done to the disk once a run is under way, and undone when the run has complained of it three times. */
const TROUBLES = [
  {
    name: "full",
    // Room for two checkpoints (4 MB each) beside the ballast, then for none.
    before: (disk: string) => `head -c 13000000 /dev/zero > ${disk}/ballast`,
    begin: () => "true",
    complaint: "make room",
    end: (disk: string) => `rm ${disk}/ballast`,
  },
  {
    name: "read-only",
    before: () => "true",
    begin: (disk: string) =>
      [
        `while [ ! -e ${disk}/run/checkpoints/step-10 ]; do sleep 0.1; done`,
        `mount --bind ${disk}/run/checkpoints ${disk}/run/checkpoints`,
        `mount -o remount,bind,ro ${disk}/run/checkpoints`,
      ].join("\n"),
    complaint: "read-only file system",
    end: (disk: string) => `umount ${disk}/run/checkpoints`,
  },
];

it.runIf(canMount()).each(TROUBLES)("$name", { timeout: 120_000 }, async ({ name, before, begin, complaint, end }) => {
  const disk = join(folder, `disk-${name}`);
  mkdirSync(disk);
  const report = join(folder, name);
  const script = [
    `mount -t tmpfs -o size=24M tmpfs ${disk}`,
    before(disk),
    // It is counted in from the start, and the run's shell may be slow to open it.
    `: > ${report}.err`,
    `${process.execPath} ${PROGRAM} train ${SMALL_RUN.join(" ")} --steps 60 --workers 1 --set checkpoint.everySteps=10 ` +
      `--set checkpoint.keep=100 --out ${disk}/run 2> ${report}.err & RUN=$!`,
    begin(disk),
    `while [ "$(grep -c "${complaint}" ${report}.err)" -lt 3 ] && kill -0 $RUN; do sleep 0.1; done`,
    `ls ${disk}/run/checkpoints > ${report}.before`,
    end(disk),
    "wait $RUN; CODE=$?",
    `ls ${disk}/run/checkpoints > ${report}.after`,
    `${process.execPath} ${PROGRAM} checkpoint ${disk}/run > ${report}.last`,
    "exit $CODE",
  ].join("\n");
  writeFileSync(`${report}.sh`, script);
  const child = spawn("unshare", ["--user", "--map-root-user", "--mount", "bash", `${report}.sh`], {
    stdio: ["ignore", "pipe", "pipe"],
  });
  const output = text(child.stderr);
  const [code] = (await once(child, "close")) as [number | null];
  const read = (part: string) => readFileSync(`${report}.${part}`, "utf8");
  expect(code, `${await output}${read("err")}`).toBe(0);
  const names = (part: string) => read(part).trim().split("\n");
  const whole = names("before").filter((checkpoint) => checkpoint.startsWith("step-"));
  expect(whole.length).toBeGreaterThanOrEqual(1);
  expect(whole.length).toBeLessThan(6);
  expect(names("after")).toEqual(expect.arrayContaining(whole));
  expect(names("after")).toContain("step-60");
  expect(read("last")).toContain("step-60: whole and verified");
  expect(readdirSync(disk)).toEqual([]);
  rmSync(disk, { recursive: true });
});
