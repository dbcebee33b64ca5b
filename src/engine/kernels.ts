/**
 * Kernels that tfjs lacks or takes apart, registered beside its own with their gradients: convolution with PyTorch's
 * symmetric padding, batch norm as one operation each way, and ReLU whose gradient is one operation.
 * Tensors are NHWC; filters HWIO; everything is float32.
 */
import { execute, type Attributes } from "./backend.js";
import { inFullPrecision } from "./compiled/record.js";
import { tf, type Tensor, type Tensor1D, type Tensor4D } from "./tensorflow.js";

const FLOAT = { type: "float32" } as const;

interface Convolution {
  readonly stride: number;
  readonly padding: "SAME" | "VALID";
}

function convolutionAttributes({ stride, padding }: Convolution): Attributes {
  return {
    T: FLOAT,
    strides: { int: [1, stride, stride, 1] },
    use_cudnn_on_gpu: { bool: true },
    padding: { string: padding },
    data_format: { string: "NHWC" },
    dilations: { int: [1, 1, 1, 1] },
  };
}

function withShape(shape: readonly number[], run: (sizes: Tensor1D) => Tensor): Tensor {
  const sizes = tf.tensor1d([...shape], "int32");
  try {
    return run(sizes);
  } finally {
    sizes.dispose();
  }
}

const only = (tensors: readonly Tensor[]): Tensor => {
  const [first, ...rest] = tensors;
  if (first === undefined) throw new Error("operation gave no output");
  tf.dispose(rest);
  return first;
};

type KernelArguments = { inputs: Record<string, Tensor>; attrs: unknown };

function kernel(name: string, run: (inputs: Record<string, Tensor>, attrs: never) => Tensor | Tensor[]): void {
  tf.registerKernel({
    kernelName: name,
    backendName: "tensorflow",
    kernelFunc: (args) => {
      const { inputs, attrs } = args as unknown as KernelArguments;
      return run(inputs, attrs as never);
    },
  });
}

kernel("TandemConv2D", ({ x, filter }, attrs: Convolution) =>
  only(execute("Conv2D", [x, filter], convolutionAttributes(attrs))),
);

tf.registerGradient({
  kernelName: "TandemConv2D",
  inputsToSave: ["x", "filter"],
  gradFunc: (dy, saved, attrs) => {
    const [x, filter] = saved as [Tensor4D, Tensor4D];
    const attributes = convolutionAttributes(attrs as unknown as Convolution);
    return {
      x: () => withShape(x.shape, (sizes) => only(execute("Conv2DBackpropInput", [sizes, filter, dy], attributes))),
      filter: () =>
        withShape(filter.shape, (sizes) => only(execute("Conv2DBackpropFilter", [x, sizes, dy], attributes))),
    };
  },
});

kernel("TandemGatherRows", ({ x, indices }) => {
  const axis = tf.scalar(0, "int32");
  try {
    const types: Attributes = { Tparams: FLOAT, Tindices: { type: "int32" }, Taxis: { type: "int32" } };
    return only(execute("GatherV2", [x, indices, axis], { ...types, batch_dims: { int: 0 } }));
  } finally {
    axis.dispose();
  }
});

kernel("TandemRelu", ({ x }) => only(execute("Relu", [x], { T: FLOAT })));

tf.registerGradient({
  kernelName: "TandemRelu",
  // ReluGrad asks where the features are positive: the output serves, so the input needs not be kept.
  outputsToSave: [true],
  gradFunc: (dy, saved) => ({ x: () => only(execute("ReluGrad", [dy, saved[0]], { T: FLOAT })) }),
});

interface MatrixProduct {
  readonly transposeA: boolean;
  readonly transposeB: boolean;
}

kernel("TandemPreciseMatMul", ({ a, b }, { transposeA, transposeB }: MatrixProduct) =>
  only(
    inFullPrecision(() =>
      execute("BatchMatMulV2", [a, b], { T: FLOAT, adj_x: { bool: transposeA }, adj_y: { bool: transposeB } }),
    ),
  ),
);

tf.registerGradient({
  kernelName: "TandemPreciseMatMul",
  inputsToSave: ["a", "b"],
  gradFunc: (dy, saved, attrs) => {
    const [a, b] = saved;
    const { transposeA, transposeB } = attrs as unknown as MatrixProduct;
    const upstream = dy as Tensor;
    return {
      a: () =>
        transposeA ? preciseMatMul(b, upstream, transposeB, true) : preciseMatMul(upstream, b, false, !transposeB),
      b: () =>
        transposeB ? preciseMatMul(upstream, a, true, transposeA) : preciseMatMul(a, upstream, !transposeA, false),
    };
  },
});

interface BatchNorm {
  readonly epsilon: number;
  readonly relu: boolean;
}

function batchNormAttributes(epsilon: number): Attributes {
  return {
    T: FLOAT,
    U: FLOAT,
    epsilon: { float: epsilon },
    data_format: { string: "NHWC" },
    is_training: { bool: true },
  };
}

kernel("TandemBatchNorm", ({ x, scale, shift }, { epsilon, relu }: BatchNorm) => {
  const empty = tf.tensor1d([], "float32");
  const [y, mean, variance, savedMean, savedVariance, reserve] = execute(
    "FusedBatchNormV3",
    [x, scale, shift, empty, empty],
    { ...batchNormAttributes(epsilon), exponential_avg_factor: { float: 1 } },
    6,
  ) as [Tensor, Tensor, Tensor, Tensor, Tensor, Tensor];
  empty.dispose();
  if (!relu) return [y, mean, variance, savedMean, savedVariance, reserve];
  const activated = only(execute("Relu", [y], { T: FLOAT }));
  y.dispose();
  return [activated, mean, variance, savedMean, savedVariance, reserve];
});

