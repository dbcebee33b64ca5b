/**
 * ResNets (He et al. 2016) in torchvision's structure, names and arithmetic (v1.5: the stride of a bottleneck sits on
 * its 3×3 convolution), with a projection head in the place of `fc`.
 */
import { conv2d, relu, tf, type Tensor1D, type Tensor2D, type Tensor4D } from "../engine/index.js";
import type { ForwardContext } from "./forward.js";
import { LayoutBuilder, type ParameterLayout } from "./parameters.js";

interface Architecture {
  readonly block: "basic" | "bottleneck";
  /** blocks in each stage */
  readonly blocks: readonly number[];
  /** channels of each stage, before a bottleneck's expansion */
  readonly widths: readonly number[];
}

const ARCHITECTURES = {
  "resnet-tiny": { block: "basic", blocks: [1, 1, 1], widths: [32, 64, 128] },
  resnet18: { block: "basic", blocks: [2, 2, 2, 2], widths: [64, 128, 256, 512] },
  resnet50: { block: "bottleneck", blocks: [3, 4, 6, 3], widths: [64, 128, 256, 512] },
} as const satisfies Record<string, Architecture>;

const BOTTLENECK_EXPANSION = 4;

export interface EncoderOptions {
  readonly encoder: keyof typeof ARCHITECTURES;
  readonly stem: "3x3" | "imagenet";
  readonly head: "mlp" | "linear";
  readonly embeddingDim: number;
}

export interface Encoder {
  readonly layout: ParameterLayout;
  /** length of a feature vector */
  readonly featureDim: number;
  /** `[N, S, S, 3]` normalised images → `[N, featureDim]` backbone features */
  features(context: ForwardContext, images: Tensor4D): Tensor2D;
  /** `[N, featureDim]` → `[N, embeddingDim]`, not yet of unit length */
  project(context: ForwardContext, features: Tensor2D): Tensor2D;
}

/** One convolution with its batch norm and, where `relu`, ReLU. */
interface ConvolutionNorm {
  readonly convolution: string;
  readonly norm: string;
  readonly stride: number;
  readonly kernel: number;
  readonly relu: boolean;
}

interface Block {
  readonly path: readonly ConvolutionNorm[];
  readonly downsample: ConvolutionNorm | null;
}

export function resnet(options: EncoderOptions): Encoder {
  const architecture: Architecture = ARCHITECTURES[options.encoder];
  const builder = new LayoutBuilder();
  const small = options.stem === "3x3";

  const convolutionNorm = (
    names: { convolution: string; norm: string },
    inputs: number,
    outputs: number,
    { kernel, stride, relu: rectify }: { kernel: number; stride: number; relu: boolean },
  ): ConvolutionNorm => {
    builder.parameter(`${names.convolution}.weight`, [kernel, kernel, inputs, outputs], "convolution");
    builder.batchNorm(names.norm, outputs);
    return { ...names, kernel, stride, relu: rectify };
  };

  let channels = architecture.widths[0] as number;
  const stem = convolutionNorm({ convolution: "conv1", norm: "bn1" }, 3, channels, {
    kernel: small ? 3 : 7,
    stride: small ? 1 : 2,
    relu: true,
  });

  const blocks: Block[] = [];
  architecture.blocks.forEach((count, stage) => {
    const width = architecture.widths[stage] as number;
    for (let index = 0; index < count; index++) {
      const name = `layer${String(stage + 1)}.${String(index)}`;
      const stride = index === 0 && stage > 0 ? 2 : 1;
      const named = (number: number) => ({
        convolution: `${name}.conv${String(number)}`,
        norm: `${name}.bn${String(number)}`,
      });
      const inputs = channels;
      let path: ConvolutionNorm[];
      if (architecture.block === "basic") {
        channels = width;
        path = [
          convolutionNorm(named(1), inputs, width, { kernel: 3, stride, relu: true }),
          convolutionNorm(named(2), width, width, { kernel: 3, stride: 1, relu: false }),
        ];
      } else {
        channels = width * BOTTLENECK_EXPANSION;
        path = [
          convolutionNorm(named(1), inputs, width, { kernel: 1, stride: 1, relu: true }),
          convolutionNorm(named(2), width, width, { kernel: 3, stride, relu: true }),
          convolutionNorm(named(3), width, channels, { kernel: 1, stride: 1, relu: false }),
        ];
      }
      const shortcut = { convolution: `${name}.downsample.0`, norm: `${name}.downsample.1` };
      const downsample =
        stride !== 1 || inputs !== channels
          ? convolutionNorm(shortcut, inputs, channels, { kernel: 1, stride, relu: false })
          : null;
      blocks.push({ path, downsample });
    }
  });

  const featureDim = channels;
  const dense = (name: string, inputs: number, outputs: number): void => {
    builder.parameter(`${name}.weight`, [inputs, outputs], "dense");
    builder.parameter(`${name}.bias`, [outputs], "dense-bias");
  };
  const head = options.head === "mlp" ? ["fc.0", "fc.2"] : ["fc"];
  head.forEach((name, index) => {
    dense(name, featureDim, index === head.length - 1 ? options.embeddingDim : featureDim);
  });

  const apply = (context: ForwardContext, layer: ConvolutionNorm, x: Tensor4D): Tensor4D => {
    const filter = context.parameter<Tensor4D>(`${layer.convolution}.weight`);
    const scale = context.parameter<Tensor1D>(`${layer.norm}.weight`);
    const shift = context.parameter<Tensor1D>(`${layer.norm}.bias`);
    const y = conv2d(x, filter, layer.stride, (layer.kernel - 1) / 2);
    return context.normalise(layer.norm, y, scale, shift, layer.relu);
  };

  return {
    layout: builder.build(),
    featureDim,
    features: (context, images) => {
      let x = tf.tidy(() => {
        const y = apply(context, stem, images);
        // −∞ would pad as PyTorch does; behind ReLU zeros are the same.
        return small ? y : tf.maxPool(tf.pad(y, [[0, 0], [1, 1], [1, 1], [0, 0]]), 3, 2, "valid"); // prettier-ignore
      });
      for (const block of blocks) {
        const input = x;
        x = tf.tidy(() => {
          const residual = block.path.reduce((value, layer) => apply(context, layer, value), input);
          const shortcut = block.downsample === null ? input : apply(context, block.downsample, input);
          return relu(tf.add(residual, shortcut));
        });
        input.dispose();
      }
      return tf.mean(x, [1, 2]);
    },
    project: (context, features) =>
      head.reduce((x, name, index) => {
        const y = tf.add<Tensor2D>(
          tf.matMul(x, context.parameter<Tensor2D>(`${name}.weight`)),
          context.parameter(`${name}.bias`),
        );
        return index < head.length - 1 ? relu(y) : y;
      }, features),
  };
}
