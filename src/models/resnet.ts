/** The forward pass of a ResNet, in torchvision's arithmetic. */
import { conv2d, relu, tf, type Tensor1D, type Tensor2D, type Tensor4D } from "../engine/index.js";
import { resnetArchitecture, type ConvolutionNorm, type EncoderOptions } from "./architecture.js";
import type { ForwardContext } from "./forward.js";
import type { ParameterLayout } from "./parameters.js";

export interface Encoder {
  readonly layout: ParameterLayout;
  /** length of a feature vector */
  readonly featureDim: number;
  /** `[N, S, S, 3]` normalised images → `[N, featureDim]` backbone features */
  features(context: ForwardContext, images: Tensor4D): Tensor2D;
  /** `[N, featureDim]` → `[N, embeddingDim]`, not yet of unit length */
  project(context: ForwardContext, features: Tensor2D): Tensor2D;
}

export function resnet(options: EncoderOptions): Encoder {
  const { layout, featureDim, stem, stemPool, blocks, head } = resnetArchitecture(options);

  const apply = (context: ForwardContext, layer: ConvolutionNorm, x: Tensor4D): Tensor4D => {
    const filter = context.parameter<Tensor4D>(`${layer.convolution}.weight`);
    const scale = context.parameter<Tensor1D>(`${layer.norm}.weight`);
    const shift = context.parameter<Tensor1D>(`${layer.norm}.bias`);
    const y = conv2d(x, filter, layer.stride, (layer.kernel - 1) / 2);
    return context.normalise(layer.norm, y, scale, shift, layer.relu);
  };

  return {
    layout,
    featureDim,
    features: (context, images) => {
      let x = tf.tidy(() => {
        const y = apply(context, stem, images);
        // PyTorch pads with −∞; behind ReLU zeros are the same.
        return stemPool ? tf.maxPool(tf.pad(y, [[0, 0], [1, 1], [1, 1], [0, 0]]), 3, 2, "valid") : y; // prettier-ignore
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
