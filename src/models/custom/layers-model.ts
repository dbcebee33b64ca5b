/**
 * A `tf.LayersModel` as an encoder. Its weights become the layout's parameters, which start by their role and not with the
 * values that the model came with; in a forward pass each layer reads the parameter in the place of its own variable. Batch norm
 * is Tandem's, since its statistics belong to the run.
 */
import { tf, type LayersModel, type Tensor, type Tensor2D } from "../../engine/index.js";
import { UserError } from "../../protocol/errors.js";
import { BATCH_NORM_EPSILON } from "../constants.js";
import type { ParameterRole } from "../parameters.js";
import type { OwnContext, OwnEncoder } from "./interface.js";

type Layer = LayersModel["layers"][number];
type Weight = LayersModel["weights"][number];

export function isLayersModel(value: unknown): value is LayersModel {
  return value instanceof tf.LayersModel;
}

/** Layers that draw random numbers in training: those belong to the run's seed, and are not given. */
const RANDOM = ["Dropout", "SpatialDropout1D", "AlphaDropout", "GaussianDropout", "GaussianNoise"];

interface BatchNormLayer {
  readonly axis: number;
  readonly epsilon: number;
  readonly scale: boolean;
  readonly center: boolean;
}

/** @throws UserError `ENCODER_SHAPE` or `ENCODER_LAYER` where it takes other images, or has a layer that does not fit into a run */
export function ofLayersModel(model: LayersModel, path: string, imageSize: number): OwnEncoder {
  const featureDim = featureDimOf(model, path, imageSize);
  let current: OwnContext | null = null;
  const context = () => {
    if (current === null) throw new Error("a layer was called outside of the encoder");
    return current;
  };
  const weights: { readonly name: string; readonly shape: readonly number[]; readonly role: ParameterRole }[] = [];
  const norms: { readonly name: string; readonly channels: number }[] = [];
  layersOf(model).forEach((layer, index) => {
    const kind = layer.getClassName();
    // Names that tfjs makes up count the layers of the process; these are the same wherever the file is loaded.
    const name = `layers.${String(index)}.${kind}`;
    if (RANDOM.includes(kind)) throw refused(path, layer, "draws random numbers of its own: leave it out");
    if (kind === "BatchNormalization") {
      const channels = checkedChannels(layer, path);
      norms.push({ name, channels });
      layer.call = (inputs) => context().batchNorm(name, Array.isArray(inputs) ? inputs[0] : inputs);
      return;
    }
    for (const weight of layer.weights) {
      const parameter = `${name}.${ending(weight)}`;
      weights.push({ name: parameter, shape: weight.shape.map(Number), role: roleOf(weight) });
      weight.read = () => context().parameter(parameter);
    }
  });
  return {
    featureDim,
    parameters: (declare) => {
      for (const { name, shape, role } of weights) declare.parameter(name, shape, role);
      for (const { name, channels } of norms) declare.batchNorm(name, channels);
    },
    features: (given, images) => {
      current = given;
      try {
        return model.apply(images) as Tensor2D;
      } finally {
        current = null;
      }
    },
  };
}

function featureDimOf(model: LayersModel, path: string, imageSize: number): number {
  const side = String(imageSize);
  const [input] = model.inputs;
  const [output] = model.outputs;
  const fits = [null, imageSize, imageSize, 3].every((length, axis) => {
    const own = input.shape[axis];
    return own === null || length === null || own === length;
  });
  if (model.inputs.length !== 1 || input.shape.length !== 4 || !fits) {
    const found = model.inputs.map(({ shape }) => `[${shape.map(String).join(", ")}]`).join(" and ");
    throw new UserError(
      "ENCODER_SHAPE",
      `the model in ${path} takes ${found}, and the run's images are [null, ${side}, ${side}, 3]: give its first layer inputShape: [${side}, ${side}, 3]`,
    );
  }
  const [, featureDim] = output.shape;
  if (model.outputs.length !== 1 || output.shape.length !== 2 || featureDim === null) {
    const found = model.outputs.map(({ shape }) => `[${shape.map(String).join(", ")}]`).join(" and ");
    throw new UserError(
      "ENCODER_SHAPE",
      `the model in ${path} gives ${found} where [null, D] is wanted: end it with globalAveragePooling2d or flatten`,
    );
  }
  return featureDim;
}

/** The layers, those of nested models among them. */
function layersOf(model: LayersModel): Layer[] {
  return model.layers.flatMap((layer) => (isLayersModel(layer) ? layersOf(layer) : [layer]));
}

function checkedChannels(layer: Layer, path: string): number {
  const { axis, epsilon, scale, center } = layer as unknown as BatchNormLayer;
  const shape = layer.inputSpec[0].axes ?? {};
  const [channels] = Object.values(shape);
  const rank = layer.inputSpec[0].ndim ?? 0;
  if (axis !== -1 && axis !== rank - 1)
    throw refused(path, layer, "normalises another axis than the last: give it axis: -1");
  if (!scale || !center) throw refused(path, layer, "lacks scale or shift: leave out scale: false and center: false");
  if (epsilon !== BATCH_NORM_EPSILON)
    throw refused(
      path,
      layer,
      `has epsilon ${String(epsilon)}, and Tandem's batch norm has 1e-5: give it epsilon: 1e-5`,
    );
  return channels;
}

function refused(path: string, layer: Layer, why: string): UserError {
  return new UserError("ENCODER_LAYER", `the layer ${layer.name} of the model in ${path} ${why}`);
}

/** `conv2d_Conv2D1/kernel` → `kernel` */
function ending({ originalName }: Weight): string {
  return originalName.slice(originalName.lastIndexOf("/") + 1);
}

function roleOf(weight: Weight): ParameterRole {
  const kind = ending(weight);
  if (kind === "gamma") return "norm-scale";
  if (kind === "beta") return "norm-shift";
  if (kind === "bias") return "norm-shift"; // 0, as tfjs starts biases
  if (weight.shape.length === 4) return "convolution";
  return weight.shape.length === 2 ? "dense" : "token";
}

export type { Tensor };