tf.registerGradient({
  kernelName: "TandemBatchNorm",
  inputsToSave: ["x", "scale"],
  outputsToSave: [true, false, false, true, true, true],
  gradFunc: (dys, saved, attrs) => {
    const { epsilon, relu } = attrs as unknown as BatchNorm;
    const [x, scale, y, mean, variance, reserve] = saved;
    const [dy] = dys as unknown as Tensor[];
    const upstream = relu ? only(execute("ReluGrad", [dy, y], { T: FLOAT })) : dy;
    const inputs = [upstream, x, scale, mean, variance, reserve];
    const outputs = execute("FusedBatchNormGradV3", inputs, batchNormAttributes(epsilon), 5);
    if (relu) upstream.dispose();
    tf.dispose(outputs.slice(3));
    // One operation gives all three, while tfjs asks for each in a scope of its own, and only for those that somebody wants. So
    // they belong to the scope of the whole backward pass, and are handed over as clones that belong to the asker's.
    const gradient = (index: number) => () => {
      const handedOver = tf.clone(outputs[index]);
      outputs[index].dispose();
      return handedOver;
    };
    return { x: gradient(0), scale: gradient(1), shift: gradient(2) };
  },
});

/**
 * 2-D convolution (cross-correlation) with `padding` zeros on every side, as `torch.nn.functional.conv2d`.
 * TensorFlow has an explicit padding too, but oneDNN does not serve the gradients of it (measured with TensorFlow 2.21:
 * 3 times slower), so "same" stands in where it means the same, and elsewhere the zeros are laid on first.
 * @param x `[N, H, W, I]`
 * @param filter `[h, w, I, O]`, h = w, odd
 * @returns `[N, ⌊(H + 2·padding − h) / stride⌋ + 1, …, O]`
 */
export function conv2d(x: Tensor4D, filter: Tensor4D, stride: number, padding: number): Tensor4D {
  const run = (input: Tensor4D, mode: Convolution["padding"]) =>
    tf.engine().runKernel("TandemConv2D", { x: input, filter }, { stride, padding: mode }) as unknown as Tensor4D;
  if (padding === 0) return run(x, "VALID");
  if (stride === 1 && 2 * padding === filter.shape[0] - 1) return run(x, "SAME");
  const sides: [number, number] = [padding, padding];
  return run(tf.pad(x, [[0, 0], sides, sides, [0, 0]]), "VALID");
}

/**
 * Matrix product that stays in float32, gradients too, where a compiled step runs in mixed precision. Leading dimensions are
 * those of a batch and are the same on both sides.
 */
export function preciseMatMul<T extends Tensor>(a: T, b: T, transposeA = false, transposeB = false): T {
  return tf.engine().runKernel("TandemPreciseMatMul", { a, b }, { transposeA, transposeB }) as unknown as T;
}

/**
 * Rows of `x` in another order. tfjs's own reads the indices back to check them, which a compiled step cannot; here
 * TensorFlow checks. No gradient.
 * @param indices int32 `[M]`
 * @returns `[M, …]`
 */
export function gatherRows<T extends Tensor>(x: T, indices: Tensor1D): T {
  return tf.engine().runKernel("TandemGatherRows", { x, indices }) as unknown as T;
}

/** max(x, 0); the gradient passes where the output is positive. */
export function relu<T extends Tensor>(x: T): T {
  return tf.engine().runKernel("TandemRelu", { x }) as unknown as T;
}

export interface BatchNormResult {
  /** `[N, H, W, C]`, normalised, scaled, shifted and, if asked, rectified */
  readonly y: Tensor4D;
  /** `[C]` mean over N·H·W */
  readonly mean: Tensor1D;
  /** `[C]` unbiased variance over N·H·W, as PyTorch keeps in `running_var` */
  readonly variance: Tensor1D;
}

/** Batch norm by the batch's own statistics (Ioffe and Szegedy 2015), with ReLU behind it where `relu`. */
export function batchNorm(
  x: Tensor4D,
  scale: Tensor1D,
  shift: Tensor1D,
  epsilon: number,
  relu: boolean,
): BatchNormResult {
  const outputs = tf.engine().runKernel("TandemBatchNorm", { x, scale, shift }, { epsilon, relu });
  const [y, mean, variance] = outputs as unknown as [Tensor4D, Tensor1D, Tensor1D];
  return { y, mean, variance };
}

/**
 * Bilinear resampling through one affine map an image (TensorFlow's ImageProjectiveTransformV3).
 * @param images `[N, H, W, C]`
 * @param transforms `[N, 8]`: output pixel (x, y) reads input pixel (a0·x + a1·y + a2, b0·x + b1·y + b2)
 * @param size side of the square output, in pixels; what lies outside the input is mirrored
 */
export function transformImages(images: Tensor4D, transforms: Tensor, size: number): Tensor4D {
  return tf.tidy(
    () =>
      only(
        execute("ImageProjectiveTransformV3", [images, transforms, tf.tensor1d([size, size], "int32"), tf.scalar(0)], {
          dtype: FLOAT,
          interpolation: { string: "BILINEAR" },
          fill_mode: { string: "REFLECT" },
        }),
      ) as Tensor4D,
  );
}
