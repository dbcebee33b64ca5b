/** Encoders of the user's own: what is made of a file, and one clear line for each mistake in it. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, describe, expect, it } from "vitest";
import { resolveConfig } from "../../../src/config/index.js";
import { compile, tf, type Tensor, type Tensor2D, type Tensor4D } from "../../../src/engine/index.js";
import { OWN_BATCH, encoderOf, initialParameters, type Encoder } from "../../../src/models/index.js";
import { moco, normalise } from "../../../src/objectives/index.js";

const folder = mkdtempSync(join(tmpdir(), "tandem-encoders-"));
afterAll(() => {
  rmSync(folder, { recursive: true, force: true });
});

const SIZE = 8;
const BATCH = 4;
let count = 0;

/** A file with this content. */
function file(content: string, extension = "mjs"): string {
  const path = join(folder, `${String(count++)}.${extension}`);
  writeFileSync(path, content);
  return path;
}

async function load(path: string, more: Record<string, unknown> = {}): Promise<Encoder> {
  const sizes = { "data.imageSize": SIZE, "data.decodeSize": SIZE, "model.embeddingDim": 16 };
  return encoderOf(await resolveConfig({ overrides: { ...sizes, "model.encoder": path, ...more } }));
}

type Inputs = {
  readonly query: Tensor[];
  readonly key: Tensor[];
  readonly queryViews: Tensor4D;
  readonly keyViews: Tensor4D;
  readonly queue: Tensor;
};

/** Loss, keys and gradients of a step, eagerly and compiled. */
async function bothWays(encoder: Encoder): Promise<readonly [readonly Tensor[], readonly Tensor[]]> {
  const parameters = (seed: number) => {
    const values = initialParameters(encoder.layout, seed);
    return encoder.layout.parameters.map(({ offset, size, shape }) =>
      tf.tensor(values.slice(offset, offset + size), [...shape]),
    );
  };
  const views = (seed: number): Tensor4D => tf.randomNormal([BATCH, SIZE, SIZE, 3], 0, 1, "float32", seed);
  const inputs: Inputs = {
    query: parameters(1),
    key: parameters(2),
    queryViews: views(3),
    keyViews: views(4),
    queue: normalise(tf.randomNormal([32, 16], 0, 1, "float32", 5)),
  };
  const step = ({ queue, ...given }: Inputs): Tensor[] =>
    tf.tidy(() => {
      const result = moco(0.2).step({
        ...given,
        encoder,
        queue: queue as Tensor2D,
        labels: null,
        temperature: 0.2,
        batchNorm: OWN_BATCH,
        keyShuffle: null,
        exchanged: null,
      });
      return [result.loss, result.keys ?? expect.fail("no keys"), ...result.gradients, ...result.queryStatistics];
    });
  const compiled = await compile(step, inputs, { precision: "fp32", identity: "own", cache: null });
  return [step(inputs), compiled.run(inputs)];
}

const example = (name: string) => fileURLToPath(new URL(`../../../examples/${name}`, import.meta.url));

describe.each(["own-encoder.js", "layers-model.js"])("examples/%s", (name) => {
  it("gives the same loss, keys, gradients and statistics compiled as eagerly", async () => {
    const encoder = await load(example(name));
    const [eager, compiled] = await bothWays(encoder);
    expect(eager).toHaveLength(2 + encoder.layout.parameters.length + encoder.layout.buffers.length);
    eager.forEach((tensor, index) => {
      const norm = tf.norm(tensor).dataSync()[0];
      expect(tf.norm(tf.sub(tensor, compiled[index])).dataSync()[0]).toBeLessThanOrEqual(1e-4 * norm + 1e-6);
    });
    // Each parameter has a part in the loss, but for biases that a batch norm undoes.
    const still = encoder.layout.parameters.filter((_, i) => tf.norm(eager[2 + i]).dataSync()[0] === 0);
    expect(still).toEqual([]);
  });

  it("has the same parameters each time that it is loaded", async () => {
    const [first, second] = [await load(example(name)), await load(example(name))];
    expect(second.layout).toEqual(first.layout);
  });
});

