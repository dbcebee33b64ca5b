/** An encoder of the user's own behind the interface that all encoders have, each mistake in it one clear line. */
import {
  conv2d,
  gelu,
  layerNorm,
  relu,
  tf,
  type Tensor,
  type Tensor1D,
  type Tensor2D,
  type Tensor4D,
} from "../../engine/index.js";
import { firstLine, loadOwnFile } from "../../config/load-own-file.js";
import { UserError } from "../../protocol/errors.js";
import type { EncoderConfig } from "../architecture.js";
import type { Encoder } from "../encoder.js";
import type { ForwardContext } from "../forward.js";
import { applyHeads } from "../head-forward.js";
import { addHeads } from "../heads.js";
import { LayoutBuilder, PARAMETER_ROLES, type ParameterLayout } from "../parameters.js";
import type { Declare, OwnContext, OwnEncoder } from "./interface.js";
import { isLayersModel, ofLayersModel } from "./layers-model.js";

import { probe } from "./probe.js";

/**
 * Loads, and tries out on two images.
 * @throws UserError `ENCODER_…`
 */
export async function ownEncoder({ model, data: { imageSize } }: EncoderConfig): Promise<Encoder> {
  const path = model.encoder;
  const exported = (await loadOwnFile(path, model.encoderSha256, "encoder"))["default"];
  const own = encoderIn(exported, path, imageSize);
  const builder = new LayoutBuilder();
  attempt(path, () => {
    own.parameters(declaring(builder, path));
  });
  if (builder.build().parameters.length === 0) {
    throw new UserError("ENCODER_PARAMETERS", `the encoder ${path} declares no parameter: there is nothing to train`);
  }
  const { featureDim } = own;
  const ownCount = builder.build().parameters.length;
  const heads = addHeads(builder, model, { name: "head", featureDim, layersWithNorm: 2 });
  const layout = builder.build();
  const encoder = {
    layout,
    featureDim,
    features: (context: ForwardContext, images: Tensor4D) => {
      const result: unknown = attempt(path, () => own.features(contextOf(context, layout, path), images));
      return checked(result, path, images.shape[0], featureDim);
    },
    ...applyHeads(heads),
  };
  probe(encoder, ownCount, path, imageSize);
  return encoder;
}

/** Whatever the user's code throws, as one line that names the file. */
function attempt<T>(path: string, run: () => T): T {
  try {
    return run();
  } catch (cause) {
    if (cause instanceof UserError) throw cause;
    throw new UserError("ENCODER_FAILS", `the encoder ${path} fails when it is called: ${firstLine(cause)}`, { cause });
  }
}

function encoderIn(exported: unknown, path: string, imageSize: number): OwnEncoder {
  const given: unknown =
    typeof exported === "function"
      ? attempt(path, () => (exported as (setting: object) => unknown)({ tf, imageSize }))
      : exported;
  if (isLayersModel(given)) return ofLayersModel(given, path, imageSize);
  if (isOwnEncoder(given)) return given;
  throw new UserError(
    "ENCODER_EXPORT",
    `the encoder ${path} gives neither a tf.LayersModel nor { featureDim, parameters, features } with a whole number and two functions`,
  );
}

function isOwnEncoder(value: unknown): value is OwnEncoder {
  if (typeof value !== "object" || value === null) return false;
  const { featureDim, parameters, features } = value as Partial<Record<keyof OwnEncoder, unknown>>;
  const isLength = typeof featureDim === "number" && Number.isInteger(featureDim) && featureDim > 0;
  return isLength && typeof parameters === "function" && typeof features === "function";
}

function declaring(builder: LayoutBuilder, path: string): Declare {
  const seen = new Set<string>();
  const claim = (name: unknown) => {
    if (typeof name !== "string" || name === "") throw wrong("a parameter without a name");
    if (seen.has(name)) throw wrong(`${name} twice`);
    seen.add(name);
    return name;
  };
  const wrong = (what: string) => new UserError("ENCODER_PARAMETERS", `the encoder ${path} declares ${what}`);
  const isLength = (side: unknown) => typeof side === "number" && Number.isInteger(side) && side > 0;
  return {
    parameter: (name, shape, role, options = {}) => {
      claim(name);
      if (!Array.isArray(shape) || !shape.every(isLength))
        throw wrong(
          `${name} with the shape ${JSON.stringify(shape)}: give whole numbers above 0, e.g. [3, 3, 64, 128]`,
        );
      if (!PARAMETER_ROLES.includes(role))
        throw wrong(`${name} with the role ${role}: choose one of ${PARAMETER_ROLES.join(", ")}`);
      const rank = { convolution: 4, dense: 2 }[role as string];
      if (rank !== undefined && shape.length !== rank)
        throw wrong(`${name} as ${role} with ${shape.length} axes, and such a weight has ${rank}`);
      if (/^(head|predictor)(\.|$)/.test(name))
        throw wrong(`${name}, which is the name of the head behind it: choose another`);
      builder.parameter(name, shape, role, options);
    },
    batchNorm: (name, channels) => {
      claim(`${name}.weight`);
      claim(`${name}.bias`);
      if (!isLength(channels)) throw wrong(`the batch norm ${name} with ${String(channels)} channels`);
      builder.batchNorm(name, channels);
    },
  };
}

function contextOf(context: ForwardContext, { parameters, buffers }: ParameterLayout, path: string): OwnContext {
  const declared = new Set(parameters.map(({ name }) => name));
  const parameter = <T extends Tensor>(name: string): T => {
    if (declared.has(name)) return context.parameter<T>(name);
    throw new UserError(
      "ENCODER_UNDECLARED",
      `the encoder ${path} asks for the parameter ${name}, which it has not declared`,
    );
  };
  return {
    tf,
    parameter,
    batchNorm: <T extends Tensor>(name: string, x: T, { relu: rectify = false } = {}) => {
      if (!buffers.some((buffer) => buffer.name === `${name}.running_mean`))
        throw new UserError(
          "ENCODER_UNDECLARED",
          `the encoder ${path} asks for the batch norm ${name}, which it has not declared`,
        );
      const scale = parameter<Tensor1D>(`${name}.weight`);
      const wide: Tensor4D = x.rank === 4 ? (x as unknown as Tensor4D) : tf.reshape(x, [x.shape[0], 1, 1, -1]);
      const y = context.normalise(name, wide, scale, parameter<Tensor1D>(`${name}.bias`), rectify);
      return tf.reshape(y, x.shape) as T;
    },
    conv2d,
    relu,
    gelu,
    layerNorm,
  };
}

function checked(result: unknown, path: string, count: number, featureDim: number): Tensor2D {
  const wanted = `float32 features of shape [${String(count)}, ${String(featureDim)}]`;
  if (!isTensor(result))
    throw new UserError("ENCODER_SHAPE", `the encoder ${path} gives ${typeof result} where ${wanted} are wanted`);
  const { shape, dtype } = result;
  if (shape.length === 2 && shape[0] === count && shape[1] === featureDim && dtype === "float32")
    return result as Tensor2D;
  throw new UserError(
    "ENCODER_SHAPE",
    `the encoder ${path} gives ${dtype} of shape [${shape.join(", ")}] where ${wanted} are wanted`,
  );
}

function isTensor(value: unknown): value is Tensor {
  return value instanceof tf.Tensor;
}
