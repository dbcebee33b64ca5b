/**
 * One step of each method over W ranks that show each other embeddings, with SyncBN statistics too, against PyTorch in float64 with
 * the whole batch in one graph (tests/fixtures/methods_parity.py made the numbers).
 */
import { readFileSync } from "node:fs";
import { beforeAll, describe, expect, it } from "vitest";
import { PRESETS } from "../../../src/config/presets.js";
import { inverseOf } from "../../../src/data/permutation.js";
import { compile, tf, type Tensor, type Tensor4D } from "../../../src/engine/index.js";
import { OWN_BATCH, resnet } from "../../../src/models/index.js";
import {
  normalise,
  objectiveOf,
  type Objective,
  type ShowInput,
  type StepInput,
  type StepResult,
} from "../../../src/objectives/index.js";
import { lockstepOf } from "../../../worker/rank-step.js";
import { inLockstep } from "../../fixtures/lockstep.js";
import { parametersDrawn, relativeError, TOLERANCE, uniform, type Sample } from "../../fixtures/drawn.js";

interface Fixture {
  readonly batch: number;
  readonly side: number;
  readonly dimension: number;
  readonly hidden: number;
  readonly queue: number;
  readonly cases: readonly {
    /** which of the script's draws it is */
    readonly draw: number;
    readonly method: "simclr" | "supcon" | "moco-v3" | "moco-v2";
    readonly ranks: number;
    readonly temperature: number;
    readonly form: "out" | "in";
    /** batch norm is of the global batch */
    readonly sync: boolean;
    readonly labels: number[];
    /** which sample's key view stands at each place when shuffling BN across the ranks */
    readonly order: number[];
    readonly loss: number;
    readonly gradients: Readonly<Record<string, Sample>>;
  }[];
}

/** A type, since tfjs takes no interface for a container of tensors. */
type Flat<T> = { [Name in keyof T]: T[Name] };

const path = new URL("../../fixtures/methods_parity.json", import.meta.url);
const { batch, side, dimension, hidden, queue: queueSize, cases } = JSON.parse(readFileSync(path, "utf8")) as Fixture;

/** Ranks that stand still with their forward pass until all have shown, too: always with SyncBN, by choice where they show what they go on with. */
const ways = cases.flatMap((given) => {
  const showsOwn = given.method === "simclr" || given.method === "supcon";
  return (given.sync ? [true] : showsOwn ? [false, true] : [false]).map((stands) => ({ ...given, stands }));
});

