import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["tests/**/*.test.ts"],
    // Benchmarks measure; the set-up test downloads 270 MB (npm run test:setup).
    exclude: ["tests/bench/**", "tests/setup/**"],
    // Processes, not threads: libtensorflow lives once per process, and a crash of its ends one file only.
    pool: "forks",
    // Training and compilation want every core that there is: side by side they would only run into their time limits.
    fileParallelism: false,
    testTimeout: 60_000,
    hookTimeout: 60_000,
  },
});
