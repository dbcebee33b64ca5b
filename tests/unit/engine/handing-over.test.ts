/** Results that leave a graph while it runs: to their places, in order, with what is not finite found on the way. */
import { describe, expect, it, vi } from "vitest";
import { compile, tf, type Scalar, type Tensor, type Tensor2D } from "../../../src/engine/index.js";
import { HandOver, onHandedOver } from "../../../src/native/hand-over.js";

const SIZE = 16;
type Inputs = { readonly x: Tensor2D; readonly table: Tensor };
type Results = { readonly given: Tensor[]; readonly sum: Scalar };

/** Three products, each of the one before. */
const step = ({ x }: Inputs): Results => {
  const first: Tensor2D = tf.matMul(x, x);
  const second: Tensor2D = tf.matMul(first, x);
  const third: Tensor2D = tf.matMul(second, x);
  return { given: [third, second, first], sum: tf.sum(third) };
};
const inputs = (values: readonly number[], table = 0): Inputs => ({
  x: tf.tensor2d([...values], [SIZE, SIZE]),
  table: tf.scalar(table, "int32"),
});
const values = Array.from({ length: SIZE * SIZE }, (_, index) => Math.sin(index) / SIZE);
const lengths = [0, 1, 2].map(() => SIZE * SIZE);
const compiled = (precision: "fp32" | "bf16") =>
  compile(step, inputs(values), { precision, identity: `handed ${precision}`, handsOver: ["given"], cache: null });

describe.each(["fp32", "bf16"] as const)("in %s", (precision) => {
  it("goes where it is wanted, and is empty among the results", async () => {
    const graph = await compiled(precision);
    const table = new HandOver(lengths);
    const [apart, together] = [new Float32Array(SIZE * SIZE), new Float32Array(2 * SIZE * SIZE)];
    table.aim(0, 1, apart);
    table.aim(1, 3, together);
    const results = graph.run(inputs(values, table.number));
    expect(table.landed()).toBeNull();
    expect(results.given.map(({ shape }) => shape)).toEqual([[0], [0], [0]]);
    const eager = step(inputs(values));
    const landed = [apart, together.subarray(0, SIZE * SIZE), together.subarray(SIZE * SIZE)];
    for (const [index, given] of eager.given.entries()) {
      const expected = given.dataSync() as Float32Array;
      const scale = Math.max(...expected.map(Math.abs));
      const error = Math.max(...expected.map((value, at) => Math.abs(value - landed[index][at]))) / scale;
      expect(error).toBeLessThan(precision === "fp32" ? 1e-5 : 5e-2);
    }
    // Nobody wants the next run's.
    const before = apart.slice();
    graph.run(
      inputs(
        values.map((value) => 2 * value),
        table.number,
      ),
    );
    expect(apart).toEqual(before);
  });
});

it("is told of stretch by stretch, as the graph makes them", async () => {
  const graph = await compiled("fp32");
  const heard: (readonly [number, number])[] = [];
  onHandedOver((run, stretch) => heard.push([run, stretch]));
  const table = new HandOver(lengths);
  const vector = new Float32Array(3 * SIZE * SIZE);
  table.aim(0, 3, vector);
  table.await(0, 1, 7, 0);
  table.await(1, 3, 7, 1);
  graph.run(inputs(values, table.number));
  table.landed();
  await vi.waitUntil(() => heard.length === 2);
  expect(heard).toEqual([
    [7, 1],
    [7, 0],
  ]);
  // Awaited once.
  table.aim(0, 3, vector);
  graph.run(inputs(values, table.number));
  await new Promise((resolve) => setTimeout(resolve, 50));
  expect(heard).toHaveLength(2);
});

it.each([NaN, Infinity, -Infinity])("names the first place with %d in it", async (wrong) => {
  const graph = await compiled("fp32");
  const table = new HandOver(lengths);
  table.aim(0, 3, new Float32Array(3 * SIZE * SIZE));
  graph.run(inputs([wrong, ...values.slice(1)], table.number));
  expect(table.landed()).toBe(0);
  table.aim(1, 3, new Float32Array(2 * SIZE * SIZE));
  graph.run(inputs([wrong, ...values.slice(1)], table.number));
  expect(table.landed()).toBe(1);
});

it("refuses a vector that is too short, places that are none, and a table that is not open", async () => {
  const table = new HandOver(lengths);
  expect(() => {
    table.aim(0, 3, new Float32Array(3 * SIZE * SIZE - 1));
  }).toThrow(/do not fit/);
  expect(() => {
    table.aim(0, 4, new Float32Array(4 * SIZE * SIZE));
  }).toThrow(/not called so/);
  expect(() => {
    table.await(2, 2, 0, 0);
  }).toThrow(/not called so/);
  const graph = await compiled("fp32");
  expect(() => graph.run(inputs(values, 1_000_000))).toThrow(/a table that is not open/);
  const short = new HandOver([SIZE]);
  expect(() => graph.run(inputs(values, short.number))).toThrow(/handed over to/);
});
