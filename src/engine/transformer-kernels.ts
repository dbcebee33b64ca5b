/**
 * What Transformers need of tfjs with gradients in fewer passes than its own make: layer norm, GELU by the error function, and
 * the embedding of tokens. They stay in float32 in mixed precision.
 */
import { execute } from "./backend.js";
import { gatherRows } from "./kernels.js";
import { tf, type Tensor, type Tensor1D, type Tensor2D } from "./tensorflow.js";

/**
 * Layer norm (Ba, Kiros and Hinton 2016) of each row.
 * @param x `[N, D]`
 * @param scale `[D]`
 * @param shift `[D]`
 */
export function layerNorm(x: Tensor2D, scale: Tensor1D, shift: Tensor1D, epsilon: number): Tensor2D {
  const normalise = tf.customGrad((...given) => {
    const [input, factor, offset, save] = given as unknown as [Tensor, Tensor, Tensor, (tensors: Tensor[]) => void];
    const centred = tf.sub(input, tf.mean(input, 1, true));
    const inverse = tf.rsqrt(tf.add(tf.mean(tf.square(centred), 1, true), epsilon));
    const unit = tf.mul(centred, inverse);
    save([unit, inverse, factor]);
    return {
      value: tf.add(tf.mul(unit, factor), offset),
      gradFunc: (dy: Tensor, saved: Tensor[]) => {
        const [normal, inverseDeviation, gain] = saved;
        const upstream = tf.mul(dy, gain);
        const along = tf.mean(tf.mul(upstream, normal), 1, true);
        const rest = tf.sub(upstream, tf.add(tf.mean(upstream, 1, true), tf.mul(normal, along)));
        return [tf.mul(rest, inverseDeviation), tf.sum(tf.mul(dy, normal), 0), tf.sum(dy, 0)];
      },
    };
  });
  return normalise(x, scale, shift) as Tensor2D;
}

const HALF = 0.5;
const FLOAT = { type: "float32" } as const;
const INTEGER = { type: "int32" } as const;

/** GELU (Hendrycks and Gimpel 2016): x·Φ(x), exactly, by the error function. */
export function gelu<T extends Tensor>(x: T): T {
  const activate = tf.customGrad((...given) => {
    const [input, save] = given as unknown as [Tensor, (tensors: Tensor[]) => void];
    const share = tf.mul(tf.add(tf.erf(tf.mul(input, Math.SQRT1_2)), 1), HALF);
    save([input, share]);
    return {
      value: tf.mul(input, share),
      gradFunc: (dy: Tensor, saved: Tensor[]) => {
        const [value, cumulative] = saved;
        const density = tf.mul(tf.exp(tf.mul(tf.square(value), -HALF)), 1 / Math.sqrt(2 * Math.PI));
        return [tf.mul(dy, tf.add(cumulative, tf.mul(value, density)))];
      },
    };
  });
  return activate(x) as T;
}

/**
 * Rows of a table. tfjs's own gather reads the indices back to check them, which a compiled step cannot; here TensorFlow checks.
 * @param table `[V, D]`
 * @param ids int32 `[M]`, each below V
 * @returns `[M, D]`
 */
export function embedding(table: Tensor2D, ids: Tensor1D): Tensor2D {
  const [rows] = table.shape;
  const look = tf.customGrad((...given) => {
    const [values, save] = given as unknown as [Tensor2D, (tensors: Tensor[]) => void];
    save([ids]);
    return {
      value: gatherRows(values, ids),
      gradFunc: (dy: Tensor, [kept]: Tensor[]) => {
        const count = tf.scalar(rows, "int32");
        const types = { T: FLOAT, Tindices: INTEGER, Tnumsegments: INTEGER };
        return [execute("UnsortedSegmentSum", [dy, kept, count], types)[0]];
      },
    };
  });
  return look(table);
}
