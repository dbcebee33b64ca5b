/**
 * A method of the user's own: a file whose default export is a contrastive loss, a function of tensors. What it contrasts with is
 * in `export const negatives`: the embeddings of the global batch, or the queue. docs/methods.md tells it with an example.
 */
import { firstLine, loadOwnFile } from "../config/load-own-file.js";
import type { RunConfig } from "../config/schema.js";
import { tf, type Scalar, type Tensor, type Tensor1D, type Tensor2D } from "../engine/index.js";
import { UserError } from "../protocol/errors.js";
import { normalise, type Contrast } from "./contrast.js";
import { contrastOf, inBatch, pairsOf } from "./in-batch.js";
import { infoNce } from "./infonce.js";
import { splitLabels } from "./labelled-rows.js";
import { momentumContrast } from "./moco.js";
import { given, type Objective } from "./objective.js";

/** What a loss is given, whatever it contrasts with. */
interface OwnSetting {
  /** tfjs, the one instance that there is */
  readonly tf: typeof tf;
  /** τ */
  readonly temperature: number;
}

/** `negatives = "batch"` */
export interface OwnBatch extends OwnSetting {
  /** `[N, D]` of unit length, N = 2·W·B: both views of the global batch */
  readonly embeddings: Tensor2D;
  /** `[N, N]`: 1 where a row meets itself */
  readonly isSelf: Tensor2D;
  /** `[N, N]`: 1 where a row meets its other view */
  readonly isOther: Tensor2D;
  /** float32 `[N]`; null where the method has `labels = false` */
  readonly labels: Tensor1D | null;
}

/** `negatives = "queue"` */
export interface OwnQueue extends OwnSetting {
  /** `[B, D]` of unit length */
  readonly queries: Tensor2D;
  /** `[B, D]` of unit length: each query's own, without gradient */
  readonly keys: Tensor2D;
  /** `[K, D]` of unit length */
  readonly queue: Tensor2D;
  /** float32 `[B]` and `[K]`; null where the method has `labels = false` */
  readonly labels: Tensor1D | null;
  readonly queueLabels: Tensor1D | null;
}

type Loss = (input: OwnBatch | OwnQueue) => unknown;

/**
 * Loads, and tries out on a few rows.
 * @throws UserError `METHOD_…`
 */
export async function ownMethod(own: RunConfig["ownMethod"], temperature: number): Promise<Objective> {
  const { sha256, negatives, labels: isLabelled } = own;
  const file = given(own.file, "a file");
  const loss = (await loadOwnFile(file, sha256, "method"))["default"] as Loss;
  const lossOf = (input: OwnBatch | OwnQueue): Scalar => {
    let value: unknown;
    try {
      value = loss(input);
    } catch (cause) {
      throw new UserError("METHOD_FAILS", `the method ${file} fails when it is called: ${firstLine(cause)}`, { cause });
    }
    if (value instanceof tf.Tensor && value.rank === 0 && value.dtype === "float32") return value as Scalar;
    throw new UserError(
      "METHOD_SHAPE",
      `the method ${file} gives ${shown(value)}: it must give its loss, a float32 scalar`,
    );
  };
  const ofBatch = (embeddings: Tensor2D, labels: Tensor1D | null, batch: number): Contrast => {
    const pairs = pairsOf(embeddings, batch, temperature);
    const { isSelf, isOther } = pairs;
    return contrastOf(lossOf({ tf, temperature, embeddings, isSelf, isOther, labels }), pairs, isOther);
  };
  const ofQueue = (queries: Tensor2D, keys: Tensor2D, labels: Tensor1D | null, rows: Tensor2D): Contrast => {
    const { keys: queue, labels: queueLabels } = isLabelled ? splitLabels(rows) : { keys: rows, labels: null };
    const loss = lossOf({ tf, temperature, queries, keys, queue, labels, queueLabels });
    return { ...infoNce(queries, keys, queue, temperature), loss };
  };
  tryOut(file, (rows) => {
    const labels = isLabelled ? tf.tensor1d([0, 1, 0, 1, 0, 1, 0, 1]) : null;
    if (negatives === "batch") return ofBatch(rows, labels, 2).loss;
    const queue = labels === null ? rows : tf.concat<Tensor2D>([rows, tf.expandDims(labels, 1)], 1);
    return ofQueue(rows, tf.reverse(rows, 0), labels, queue).loss;
  });
  if (negatives === "batch") return inBatch(ofBatch);
  return momentumContrast(({ queue, labels }) => {
    const rows = given(queue, "a queue");
    return (queries, keys) => ofQueue(queries, keys, labels, rows);
  });
}

function shown(value: unknown): string {
  if (!(value instanceof tf.Tensor)) return typeof value;
  const { dtype, shape } = value as Tensor;
  return `a ${dtype} tensor [${shape.join(", ")}]`;
}

/** Forward and backward on eight rows. @throws UserError `METHOD_IDLE`, `METHOD_NOT_FINITE` */
function tryOut(file: string, loss: (rows: Tensor2D) => Scalar): void {
  tf.tidy(() => {
    const rows = normalise(
      tf.tensor2d(
        Array.from({ length: 24 }, (_, i) => Math.sin(7 * i) + 0.1),
        [8, 3],
      ),
    );
    let gradient: Tensor;
    try {
      gradient = tf.grad((x: Tensor) => loss(x as Tensor2D))(rows);
    } catch (cause) {
      if (cause instanceof UserError) throw cause;
      throw new UserError(
        "METHOD_IDLE",
        `the loss of the method ${file} has no gradient: it must follow from what it is given by operations of tfjs that have one`,
        {
          cause,
        },
      );
    }
    const values = [...loss(rows).dataSync(), ...gradient.dataSync()];
    if (!values.every(Number.isFinite))
      throw new UserError(
        "METHOD_NOT_FINITE",
        `the method ${file} gives a loss or gradient that is not finite, on plain rows`,
      );
  });
}
