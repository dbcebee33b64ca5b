/** The program's own state machines under thousands of random schedules. */
import { describe, expect, it } from "vitest";
import { scenarioOf, simulate } from "./cluster.js";
import { CALM } from "./network.js";
import { ROOT, run } from "./run-schedules.js";

/** In `npm test`, within a minute: a machine that is slower leaves the rest out, and says how many it has played. */
const SCHEDULES = 10_000;
const SECONDS = 60;

/** Of the times between one step's end and the next's. */
function longest(stepsAt: readonly number[]): number {
  return Math.max(...stepsAt.slice(1).map((at, index) => at - (stepsAt[index] ?? 0)));
}

describe("the simulator", () => {
  it("plays a seed the same way twice", () => {
    expect(simulate(scenarioOf(7))).toEqual(simulate(scenarioOf(7)));
    expect(simulate(scenarioOf(8))).not.toEqual(simulate(scenarioOf(7)));
  });

  it(
    `finds no violation in ${SCHEDULES} schedules, or in as many as ${SECONDS} s allow`,
    { timeout: 600_000 },
    async () => {
      const { code, output } = await run(ROOT, SCHEDULES, { seconds: SECONDS });
      expect(code, output).toBe(0);
      process.stdout.write(output);
      expect(Number(/^(\d+) schedules/.exec(output)?.[1])).toBeGreaterThanOrEqual(1000);
    },
  );

  it("lets workers join at no finished step's cost, and the others at less than one step's delay", () => {
    let joins = 0;
    for (let seed = 0; seed < 40; seed++) {
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
    expect(joins).toBeGreaterThan(120);
  });
});
