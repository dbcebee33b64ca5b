import { defineConfig } from "vitest/config";

/** The slow test of set-up: it downloads and unpacks libtensorflow more than once (npm run test:setup). */
export default defineConfig({
  test: { include: ["tests/setup/**/*.test.ts"], pool: "forks", testTimeout: 600_000 },
});
