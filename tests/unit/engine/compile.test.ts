/** Steps recorded and run as graphs: the same numbers, and one clear line where a step does not fit into a graph. */
import { mkdtempSync, readFileSync, readdirSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import {
  CannotCompile,
  compile,
  conv2d,
  nodeBackend,
  relu,
  tf,
  type Tensor,
  type Tensor2D,
  type Tensor4D,
} from "../../../src/engine/index.js";

const folder = mkdtempSync(join(tmpdir(), "tandem-graphs-"));
afterAll(() => {
  rmSync(folder, { recursive: true, force: true });
});

const FP32 = { precision: "fp32", identity: "test", cache: null } as const;
type Pair = { readonly a: Tensor2D; readonly rest: { readonly b: Tensor2D; readonly none: null } };
const pair = (): Pair => ({
  a: tf.tensor2d([1, 2, 3, 4, 5, 6], [2, 3]),
  rest: { b: tf.tensor2d([1, 0, 0, 2, 1, 1], [3, 2]), none: null },
});
const product = ({ a, rest }: Pair) =>
  tf.tidy(() => ({ product: tf.matMul(a, rest.b), sums: [tf.sum(a), tf.sum(a, 0)] }));

describe("a compiled step", () => {
  it("takes and gives tensors in the same nested form, whatever the order of keys", async () => {
    const step = await compile(product, pair(), FP32);
    const other = { rest: { none: null, b: tf.tensor2d([1, 1, 1, 1, 1, 1], [3, 2]) }, a: tf.ones([2, 3]) } as Pair;
    const { product: result, sums } = step.run(other);
    expect(result.arraySync()).toEqual([[3, 3], [3, 3]]); // prettier-ignore
    expect(sums.map((sum) => sum.arraySync())).toEqual([6, [2, 2, 2]]);
    step.dispose();
  });

  it("gives an input back, a constant, and one value twice", async () => {
    const x = tf.tensor1d([1, 2]);
    const step = await compile(
      ({ x }: { x: Tensor }) => tf.tidy(() => [tf.clone(x), tf.scalar(7), tf.neg(x)]),
      { x },
      FP32,
    );
    const results = step.run({ x: tf.tensor1d([3, 4]) }).map((tensor) => tensor.arraySync());
    expect(results).toEqual([[3, 4], 7, [-3, -4]]);
  });

  it("leaves no tensor behind, neither compiling nor running", async () => {
    const example = pair();
    await compile(product, example, FP32).then((step) => {
      step.dispose();
    });
    const before = tf.memory().numTensors;
    const step = await compile(product, example, FP32);
    for (let i = 0; i < 3; i++) tf.dispose(step.run(example));
    step.dispose();
    expect(tf.memory().numTensors).toBe(before);
  });

  it("leaves the binding as it was, also where the step throws", async () => {
    const { binding } = nodeBackend();
    const failing = () => {
      throw new RangeError("of the step's own");
    };
    await expect(compile(failing, pair(), FP32)).rejects.toThrow(RangeError);
    expect(nodeBackend().binding).toBe(binding);
    expect(tf.tidy(() => tf.add(1, 2).dataSync()[0])).toBe(3);
  });
});

describe("a step that does not fit into a graph is refused with a line that names the operation:", () => {
  const x = tf.tensor1d([1, 2, 3]);
  const outside = tf.tidy(() => tf.keep(tf.square(x)));
  let count = 0;
  const cases: readonly [string, (inputs: { x: typeof x }) => typeof x, RegExp][] = [
    [
      "a value that is read back",
      ({ x }) => tf.mul(x, tf.sum(x).dataSync()[0]),
      /result of Sum is read back .* after Sum/,
    ],
    ["a tensor from outside", ({ x }) => tf.mul(x, outside), /^Mul uses a tensor that is no input .*: pass it in$/],
    [
      "a tensor from outside that waits to be written",
      ({ x }) => tf.add(x, lazy),
      /no input of the step.*: pass it in$/,
    ],
    [
      "a value that changes by itself",
      ({ x }) => tf.add(x, count++),
      /^Add is given a value that changes .*: pass it in/,
    ],
    ["random numbers of its own", ({ x }) => tf.add(x, tf.randomNormal([3])), /^Add is given a value that changes/],
    ["an operation that draws", ({ x }) => tf.mul(x, tf.cast(tf.multinomial(x, 3), "float32")), /^Multinomial draws/],
  ];
  const lazy = tf.tensor1d([4, 5, 6]);

  it.each(cases)("%s", async (_, step, message) => {
    const compiled = compile((inputs: { x: typeof x }) => tf.tidy(() => step(inputs)), { x }, FP32);
    await expect(compiled).rejects.toThrow(CannotCompile);
    await expect(compiled).rejects.toThrow(message);
  });

  it("an operation that TensorFlow does not take", async () => {
    // Eager execution infers the dtype that the graph would have to name.
    const square = () => nodeBackend().executeMultipleOutputs("Square", [], [x], 1)[0];
    await expect(compile(() => square(), { x }, FP32)).rejects.toThrow(/^Square: .*No attr named 'T'/);
  });
});

describe("mixed precision", () => {
  type Images = { readonly x: Tensor4D; readonly filter: Tensor4D };
  const draw = (shape: [number, number, number, number], seed: number): Tensor4D =>
    tf.randomNormal(shape, 0, 1, "float32", seed);
  const network = ({ x, filter }: Images) =>
    tf.tidy(() => {
      const { value, grads } = tf.valueAndGrads((f: Tensor, y: Tensor) => tf.mean(tf.square(relu(conv2d(y as Tensor4D, f as Tensor4D, 1, 1)))))([filter, x]); // prettier-ignore
      return { value, filter: grads[0], x: grads[1] };
    });
  const relativeError = (a: Tensor4D | Tensor2D, b: typeof a) =>
    tf.tidy(() => tf.div(tf.norm(tf.sub(a, b)), tf.norm(b)).dataSync()[0]);

  // Channels on either side of where the filter's gradient becomes products of matrices.
  it.each([8, 128])(
    "computes convolutions of %i channels and their gradients to 2e-2, in float32 outside",
    async (channels) => {
      const inputs = { x: draw([4, 8, 8, channels], 1), filter: draw([3, 3, channels, 16], 2) };
      const exact = network(inputs);
      const step = await compile(network, inputs, { ...FP32, precision: "bf16" });
      const low = step.run(inputs);
      expect(low.value.dtype).toBe("float32");
      expect(Math.abs(low.value.dataSync()[0] / exact.value.dataSync()[0] - 1)).toBeLessThan(2e-2);
      for (const name of ["filter", "x"] as const) {
        const error = relativeError(low[name] as Tensor4D, exact[name] as Tensor4D);
        expect(error, name).toBeLessThan(2e-2);
        expect(error, name).toBeGreaterThan(1e-5); // it is another precision
      }
    },
  );

  it.each([32, 64])("computes strided convolutions of %i channels likewise", async (channels) => {
    const strided = ({ x, filter }: Images) =>
      tf.tidy(() => {
        const loss = (f: Tensor) => tf.mean(tf.square(conv2d(x, f as Tensor4D, 2, 1)));
        return tf.grad(loss)(filter);
      });
    const inputs = { x: draw([4, 8, 8, channels], 3), filter: draw([3, 3, channels, 16], 4) };
    const step = await compile(strided, inputs, { ...FP32, precision: "bf16" });
    const error = relativeError(step.run(inputs) as Tensor4D, strided(inputs) as Tensor4D);
    expect(error).toBeLessThan(2e-2);
    expect(error).toBeGreaterThan(1e-5);
  });
});

describe("kept graphs", () => {
  const options = { precision: "fp32", identity: "kept", cache: folder } as const;
  const graphs = () => readdirSync(folder).filter((name) => !name.startsWith("."));

  it("are used again for the same identity and shapes, and for no other", async () => {
    expect((await compile(product, pair(), options)).cached).toBe(false);
    const again = await compile(product, pair(), options);
    expect(again.cached).toBe(true);
    expect(again.run(pair()).product.arraySync()).toEqual(product(pair()).product.arraySync());
    expect((await compile(product, pair(), { ...options, identity: "another" })).cached).toBe(false);
    expect((await compile(product, pair(), { ...options, precision: "bf16" })).cached).toBe(false);
    const wider = { ...pair(), a: tf.ones([4, 3]) } as Pair;
    expect((await compile(product, wider, options)).cached).toBe(false);
  });

  it("may be written by several workers at once while others load them", async () => {
    const cache = join(folder, "busy");
    const ask = () => compile(product, pair(), { ...options, cache });
    for (let round = 0; round < 5; round++) {
      const steps = await Promise.all([ask(), ask(), ask()]);
      for (const step of steps) expect(step.run(pair()).sums[0].arraySync()).toBe(21);
      for (const name of readdirSync(cache)) rmSync(join(cache, name, "step.json"));
    }
    rmSync(cache, { recursive: true });
  });

  it("are recorded anew where one is damaged", async () => {
    for (const name of graphs()) {
      const path = join(folder, name, "saved_model.pb");
      const bytes = readFileSync(path);
      bytes[bytes.length >> 1] ^= 255;
      writeFileSync(path, bytes);
    }
    const step = await compile(product, pair(), options);
    expect(step.cached).toBe(false);
    expect((await compile(product, pair(), options)).cached).toBe(true);
  });

  it("are recorded anew also where only the meaning of the outputs is damaged", async () => {
    for (const name of graphs()) {
      const path = join(folder, name, "step.json");
      const stored = JSON.parse(readFileSync(path, "utf8")) as { outputShape: { product: number; sums: number[] } };
      stored.outputShape.sums.reverse();
      writeFileSync(path, JSON.stringify(stored));
    }
    const step = await compile(product, pair(), options);
    expect(step.cached).toBe(false);
    expect(step.run(pair()).sums[0].arraySync()).toBe(21);
  });

  it("are at most 64; the one unused for longest goes first", async () => {
    for (const name of graphs()) rmSync(join(folder, name), { recursive: true });
    const x = tf.scalar(1);
    const square = ({ x }: { x: Tensor }) => tf.square(x);
    const known = new Set<string>();
    for (let i = 0; i <= 64; i++) {
      await compile(square, { x }, { ...options, identity: String(i) });
      // Two may come within one tick of the file system's clock.
      for (const name of graphs().filter((own) => !known.has(own))) {
        known.add(name);
        utimesSync(join(folder, name), i + 1, i + 1);
      }
    }
    expect(graphs()).toHaveLength(64);
    expect((await compile(square, { x }, { ...options, identity: "64" })).cached).toBe(true);
    expect((await compile(square, { x }, { ...options, identity: "0" })).cached).toBe(false);
  });

  it("need no place on disk to run", async () => {
    const blocked = join(folder, "file");
    writeFileSync(blocked, "no folder");
    const temporary = () => readdirSync(tmpdir()).filter((name) => name.startsWith("tandem-graphs-"));
    const before = temporary();
    const step = await compile(product, pair(), { ...options, cache: join(blocked, "graphs") });
    expect(step.cached).toBe(false);
    expect(step.run(pair()).sums[0].arraySync()).toBe(21);
    expect(temporary()).toEqual(before);
  });
});
