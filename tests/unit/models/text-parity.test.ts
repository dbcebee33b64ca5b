/** A small text Transformer against PyTorch in float64 (tests/fixtures/text_parity.py made the numbers), eagerly and compiled. */
import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { compile, tf, type Tensor, type Tensor2D } from "../../../src/engine/index.js";
import { textTransformer, type ForwardContext, type Texts } from "../../../src/models/index.js";
import { relativeError, TOLERANCE, uniform, type Sample } from "../../fixtures/drawn.js";

interface Parity {
  readonly vocabulary: number;
  readonly maxLength: number;
  readonly width: number;
  readonly depth: number;
  readonly heads: number;
  readonly ids: number[][];
  readonly lengths: readonly number[];
  /** p of the case that has it */
  readonly dropout: number;
  readonly cases: readonly {
    readonly pooling: "mean" | "first";
    readonly dropout: boolean;
    readonly features: Sample;
    readonly gradients: Readonly<Record<string, Sample>>;
  }[];
}

const parity = JSON.parse(readFileSync(new URL("../../fixtures/text_parity.json", import.meta.url), "utf8")) as Parity;

type Inputs = { readonly parameters: Tensor[]; readonly texts: Texts; readonly weights: Tensor2D };

describe.each(parity.cases)("a text Transformer with features of its $pooling, dropout $dropout", (given) => {
  const { pooling, features, gradients } = given;
  const encoder = textTransformer(parity, { ...parity, pooling, head: "linear", embeddingDim: 8 });
  const names = Object.keys(gradients);
  // The head is not part of the features.
  const specs = encoder.layout.parameters.slice(0, names.length);
  const bounds = {
    token: () => 1,
    dense: (shape: readonly number[]) => 2 * shape[0] ** -0.5,
    "dense-bias": () => 0.1,
    "norm-scale": () => 0.2,
    "norm-shift": () => 0.1,
    convolution: () => expect.fail("there is none"),
  };
  const length = parity.ids[0].length;
  const places = 1 + 2 * parity.depth;
  const factors = () =>
    uniform(2, parity.ids.length * places * parity.width, 0, 1).map((draw) => (draw < parity.dropout ? 0 : 1 / (1 - parity.dropout))); // prettier-ignore
  const inputs: Inputs = {
    parameters: specs.map(({ role, shape, size }, index) => {
      const [bound, centre] = [bounds[role](shape), role === "norm-scale" ? 1 : 0];
      return tf.tensor(uniform(1000 + index, size, centre - bound, centre + bound), [...shape]);
    }),
    texts: {
      ids: tf.tensor2d(parity.ids, undefined, "int32"),
      mask: tf.tensor2d(parity.lengths.map((count) => Array.from({ length }, (_, i) => (i < count ? 1 : 0)))),
      dropout: given.dropout ? tf.tensor2d(factors(), [parity.ids.length, places * parity.width]) : null,
    },
    weights: tf.tensor2d(uniform(1, parity.ids.length * parity.width, -1, 1), [parity.ids.length, parity.width]),
  };
  const step = ({ parameters, texts, weights }: Inputs): Tensor[] => {
    const forward = (values: readonly Tensor[]) => {
      const context: ForwardContext = {
        parameter: <T extends Tensor>(name: string) => values[specs.findIndex((spec) => spec.name === name)] as T,
        normalise: () => expect.fail("there is no batch norm"),
      };
      return encoder.features(context, texts);
    };
    const loss = (...values: Tensor[]) => tf.sum(tf.mul(forward(values), weights));
    return tf.tidy(() => [forward(parameters), ...tf.grads(loss)(parameters)]);
  };

  it("has the parameters in their order", () => {
    expect(specs.map(({ name }) => name)).toEqual(names);
  });

  it.each(["eager", "compiled"])("agrees in features and every gradient, %s", async (mode) => {
    const options = { precision: "fp32", identity: "text", cache: null } as const;
    const results = mode === "eager" ? step(inputs) : (await compile(step, inputs, options)).run(inputs);
    expect(relativeError(results[0], features)).toBeLessThan(TOLERANCE);
    const errors = names.map((name, index) => ({ name, error: relativeError(results[1 + index], gradients[name]) }));
    expect(errors.filter(({ error }) => !(error < TOLERANCE))).toEqual([]);
  });
});
