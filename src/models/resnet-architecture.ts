/**
 * What a ResNet (He et al. 2016) is made of, in torchvision's structure and names (v1.5: the stride of a bottleneck sits
 * on its 3×3 convolution), with a projection head in the place of `fc`. A value: no engine is needed to read it.
 */
import { addHeads, type HeadOptions, type Heads } from "./heads.js";
import { LayoutBuilder, type ParameterLayout } from "./parameters.js";

interface Stages {
  readonly block: "basic" | "bottleneck";
  /** blocks in each stage */
  readonly blocks: readonly number[];
  /** channels of each stage, before a bottleneck's expansion */
  readonly widths: readonly number[];
}

const ARCHITECTURES = {
  "resnet-tiny": { block: "basic", blocks: [1, 1, 1], widths: [32, 64, 128] },
  resnet18: { block: "basic", blocks: [2, 2, 2, 2], widths: [64, 128, 256, 512] },
  resnet34: { block: "basic", blocks: [3, 4, 6, 3], widths: [64, 128, 256, 512] },
  resnet50: { block: "bottleneck", blocks: [3, 4, 6, 3], widths: [64, 128, 256, 512] },
  resnet101: { block: "bottleneck", blocks: [3, 4, 23, 3], widths: [64, 128, 256, 512] },
} as const satisfies Record<string, Stages>;

const BOTTLENECK_EXPANSION = 4;

export type ResnetName = keyof typeof ARCHITECTURES;

export interface ResnetOptions extends HeadOptions {
  readonly encoder: ResnetName;
  readonly stem: "3x3" | "imagenet";
}

export function isResnet(encoder: string): encoder is ResnetName {
  return Object.hasOwn(ARCHITECTURES, encoder);
}

/** One convolution with its batch norm and, where `relu`, ReLU. */
export interface ConvolutionNorm {
  readonly convolution: string;
  readonly norm: string;
  readonly stride: number;
  readonly kernel: number;
  readonly relu: boolean;
}

export interface Block {
  readonly path: readonly ConvolutionNorm[];
  readonly downsample: ConvolutionNorm | null;
}

export interface ResnetArchitecture extends Heads {
  readonly layout: ParameterLayout;
  /** length of a feature vector */
  readonly featureDim: number;
  readonly stem: ConvolutionNorm;
  /** whether a 3×3 max-pool of stride 2 follows the stem */
  readonly stemPool: boolean;
  readonly blocks: readonly Block[];
}

export function resnetArchitecture(options: ResnetOptions): ResnetArchitecture {
  const architecture: Stages = ARCHITECTURES[options.encoder];
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

  let channels = architecture.widths[0];
  const stem = convolutionNorm({ convolution: "conv1", norm: "bn1" }, 3, channels, {
    kernel: small ? 3 : 7,
    stride: small ? 1 : 2,
    relu: true,
  });

  const blocks: Block[] = [];
  architecture.blocks.forEach((count, stage) => {
    const width = architecture.widths[stage];
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
  const heads = addHeads(builder, options, { name: "fc", featureDim, layersWithNorm: 2 });
  return { layout: builder.build(), featureDim, stem, stemPool: !small, blocks, ...heads };
}
