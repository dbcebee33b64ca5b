/** The program's own state machines under thousands of random schedules, and with faults planted into them. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { fileURLToPath } from "node:url";
import { afterAll, describe, expect, it } from "vitest";
import { scenarioOf, simulate } from "./cluster.js";
import { CALM } from "./network.js";
import { MUTATIONS } from "./mutations.js";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const SCHEDULES = 10_000;
/** … or as many as a slow machine plays in this time. */
const SECONDS = 90;
/** Enough for every planted fault to show; the first that shows ends the search. */
const SCHEDULES_OF_A_FAULT = 10_000;

const folder = mkdtempSync(join(tmpdir(), "tandem-mutations-"));
afterAll(() => {
  rmSync(folder, { recursive: true, force: true });
});

/** `npm run simulate` of the build in a directory, which `npm test` has brought up to date. */
async function run(
  root: string,
  schedules: number,
  from = 0,
  seconds = 300,
): Promise<{ readonly code: number | null; readonly output: string }> {
  const program = join(root, "dist/tests/simulation/simulate.js");
  const child = spawn(
    process.execPath,
    [
      program,
      ...Object.entries({ schedules, from, seconds, failures: 1 }).flatMap(([name, value]) => [
        `--${name}`,
        String(value),
      ]),
    ],
    {
      stdio: ["ignore", "pipe", "inherit"],
    },
  );
  const [output, [code]] = await Promise.all([text(child.stdout), once(child, "close")]);
  return { code: code as number | null, output };
}

/** Of the times between one step's end and the next's. */
function longest(stepsAt: readonly number[]): number {
  return Math.max(...stepsAt.slice(1).map((at, index) => at - (stepsAt[index] ?? 0)));
}

describe("the simulator", () => {
  it("plays a seed the same way twice", () => {
    expect(simulate(scenarioOf(7))).toEqual(simulate(scenarioOf(7)));
    expect(simulate(scenarioOf(8))).not.toEqual(simulate(scenarioOf(7)));
  });

  it(`finds no violation in ${SCHEDULES} schedules`, { timeout: 600_000 }, async () => {
    const { code, output } = await run(ROOT, SCHEDULES, 0, SECONDS);
    expect(code, output).toBe(0);
    process.stdout.write(output);
    expect(Number(/^(\d+) schedules/.exec(output)?.[1])).toBeGreaterThanOrEqual(1000);
  });

  it("lets workers join at no finished step's cost, and the others at less than one step's delay", () => {
    let joins = 0;
    for (let seed = 0; seed < 100; seed++) {
      const { plan, ...rest } = scenarioOf(seed);
      const calm = {
        ...rest,
        plan: { ...plan, minWorkers: 8 },
        workers: 8,
        slow: 0,
        weather: CALM,
        troubleEveryMs: 300,
      };
      const joined = simulate({ ...calm, troubles: ["join"] });
      const undisturbed = simulate({ ...calm, troubles: ["nothing"] });
      expect(joined.stepsRepeated).toBe(0);
      joins += joined.troubles["join"] ?? 0;
      expect(longest(joined.stepsAt)).toBeLessThan(2 * longest(undisturbed.stepsAt));
    }
    expect(joins).toBeGreaterThan(300);
  });

  it.each(MUTATIONS)(
    "finds the planted fault: $fault",
    { timeout: 300_000 },
    async ({ fault, file, find, replace, from }) => {
      const copy = join(folder, String(MUTATIONS.findIndex((mutation) => mutation.fault === fault)));
      mkdirSync(copy);
      for (const part of ["coordinator", "worker", "src", "tests/simulation"]) {
        cpSync(join(ROOT, "dist", part), join(copy, "dist", part), { recursive: true });
      }
      symlinkSync(join(ROOT, "node_modules"), join(copy, "node_modules"));
      cpSync(join(ROOT, "package.json"), join(copy, "package.json"));
      const path = join(copy, "dist", file);
      const source = readFileSync(path, "utf8");
      expect(source.split(find), "the place to plant it").toHaveLength(2);
      writeFileSync(path, source.replace(find, replace));
      const { code, output } = await run(copy, SCHEDULES_OF_A_FAULT, from);
      expect(code, output).toBe(1);
      expect(output).toContain("FAILED: npm run simulate -- --seed");
    },
  );
});