describe.each(ways)(
  "$method (L_$form) over $ranks ranks (SyncBN: $sync, standing still: $stands) agrees with one device",
  (given) => {
    const { method, ranks, temperature, form } = given;
    const streams = 10_000 * (given.draw + 1);
    const isV3 = method === "moco-v3";
    const encoder = resnet({
      encoder: "resnet-tiny",
      stem: "3x3",
      head: isV3 ? "mlp-bn" : "mlp",
      predictor: isV3,
      hiddenDim: hidden,
      embeddingDim: dimension,
    });
    const views = (stream: number) => {
      const values = uniform(streams + stream, ranks * batch * side * side * 3, -2, 2);
      return tf.tensor4d(values, [ranks * batch, side, side, 3]);
    };
    const rowsOf = (whole: Tensor4D, rank: number): Tensor4D =>
      tf.slice(whole, [rank * batch, 0, 0, 0], [batch, side, side, 3]);
    const labelsOf = (rank: number) => tf.tensor1d(given.labels.slice(rank * batch, (rank + 1) * batch), "float32");
    const inputs = (first: Tensor4D, second: Tensor4D) => {
      const query = parametersDrawn(encoder.layout, streams + 1000);
      const key = parametersDrawn(encoder.layout, streams + 2000);
      return Array.from({ length: ranks }, (_, rank) => {
        const [queryViews, keyViews] = [rowsOf(first, rank), rowsOf(second, rank)];
        const labels = method === "supcon" ? labelsOf(rank) : null;
        return { query, key, queryViews, keyViews, labels };
      });
    };
    type Drawn = ReturnType<typeof inputs>[number];
    const shown = (drawn: Drawn): ShowInput => ({ ...drawn, encoder, batchNorm: OWN_BATCH, temperature });
    const ownOf = (rank: number) => tf.tensor1d(Array.from({ length: ranks }, (_, other) => (other === rank ? 1 : 0)));

    const queue = normalise(tf.tensor2d(uniform(streams + 3, queueSize * dimension, -1, 1), [queueSize, dimension]));
    const { moco, ownMethod } = PRESETS.cifar10;

    /** The exchange of embeddings, as ranks make it that know their own batch's statistics alone. */
    function exchanged(objective: Objective, first: Tensor4D, second: Tensor4D): StepResult[] {
      const shuffled = tf.gather(second, method === "moco-v2" ? given.order : given.order.map((_, at) => at));
      const block = tf.concat(inputs(first, shuffled).map((drawn) => objective.show(shown(drawn)).embeddings));
      const places = inverseOf(Int32Array.from(given.order));
      return inputs(first, second).map((drawn, rank) => {
        const rows = method === "moco-v2" ? tf.tensor1d(places.slice(rank * batch, (rank + 1) * batch), "int32") : null;
        return objective.step({
          ...shown(drawn),
          exchanged: { block, own: ownOf(rank), rows },
          keyShuffle: null,
          queue: method === "moco-v2" ? queue : null,
        });
      });
    }

    /** All ranks, in rounds. */
    async function inRounds(objective: Objective, first: Tensor4D, second: Tensor4D): Promise<StepResult[]> {
      type Given = Drawn & Pick<StepInput, "queue" | "exchanged">;
      const whole = (drawn: Drawn): ShowInput => ({
        ...shown(drawn),
        batchNorm: { splits: 1, ranks: given.sync ? ranks : 1 },
      });
      const functions = {
        step: ({ queue: negatives, exchanged: block, ...drawn }: Given) =>
          objective.step({ ...whole(drawn), queue: negatives, exchanged: block, keyShuffle: null }) as Flat<StepResult>,
        show: method === "moco-v2" ? null : (drawn: Drawn) => objective.show(whole(drawn)),
      };
      const each = inputs(first, second).map((drawn, rank) => ({
        ...drawn,
        own: ownOf(rank),
        queue: method === "moco-v2" ? queue : null,
      }));
      const options = { precision: "fp32", identity: JSON.stringify(given), cache: null } as const;
      const step = await compile(lockstepOf(functions, ranks), each[0], options);
      return inLockstep(
        each.map((input) => step.begin(input)),
        step.rounds,
      );
    }

    let results: StepResult[] = [];
    beforeAll(async () => {
      const run = { method, moco: { ...moco, temperature }, supcon: { form }, ownMethod };
      const objective = await objectiveOf(run);
      results = given.stands ? await inRounds(objective, views(1), views(2)) : exchanged(objective, views(1), views(2));
    });

    it("in the loss: its mean over the ranks", () => {
      const loss = results.reduce((sum, result) => sum + result.loss.dataSync()[0], 0) / ranks;
      expect(Math.abs(loss / given.loss - 1)).toBeLessThan(TOLERANCE);
    });

    it("in every gradient: its mean over the ranks", () => {
      const names = encoder.layout.parameters.map(({ name }) => name);
      expect(names).toEqual(Object.keys(given.gradients));
      const whole = Math.hypot(...Object.values(given.gradients).map(({ norm }) => norm));
      const errors = names.map((name, index) => {
        const mean: Tensor = tf.div(tf.addN(results.map(({ gradients }) => gradients[index])), ranks);
        const expected = given.gradients[name];
        // Batch norm behind it takes a shift away: what is left of its gradient is rounding.
        if (expected.norm < 1e-9 * whole) return { name, error: (tf.norm(mean).dataSync()[0] ?? NaN) / whole };
        return { name, error: relativeError(mean, expected) };
      });
      expect(errors.filter(({ error }) => !(error < TOLERANCE))).toEqual([]);
    });
  },
);
