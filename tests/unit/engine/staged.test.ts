/** Steps that wait for other ranks: in lockstep they compute what one device computes on the whole batch. */
import { beforeAll, describe, expect, it } from "vitest";
import {
  acrossRanks,
  batchNorm,
  compile,
  conv2d,
  nodeBackend,
  syncBatchNorm,
  tf,
  type CompiledStep,
  type Scalar,
  type Tensor,
  type Tensor1D,
  type Tensor4D,
} from "../../../src/engine/index.js";
import { uniform } from "../../fixtures/drawn.js";
import { differenceOf, inLockstep, nextBlock } from "../../fixtures/lockstep.js";

const EPSILON = 1e-5;
const [BATCH, SIDE, CHANNELS] = [3, 5, 4];

type Inputs = {
  readonly x: Tensor4D;
  readonly filter: Tensor4D;
  readonly scale: Tensor1D;
  readonly shift: Tensor1D;
};
type Result = { readonly loss: Scalar; readonly gradients: Tensor[]; readonly mean: Tensor1D };
type Norm = (x: Tensor4D, scale: Tensor1D, shift: Tensor1D, relu: boolean) => ReturnType<typeof batchNorm>;

/** Two batch norms, one behind the other, and a third beside them: a loss whose gradient goes through all of them. */
function stepOf(norm: Norm): (inputs: Inputs) => Result {
  return ({ x, filter, scale, shift }) =>
    tf.tidy(() => {
      const kept: Tensor1D[] = [];
      const { value, grads } = tf.valueAndGrads((filter_, scale_, shift_) => {
        const [f, s, b] = [filter_ as Tensor4D, scale_ as Tensor1D, shift_ as Tensor1D];
        const first = norm(conv2d(x, f, 1, 1), s, b, true);
        const second = norm(conv2d(first.y, f, 1, 1), s, b, false);
        const beside = norm(conv2d(tf.square(x), f, 1, 1), b, s, false);
        kept.push(tf.keep(first.mean));
        return tf.mean<Scalar>(tf.pow(tf.add(second.y, tf.mul(beside.y, 0.5)), 3));
      })([filter, scale, shift]);
      return { loss: value, gradients: grads, mean: kept[0] };
    });
}

const wholeOf = (ranks: number) =>
  tf.tensor4d(uniform(1, ranks * BATCH * SIDE * SIDE * CHANNELS, -1, 3), [ranks * BATCH, SIDE, SIDE, CHANNELS]);
const rest = () => ({
  filter: tf.tensor4d(uniform(2, 9 * CHANNELS * CHANNELS, -1, 1), [3, 3, CHANNELS, CHANNELS]),
  scale: tf.tensor1d(uniform(3, CHANNELS, 0.5, 1.5)),
  shift: tf.tensor1d(uniform(4, CHANNELS, -1, 1)),
});
const partOf = (whole: Tensor4D, rank: number): Tensor4D =>
  tf.slice(whole, [rank * BATCH, 0, 0, 0], [BATCH, SIDE, SIDE, CHANNELS]);

const options = (ranks: number, precision: "fp32" | "bf16") =>
  ({ precision, identity: `staged ${String(ranks)}`, cache: null }) as const;

