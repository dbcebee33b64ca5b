/** A disk that is full: the run and its checkpoints survive, and it goes on where there is room again. */
import { execFileSync, spawn } from "node:child_process";
import { mkdirSync, readdirSync, rmSync, writeFileSync } from "node:fs";
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

it.runIf(canMount())("fills up, and is freed before the end", { timeout: 120_000 }, async () => {
  const disk = join(folder, "disk");
  mkdirSync(disk);
  const report = join(folder, "report");
  // Room for two checkpoints (4 MB each) beside the ballast, then for none; freed when the run has said so three times.
  const script = [
    `mount -t tmpfs -o size=24M tmpfs ${disk}`,
    `head -c 13000000 /dev/zero > ${disk}/ballast`,
    `${process.execPath} ${PROGRAM} train ${SMALL_RUN.join(" ")} --steps 60 --workers 1 --set checkpoint.everySteps=10 ` +
      `--set checkpoint.keep=100 --out ${disk}/run 2> ${report}.err & RUN=$!`,
    `while [ "$(grep -c "make room" ${report}.err)" -lt 3 ] && kill -0 $RUN; do sleep 0.1; done`,
    `ls ${disk}/run/checkpoints > ${report}.before`,
    `rm ${disk}/ballast`,
    "wait $RUN; CODE=$?",
    `ls ${disk}/run/checkpoints > ${report}.after`,
    `${process.execPath} ${PROGRAM} checkpoint ${disk}/run > ${report}.last`,
    "exit $CODE",
  ].join("\n");
  writeFileSync(join(folder, "script.sh"), script);
  const child = spawn("unshare", ["--user", "--map-root-user", "--mount", "bash", join(folder, "script.sh")], {
    stdio: ["ignore", "pipe", "pipe"],
  });
  const output = text(child.stderr);
  const [code] = (await once(child, "close")) as [number | null];
  const read = async (name: string) => (await import("node:fs/promises")).readFile(`${report}.${name}`, "utf8");
  expect(code, `${await output}${await read("err")}`).toBe(0);
  const before = (await read("before")).trim().split("\n");
  const after = (await read("after")).trim().split("\n");
  expect(before.length).toBeGreaterThanOrEqual(1);
  expect(after).toEqual(expect.arrayContaining(before.filter((name) => name.startsWith("step-"))));
  expect(after).toContain("step-60");
  expect(await read("last")).toContain("step-60: whole and verified");
  expect(readdirSync(disk)).toEqual([]);
  rmSync(disk, { recursive: true });
});
