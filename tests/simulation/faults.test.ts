/** Faults planted into the compiled program, one at a time: the simulator finds each. */
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, it } from "vitest";
import { MUTATIONS } from "./mutations.js";
import { ROOT, run } from "./run-schedules.js";

/** Enough for every planted fault to show; the first that shows ends the search. */
const SCHEDULES = 10_000;

const folder = mkdtempSync(join(tmpdir(), "tandem-mutations-"));
afterAll(() => {
  rmSync(folder, { recursive: true, force: true });
});

it.each(MUTATIONS)("$fault", { timeout: 300_000 }, async ({ fault, file, find, replace, from }) => {
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
  const { code, output } = await run(copy, SCHEDULES, { from });
  expect(code, output).toBe(1);
  expect(output).toContain("FAILED: npm run schedules -- --seed");
});
