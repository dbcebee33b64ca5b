/**
 * What `--method` lays over a preset: the settings in which a method's paper differs from the presets, which are MoCo v2's.
 * Sizes (queue, batch, learning rate, key momentum) stay the preset's: they belong to the data set.
 */
import { UserError } from "../protocol/errors.js";
import { METHODS, type Method } from "./schema.js";

const DEFAULTS: Readonly<Record<Method, Readonly<Record<string, unknown>>>> = {
  /** He et al. 2020, section 3.3 and "Technical details": linear head, τ = 0.07, jitter always, no blur */
  "moco-v1": {
    "model.head": "linear",
    "moco.temperature": 0.07,
    "augmentation.jitter.probability": 1,
    "augmentation.blur.probability": 0,
  },
  /** Chen et al. 2020, table 1: a two-layer head */
  "moco-v2": { "model.head": "mlp" },
  /** Chen, Xie and He 2021, section 3 and appendix: projection and prediction heads of width 4096 with batch norm, D = 256 */
  "moco-v3": {
    "model.head": "mlp-bn",
    "model.predictor": true,
    "model.hiddenDim": 4096,
    "model.embeddingDim": 256,
    "moco.temperature": 1,
    "moco.shuffle": "none",
    "moco.keyMomentumSchedule": "cosine",
  },
  /** Chen et al. 2020, sections 2.1 and 5.1 and appendix A: a two-layer head, τ = 0.5 (CIFAR-10: B.9), jitter of strength 1 */
  simclr: {
    "model.head": "mlp",
    "moco.temperature": 0.5,
    "moco.shuffle": "none",
    "augmentation.crop.minScale": 0.08,
    "augmentation.jitter.brightness": 0.8,
    "augmentation.jitter.contrast": 0.8,
    "augmentation.jitter.saturation": 0.8,
    "augmentation.jitter.hue": 0.2,
  },
  /** Khosla et al. 2020, section 4: a two-layer head, τ = 0.1, L_out */
  supcon: { "model.head": "mlp", "moco.temperature": 0.1, "moco.shuffle": "none", "supcon.form": "out" },
  /** the same, with MoCo's queue and key encoder */
  "supcon-queue": { "model.head": "mlp", "moco.temperature": 0.1, "supcon.form": "out" },
  /** whatever a file of the user's own does with them */
  own: {},
};

/** @returns dotted keys and values, the method itself among them @throws UserError `CONFIG_UNKNOWN_METHOD` */
export function methodDefaults(name: unknown): Readonly<Record<string, unknown>> {
  const method = METHODS.find((known) => known === name);
  if (method !== undefined) return { method, ...DEFAULTS[method] };
  const shown = typeof name === "string" ? name : JSON.stringify(name);
  const known = METHODS.filter((builtIn) => builtIn !== "own").join(", ");
  const message = `there is no method ${shown}: choose one of ${known}, or a file such as ./my-method.js`;
  throw new UserError("CONFIG_UNKNOWN_METHOD", message);
}
