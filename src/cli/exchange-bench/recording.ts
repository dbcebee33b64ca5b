/**
 * Gradients and weights as they were in real training: ResNet-18, MoCo v2 on CIFAR-10, preset cifar10 in bf16, one rank of 128, step 303. Kept are
 * deviations of each tensor's θq, of its gradient and of θq − θk; drawn are normal values. Their
 * differences come to 0.19 of θq's codes and 0.12 of θk's; the recording's to 0.19 and 0.11.
 */
import { Purpose, Stream } from "../../protocol/philox.js";
import type { ParameterLayout } from "../../models/parameters.js";

/** `[name, σ of θq, σ of the gradient, σ of θq − θk]` */
const TENSORS: readonly (readonly [string, number, number, number])[] = [
  ["conv1.weight", 7.37e-2, 4.84e-3, 1.39e-2],
  ["layer1.0.conv1.weight", 5.51e-2, 7.78e-4, 3.29e-3],
  ["layer1.0.conv2.weight", 5.46e-2, 8.5e-4, 3.0e-3],
  ["layer1.1.conv1.weight", 5.44e-2, 6.64e-4, 2.58e-3],
  ["layer1.1.conv2.weight", 5.45e-2, 5.99e-4, 2.44e-3],
  ["layer2.0.conv1.weight", 3.85e-2, 5.05e-4, 1.93e-3],
  ["layer2.0.conv2.weight", 3.84e-2, 4.23e-4, 1.6e-3],
  ["layer2.0.downsample.0.weight", 1.13e-1, 8.13e-4, 3.82e-3],
  ["layer2.1.conv1.weight", 3.84e-2, 3.77e-4, 1.55e-3],
  ["layer2.1.conv2.weight", 3.83e-2, 3.68e-4, 1.52e-3],
  ["layer3.0.conv1.weight", 2.72e-2, 3.2e-4, 1.27e-3],
  ["layer3.0.conv2.weight", 2.7e-2, 2.49e-4, 1.05e-3],
  ["layer3.0.downsample.0.weight", 8.08e-2, 4.55e-4, 2.6e-3],
  ["layer3.1.conv1.weight", 2.71e-2, 2.25e-4, 1.03e-3],
  ["layer3.1.conv2.weight", 2.7e-2, 2.16e-4, 9.81e-4],
  ["layer4.0.conv1.weight", 1.91e-2, 1.92e-4, 7.96e-4],
  ["layer4.0.conv2.weight", 1.91e-2, 1.36e-4, 6.68e-4],
  ["layer4.0.downsample.0.weight", 5.72e-2, 2.39e-4, 1.76e-3],
  ["layer4.1.conv1.weight", 1.91e-2, 1.23e-4, 6.55e-4],
  ["layer4.1.conv2.weight", 1.91e-2, 1.1e-4, 6.26e-4],
  ["fc.0.weight", 2.38e-2, 5.35e-4, 1.82e-3],
  ["fc.2.weight", 2.71e-2, 9.57e-4, 4.29e-3],
];
/** Of norms and biases, which travel as float32 whatever they are. */
const OTHERS = ["", 1, 4.4e-4, 1.3e-3] as const;

/** What the run was trained with. */
export const RECORDED = {
  rates: { learningRate: 0.06, keyMomentum: 0.99, clip: 1 },
  rule: { kind: "sgd", weightDecay: 5e-4, momentum: 0.9 },
} as const;

/** σ of the velocity over σ of the gradient. */
const VELOCITY = 2.1;
/** Draws that are used over and over, from another place each step: a prime, so that tensors and steps do not meet. */
const DRAWS = 1_048_583;

export class Recording {
  private readonly scales: readonly (readonly [string, number, number, number])[];
  private readonly draws: Float32Array;

  /** @param layout of tensors named as ResNet-18's are, behind a prefix */
  constructor(
    private readonly layout: ParameterLayout,
    seed: number,
  ) {
    const recorded = (name: string) => TENSORS.find(([own]) => own === name.slice(name.indexOf(".") + 1));
    this.scales = layout.parameters.map(({ name }) => recorded(name) ?? OTHERS);
    const stream = new Stream(seed, { purpose: Purpose.parameter, epoch: 0 });
    this.draws = Float32Array.from({ length: DRAWS }, () => stream.normal());
  }

  /**
   * One worker's gradient of a step, such that the mean over the workers is one of the recording's.
   * @param target float32 `[parameterCount]`
   */
  gradient(step: number, workers: number, target: Float32Array): void {
    this.fill(target, 7919 * (step + 1), ([, , gradient]) => gradient * Math.sqrt(workers));
  }

  /** θq, θk and the velocity that a step began with. */
  state(): { readonly query: Float32Array; readonly key: Float32Array; readonly velocity: Float32Array } {
    const drawn = (place: number, of: (scales: readonly [string, number, number, number]) => number) => {
      const values = new Float32Array(this.layout.parameterCount);
      this.fill(values, place, of);
      return values;
    };
    const query = drawn(1, ([, weight]) => weight);
    const key = drawn(2, ([, , , lag]) => lag);
    for (let i = 0; i < key.length; i++) key[i] = query[i] - key[i];
    return { query, key, velocity: drawn(3, ([, , gradient]) => VELOCITY * gradient) };
  }

  private fill(
    target: Float32Array,
    place: number,
    scaleOf: (scales: readonly [string, number, number, number]) => number,
  ): void {
    const { draws } = this;
    let at = (place * 104_729) % DRAWS;
    for (const [index, { offset, size }] of this.layout.parameters.entries()) {
      const scale = scaleOf(this.scales[index]);
      for (let i = offset; i < offset + size; i++) {
        target[i] = scale * draws[at];
        at = at + 1 === DRAWS ? 0 : at + 1;
      }
    }
  }
}