describe("a tf.LayersModel", () => {
  it("computes with the parameters that it is given, as it would with weights of its own", async () => {
    const path = file(
      `export default ({ tf }) => tf.sequential({ layers: [
         tf.layers.flatten({ inputShape: [${String(SIZE)}, ${String(SIZE)}, 3] }),
         tf.layers.dense({ units: 5 })] });`,
    );
    const encoder = await load(path);
    const names = encoder.layout.parameters.slice(0, 2).map((parameter) => parameter.name);
    expect(names).toEqual(["layers.1.Dense.kernel", "layers.1.Dense.bias"]);
    const [kernel, bias] = [tf.randomNormal([SIZE * SIZE * 3, 5]), tf.randomNormal([5])];
    const images: Tensor4D = tf.randomNormal([2, SIZE, SIZE, 3]);
    const values = new Map<string, Tensor>([
      ["layers.1.Dense.kernel", kernel],
      ["layers.1.Dense.bias", bias],
    ]);
    const context = {
      parameter: <T extends Tensor>(name: string) => values.get(name) as T,
      normalise: () => expect.fail("there is no batch norm"),
    };
    const expected = tf.add(tf.matMul(tf.reshape(images, [2, -1]), kernel), bias);
    const difference = tf.max(tf.abs(tf.sub(encoder.features(context, images), expected)));
    expect(difference.dataSync()[0]).toBeLessThan(1e-4);
  });

  it.each([
    ["tf.layers.dropout({ rate: 0.5 })", /the layer dropout_\w+ of the model in .* draws random numbers of its own/],
    ["tf.layers.batchNormalization({})", /has epsilon 0.001, and Tandem's batch norm has 1e-5: give it epsilon: 1e-5/],
    ["tf.layers.batchNormalization({ axis: 1, epsilon: 1e-5 })", /normalises another axis than the last/],
    ["tf.layers.reshape({ targetShape: [2, 24] })", /gives \[null, 2, 24\] where \[null, D\] is wanted/],
  ])("with %s is refused", async (layer, message) => {
    const path = file(
      `export default ({ tf, imageSize }) => tf.sequential({ layers: [
         tf.layers.conv2d({ inputShape: [imageSize, imageSize, 3], filters: 3, kernelSize: 1, strides: 2 }), ${layer}
         ${layer.includes("reshape") ? "" : ", tf.layers.flatten()"}] });`,
    );
    await expect(load(path)).rejects.toThrow(message);
  });

  it("for images of another size is refused", async () => {
    const path = file(
      `export default ({ tf }) => tf.sequential({ layers: [tf.layers.flatten({ inputShape: [9, 9, 3] })] });`,
    );
    await expect(load(path)).rejects.toThrow(/takes \[null, 9, 9, 3\], and the run's images are \[null, 8, 8, 3\]/);
  });
});

/** A file whose encoder pools its images to `[N, 3]` and multiplies them by a matrix, but for what is said otherwise. */
function pooling({
  parameters = 'declare.parameter("w", [3, 4], "dense");',
  features = 'return tf.matMul(tf.mean(images, [1, 2]), parameter("w"));',
  featureDim = "4",
} = {}): string {
  return file(`export default {
    featureDim: ${featureDim},
    parameters(declare) { ${parameters} },
    features({ tf, parameter, batchNorm }, images) { ${features} },
  };`);
}

describe("a file", () => {
  it("may be TypeScript", async () => {
    const path = file(
      `interface Declare { parameter(name: string, shape: readonly number[], role: string): void }
       export default ({ tf }: any) => ({
         featureDim: 4 as number,
         parameters(declare: Declare): void { declare.parameter("w", [3, 4], "dense"); },
         features({ parameter }: any, images: any) { return tf.matMul(tf.mean(images, [1, 2]), parameter("w")); },
       });`,
      "ts",
    );
    const { layout, featureDim } = await load(path);
    expect(layout.parameters.map(({ name }) => name)).toEqual(["w", "head.0.weight", "head.0.bias", "head.2.weight", "head.2.bias"]); // prettier-ignore
    expect(featureDim).toBe(4);
  });

  it("may freeze a parameter, and say where one starts", async () => {
    const path = pooling({
      parameters: 'declare.parameter("w", [3, 4], "dense", { frozen: true, start: { kind: "uniform", bound: 1e-3 } });',
    });
    const { layout } = await load(path);
    expect(layout.parameters[0]).toMatchObject({ name: "w", frozen: true });
    const values = initialParameters(layout, 0).slice(0, 12);
    expect(Math.max(...values.map(Math.abs))).toBeLessThanOrEqual(1e-3);
    expect(values.some((value) => value !== 0)).toBe(true);
  });
});

describe("a mistake in the file is one line:", () => {
  const cases: readonly [string, () => string, string, RegExp][] = [
    ["it is missing", () => join(folder, "none.js"), "ENCODER_MISSING", /cannot read the encoder .*none.js \(ENOENT\)/],
    ["it throws on load", () => file("throw new Error('of its own\\nsecond line')"), "ENCODER_LOAD", /cannot be loaded: of its own$/],
    ["it has a syntax error", () => file("export default {"), "ENCODER_LOAD", /cannot be loaded/],
    ["it exports nothing", () => file("export const encoder = 1;"), "ENCODER_EXPORT", /exports nothing by default/],
    ["it exports something else", () => file("export default 7;"), "ENCODER_EXPORT", /gives neither a tf.LayersModel nor/],
    ["its function throws", () => file("export default () => { null.x; }"), "ENCODER_FAILS", /fails when it is called: Cannot read/],
    ["it has no length", () => pooling({ featureDim: "undefined" }), "ENCODER_EXPORT", /with a whole number/],
    ["it throws when it is called", () => pooling({ features: "images.nothing();" }), "ENCODER_FAILS", /fails when it is called: images.nothing is not a function/],
    ["wrong rank", () => pooling({ features: "return tf.mul(images, tf.sum(parameter('w')));" }), "ENCODER_SHAPE", /gives float32 of shape \[2, 8, 8, 3\] where float32 features of shape \[2, 4\] are wanted/],
    ["wrong width", () => pooling({ featureDim: "5" }), "ENCODER_SHAPE", /gives float32 of shape \[2, 4\] .* \[2, 5\]/],
    ["no tensor", () => pooling({ features: "return 5;" }), "ENCODER_SHAPE", /gives number where/],
    ["wrong dtype", () => pooling({ features: "return tf.zeros([2, 4], 'int32');" }), "ENCODER_SHAPE", /gives int32 of shape/],
    ["NaN", () => pooling({ features: "return tf.log(tf.sub(0, tf.square(tf.matMul(tf.mean(images, [1, 2]), parameter('w')))));" }), "ENCODER_NOT_FINITE", /NaN or infinite features/],
    ["a parameter that it has not declared", () => pooling({ features: "return parameter('v');" }), "ENCODER_UNDECLARED", /asks for the parameter v, which it has not declared/],
    ["a batch norm that it has not declared", () => pooling({ features: "return batchNorm('n', images);" }), "ENCODER_UNDECLARED", /asks for the batch norm n, which/],
    ["a parameter that it does not use", () => pooling({ parameters: "declare.parameter('w', [3, 4], 'dense'); declare.parameter('b', [4], 'dense-bias');" }), "ENCODER_IDLE", /do not depend on b: use it, declare it frozen/],
    ["no parameter", () => pooling({ parameters: "" }), "ENCODER_PARAMETERS", /declares no parameter/],
    ["a parameter twice", () => pooling({ parameters: "declare.batchNorm('w', 3); declare.parameter('w.bias', [3], 'dense-bias');" }), "ENCODER_PARAMETERS", /declares w.bias twice/],
    ["an unknown role", () => pooling({ parameters: "declare.parameter('w', [3, 4], 'matrix');" }), "ENCODER_PARAMETERS", /w with the role matrix: choose one of convolution, dense/],
    ["a shape that is none", () => pooling({ parameters: "declare.parameter('w', [3, -4], 'dense');" }), "ENCODER_PARAMETERS", /w with the shape \[3,-4\]/],
    ["a weight of another rank", () => pooling({ parameters: "declare.parameter('w', [3], 'dense');" }), "ENCODER_PARAMETERS", /w as dense with 1 axes, and such a weight has 2/],
    ["a name of the head's", () => pooling({ parameters: "declare.parameter('head.0.weight', [3, 4], 'dense');" }), "ENCODER_PARAMETERS", /the name of the head behind it/],
  ]; // prettier-ignore

  it.each(cases)("%s", async (_, path, code, message) => {
    const error: unknown = await load(path()).catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ name: "UserError", code });
    expect((error as Error).message).toMatch(message);
    expect((error as Error).message).not.toContain("\n");
  });

  it("it is not the run's", async () => {
    const loading = load(pooling(), { "model.encoderSha256": "0".repeat(64) });
    await expect(loading).rejects.toMatchObject({ code: "ENCODER_DIFFERS" });
    await expect(loading).rejects.toThrow(/is not the run's: its sha256 is [\da-f]{12}…, the run's 000000000000…/);
  });
});
