/**
 * The aggregator's kernels beside the memory that they are bound by: bytes that each moves, over its time, as a share of what STREAM's
 * triad (McCalpin 1995) or a copy moves in the same thread, in turn, whichever is more. What is written and was not read is moved
 * twice: its line is fetched first.
 *
 *     node tests/bench/kernels.mjs [--values 25000000] [--rounds 9]
 */
import { parseArgs } from "node:util";
import { VectorArena } from "../../dist/src/optim/index.js";
import { median } from "./median.mjs";

const { values: given } = parseArgs({
  options: { values: { type: "string", default: "25000000" }, rounds: { type: "string", default: "9" } },
});
const [length, rounds] = [Number(given.values), Number(given.rounds)];

const arena = new VectorArena();
const [theta, gradient, velocity, square, key, codes] = Array.from({ length: 6 }, (_, i) =>
  arena.take(length).fill(1e-3 * (i + 1)),
);
const [t, g, v, s, k, c] = [theta, gradient, velocity, square, key, codes].map((vector) => arena.offsetOf(vector));
const { kernels } = arena;

/** What each does, and how many bytes of a value it moves. */
const subjects = [
  { name: "copy", bytes: 12, run: () => key.set(theta) },
  { name: "triad", bytes: 16, run: () => kernels.mix(t, g, k, length, 0.999, 0.001) },
  { name: "sum (add)", bytes: 12, run: () => kernels.add(k, g, k, length) },
  { name: "sum, rounded to bf16", bytes: 12, run: () => kernels.addRounded(k, g, k, length) },
  { name: "SGD in place", bytes: 20, run: () => kernels.sgd(t, g, v, t, v, length, 1, 1e-4, 1, 0.9, 1e-9) },
  {
    name: "AdamW in place",
    bytes: 28,
    run: () => kernels.adamw(t, g, v, s, t, v, s, length, 1, 1, 0.1, 0.999, 0.001, 1, 1e-8, 1e-9),
  },
  { name: "momentum update in place", bytes: 12, run: () => kernels.mix(k, t, k, length, 0.999, 0.001) },
  { name: "norm (squares)", bytes: 4, run: () => kernels.squares(g, g, length, 1, 0) },
  { name: "to bf16 (pack)", bytes: 8, run: () => kernels.pack(g, c, length) },
  { name: "from bf16 (unpack)", bytes: 10, run: () => kernels.unpack(c, g, length) },
].map((subject) => ({ ...subject, ms: [] }));

for (let round = 0; round < rounds + 2; round++) {
  for (const { run, ms } of subjects) {
    const start = performance.now();
    run();
    // The first rounds compile, and ask the system for memory.
    if (round >= 2) ms.push(performance.now() - start);
  }
}
const speeds = subjects.map(({ bytes, ms }) => (bytes * length) / median(ms) / 1e6);
const limit = Math.max(speeds[0], speeds[1]);
for (const [index, { name }] of subjects.entries()) {
  const share = ((100 * speeds[index]) / limit).toFixed(0).padStart(4);
  console.log(`${name.padEnd(26)} ${speeds[index].toFixed(1).padStart(6)} GB/s ${share}%`);
}
