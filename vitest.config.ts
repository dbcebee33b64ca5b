import { defineConfig } from "vitest/config";

/** Two files at a time: most wait for processes to start, one after another; more at once would run into their time limits. */
const maxWorkers = 2;
/** These fill all cores by themselves. */
const ALONE = ["tests/simulation/**/*.test.ts", "tests/e2e/chaos.test.ts"];

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
          name: "unit",
          include: ["tests/unit/**/*.test.ts"],
          // One process for many files: loading TensorFlow takes longer than most of them.
          isolate: false,
          maxWorkers,
          sequence: { groupOrder: 0 },
        },
      },
      {
        extends: true,
        test: {
          name: "processes",
          include: ["tests/{integration,e2e}/**/*.test.ts"],
          exclude: ALONE,
          maxWorkers,
          sequence: { groupOrder: 1 },
        },
      },
      {
        extends: true,
        test: { name: "alone", include: ALONE, fileParallelism: false, sequence: { groupOrder: 2 } },
      },
    ],
  },
});
