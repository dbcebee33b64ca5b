import { defineConfig } from "vitest/config";

/** Long, or with figures that mean something only where nothing else runs: these have the machine to themselves. */
const ALONE = ["tests/simulation/**/*.test.ts", "tests/integration/**/*.test.ts", "tests/e2e/chaos.test.ts"];

export default defineConfig({
  test: {
    // Processes, not threads: libtensorflow lives once per process, and a crash of its ends one file only.
    pool: "forks",
    testTimeout: 60_000,
    hookTimeout: 60_000,
    projects: [
      {
        extends: true,
        test: {
          name: "together",
          include: ["tests/**/*.test.ts"],
          // Benchmarks measure; the set-up test downloads 270 MB (npm run test:setup).
          exclude: ["tests/bench/**", "tests/setup/**", ...ALONE],
          // Most of them wait for processes to start, one after another; more at once would run into their time limits.
          maxWorkers: 2,
          sequence: { groupOrder: 0 },
        },
      },
      {
        extends: true,
        test: { name: "alone", include: ALONE, fileParallelism: false, sequence: { groupOrder: 1 } },
      },
    ],
  },
});