describe.each([1, 2, 3, 4, 5])("batch norm over %i ranks", (ranks) => {
  const whole = wholeOf(ranks);
  const example = { x: partOf(whole, 0), ...rest() };
  const local: Norm = (x, scale, shift, relu) => batchNorm(x, scale, shift, EPSILON, relu);
  const synced: Norm = (x, scale, shift, relu) => syncBatchNorm(x, scale, shift, EPSILON, relu, ranks);
  let step: CompiledStep<Inputs, Result>;
  let results: Result[];
  beforeAll(async () => {
    step = await compile(stepOf(synced), example, options(ranks, "fp32"));
    const runs = Array.from({ length: ranks }, (_, rank) => step.begin({ x: partOf(whole, rank), ...rest() }));
    results = inLockstep(runs, step.rounds);
  });
  const averaged = (of: (result: Result) => Tensor) => tf.div(tf.addN(results.map(of)), ranks);

  it("is that of one device: loss, statistics and gradients", () => {
    const one = stepOf(local)({ x: whole, ...rest() });
    expect(
      differenceOf(
        averaged(({ loss }) => loss),
        one.loss,
      ),
    ).toBeLessThan(1e-4);
    for (const { mean } of results) expect(differenceOf(mean, one.mean)).toBeLessThan(1e-5);
    one.gradients.forEach((gradient, index) => {
      const mine = averaged(({ gradients }) => gradients[index]);
      expect(differenceOf(mine, gradient), `gradient ${String(index)}`).toBeLessThan(1e-4);
    });
  });

  it("takes one round for layers side by side, and one for each way of layers behind each other", () => {
    // Forward: the first and the one beside it, then the second. Backward: the second and the one beside it, then the first.
    expect(step.rounds).toEqual([4 * CHANNELS, 2 * CHANNELS, 4 * CHANNELS, 2 * CHANNELS]);
  });

  it("gives the same bits again, from a rank that begins late as well", () => {
    const again = step.begin({ x: partOf(whole, ranks - 1), ...rest() });
    const others = Array.from({ length: ranks }, (_, rank) => step.begin({ x: partOf(whole, rank), ...rest() }));
    const blocks: Float32Array[] = [];
    for (const [round] of step.rounds.entries()) blocks.push(nextBlock(others, blocks[round - 1] ?? null));
    for (const [round] of step.rounds.entries()) again.show(blocks[round - 1] ?? null);
    const { loss, gradients } = again.finish(blocks.at(-1) ?? null);
    const first = results[ranks - 1];
    expect(loss.dataSync()).toEqual(first.loss.dataSync());
    gradients.forEach((gradient, index) => {
      expect(gradient.dataSync()).toEqual(first.gradients[index]?.dataSync());
    });
    for (const run of others) run.dispose();
  });
});

it("holds nothing once it is over, or given up", async () => {
  const x = partOf(wholeOf(2), 0);
  const synced: Norm = (y, scale, shift, relu) => syncBatchNorm(y, scale, shift, EPSILON, relu, 2);
  const inputs = { x, ...rest() };
  const step = await compile(stepOf(synced), inputs, options(2, "fp32"));
  const backend = nodeBackend();
  const { binding } = backend;
  let alive = 0;
  backend.binding = Object.create(binding, {
    runSavedModel: {
      value: (...given: Parameters<typeof binding.runSavedModel>) => {
        const made = binding.runSavedModel(...given);
        alive += made.length;
        return made;
      },
    },
    createTensor: {
      value: (...given: Parameters<typeof binding.createTensor>) => {
        alive++;
        return binding.createTensor(...given);
      },
    },
    deleteTensor: {
      value: (id: number) => {
        alive--;
        binding.deleteTensor(id);
      },
    },
  }) as typeof binding;
  const before = tf.memory().numTensors;
  for (let i = 0; i < 2; i++) tf.dispose(step.begin(inputs).alone());
  const givenUp = step.begin(inputs);
  givenUp.show(null);
  givenUp.dispose();
  expect(tf.memory().numTensors).toBe(before);
  expect(alive).toBe(0);
  backend.binding = binding;
});

it("runs in bfloat16 beside statistics in float32", async () => {
  const synced: Norm = (y, scale, shift, relu) => syncBatchNorm(y, scale, shift, EPSILON, relu, 2);
  const inputs = { x: partOf(wholeOf(2), 0), ...rest() };
  const [low, full] = await Promise.all(
    (["bf16", "fp32"] as const).map((precision) => compile(stepOf(synced), inputs, options(2, precision))),
  );
  const [one, other] = [low, full].map((step) => step?.begin(inputs).alone().loss.dataSync()[0] ?? NaN);
  expect(Math.abs(one - other)).toBeLessThan(0.05 * Math.abs(other));
});

it("cannot wait for anybody where it is not compiled", () => {
  expect(() => acrossRanks(tf.tensor1d([1]), 2)).toThrow("only a compiled step can wait for other ranks");
});
