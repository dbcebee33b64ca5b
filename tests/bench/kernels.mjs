/**
 * The aggregator's kernels beside the memory that they are bound by: bytes that each moves, over its time, as a share of what STREAM's
 * triad (McCalpin 1995) or a copy moves in the same thread, in turn, whichever is more. What is written and was not read is moved
 * twice: its line is fetched first.
 *
 *     node tests/bench/kernels.mjs [--values 25000000] [--rounds 9]
 */
import { parseArgs } from "node:util";
import { differencesLength, VectorArena } from "../../dist/src/optim/index.js";
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

// Of each value's code: what a step changes, see the recording of `bench exchange`.
const [next, back] = [arena.take(length), arena.take(length)];
const coded = arena.take(differencesLength(length));
for (let i = 0; i < length; i++) {
  theta[i] = 0.02 * Math.sin(i * 1.7);
  next[i] = theta[i] + 1.7e-5 * Math.sin(i * 2.3);
}
arena.round(theta);
const codes0 = arena.packed(theta);
let end = 0;
const coding = [
  { name: "differences (encode)", run: () => (end = arena.encode(next, codes, coded, 0)) },
  { name: "differences (decode)", run: () => arena.decode(theta, coded, 0, end, back) },
].map((subject) => ({ ...subject, ms: [] }));
for (let round = 0; round < rounds + 2; round++) {
  codes.set(codes0);
  for (const { run, ms } of coding) {
    const start = performance.now();
    run();
    if (round >= 2) ms.push(performance.now() - start);
  }
}

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
for (const { name, ms } of coding) {
  const speed = (2 * length) / median(ms) / 1e6;
  console.log(
    `${name.padEnd(26)} ${speed.toFixed(1).padStart(6)} GB/s of codes, ${(end / 2 / length).toFixed(2)} of them left`,
  );
}
const [encode, decode] = coding.map(({ ms }) => (2 * length) / (median(ms) / 1000));
const share = end / 2 / length;
const breakEven = (1 - share) / (1 / encode + 1 / decode);
console.log(
  `differences are faster than whole codes below ${((8 * breakEven) / 1e9).toFixed(1)} Gbit/s for each worker`,
);
