/** `npm run test:k8s`: a real cluster on this machine, one test after the other. */
import { defineConfig } from "vitest/config";

export default defineConfig({
  test: { include: ["tests/k8s/**/*.test.ts"], fileParallelism: false, testTimeout: 300_000, hookTimeout: 600_000 },
});
