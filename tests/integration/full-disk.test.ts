/** A disk that is full for a while leaves no half of an event in TensorBoard's file, past which no reader would go. */
import { execFileSync, spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, expect, it } from "vitest";
import { eventsIn } from "../unit/telemetry/tensorboard/event-file.js";

const WRITER = fileURLToPath(new URL("../../dist/tests/integration/event-writer.js", import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "tandem-full-disk-"));
afterAll(() => {
  rmSync(folder, { recursive: true, force: true });
});

/** A mount of its own needs no privilege in a namespace of its own, where the system has them. */
const OWN_MOUNTS = ["--user", "--map-root-user", "--mount"];
const canMount = spawnSync("unshare", [...OWN_MOUNTS, "mount", "-t", "tmpfs", "tmpfs", folder]).status === 0;

it.runIf(canMount)("every event is there once the disk takes them again", () => {
  const disk = join(folder, "disk");
  mkdirSync(disk);
  const script = [
    `mount -t tmpfs -o size=1M tmpfs ${disk}`,
    `head -c 500000 /dev/zero > ${disk}/ballast`,
    `${process.execPath} ${WRITER} ${disk}/events ${disk}/ballast`,
    `cp -r ${disk}/events ${folder}/events`,
  ].join(" && ");
  const said = execFileSync("unshare", [...OWN_MOUNTS, "bash", "-c", script], { encoding: "utf8" });
  const { warnings, step } = JSON.parse(said) as { warnings: string[]; step: number };
  expect(warnings).toEqual([
    expect.stringMatching(/^TensorBoard's events cannot be written: ENOSPC.*; the run goes on$/),
    "TensorBoard's events are written again; 0 are lost",
  ]);
  const [name = ""] = readdirSync(join(folder, "events"));
  const events = eventsIn(readFileSync(join(folder, "events", name)));
  expect(events.map((event) => event.step)).toEqual(Array.from({ length: step + 1 }, (_, index) => index));
});
