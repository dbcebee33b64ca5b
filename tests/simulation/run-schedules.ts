/** `npm run schedules` of the build in a directory, which `npm test` has brought up to date. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { fileURLToPath } from "node:url";

export const ROOT = fileURLToPath(new URL("../..", import.meta.url));

export async function run(
  root: string,
  schedules: number,
  { from = 0, seconds = 300 } = {},
): Promise<{ readonly code: number | null; readonly output: string }> {
  const program = join(root, "dist/tests/simulation/simulate.js");
  const flags = Object.entries({ schedules, from, seconds, failures: 1 }).flatMap(([name, value]) => [
    `--${name}`,
    String(value),
  ]);
  const child = spawn(process.execPath, [program, ...flags], { stdio: ["ignore", "pipe", "inherit"] });
  const [output, [code]] = await Promise.all([text(child.stdout), once(child, "close")]);
  return { code: code as number | null, output };
}
