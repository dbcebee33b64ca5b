/** The optimizer that a config asks for: which keys belong to which kind, and what a kind starts from. */
import { UserError } from "../protocol/errors.js";
import type { RunConfig } from "./schema.js";

/** How a step's mean gradient changes the parameters. */
export type UpdateRule =
  /** `torch.optim.SGD` */
  | { readonly kind: "sgd"; readonly weightDecay: number; readonly momentum: number }
  /** You, Gitman and Ginsburg 2017, as MoCo v3 has it */
  | {
      readonly kind: "lars";
      readonly weightDecay: number;
      readonly momentum: number;
      readonly trustCoefficient: number;
    }
  /** Loshchilov and Hutter 2019; `torch.optim.AdamW` */
  | {
      readonly kind: "adamw";
      readonly weightDecay: number;
      readonly beta1: number;
      readonly beta2: number;
      readonly epsilon: number;
    };

type OptimizerConfig = RunConfig["optimizer"];

/** Keys that only some kinds have; for the others they are null. */
const OWN = {
  sgd: ["momentum"],
  lars: ["momentum", "trustCoefficient"],
  adamw: ["beta1", "beta2", "epsilon"],
} as const satisfies Record<OptimizerConfig["kind"], readonly (keyof OptimizerConfig)[]>;

/** @throws UserError `CONFIG_CONTRADICTION` where a key of the kind is null, or one of another kind is not */
export function updateRule(config: OptimizerConfig): UpdateRule {
  const { kind, weightDecay } = config;
  const own: readonly string[] = OWN[kind];
  for (const key of new Set(Object.values(OWN).flat())) {
    if (config[key] === null || own.includes(key)) continue;
    throw new UserError(
      "CONFIG_CONTRADICTION",
      `optimizer.${key} = ${String(config[key])} does nothing for optimizer.kind = ${kind}: set it to null, or choose a ` +
        `kind that has it (${kindsWith(key).join(", ")})`,
    );
  }
  const given = (key: (typeof OWN)[typeof kind][number]): number => {
    const value = config[key];
    if (value !== null) return value;
    throw new UserError(
      "CONFIG_CONTRADICTION",
      `optimizer.kind = ${kind} needs optimizer.${key}, which is null: give it a number`,
    );
  };
  switch (kind) {
    case "sgd":
      return { kind, weightDecay, momentum: given("momentum") };
    case "lars":
      return { kind, weightDecay, momentum: given("momentum"), trustCoefficient: given("trustCoefficient") };
    case "adamw":
      return { kind, weightDecay, beta1: given("beta1"), beta2: given("beta2"), epsilon: given("epsilon") };
  }
}

function kindsWith(key: string): string[] {
  return Object.entries(OWN)
    .filter(([, keys]) => (keys as readonly string[]).includes(key))
    .map(([kind]) => kind);
}

export function isOptimizerKind(kind: string): kind is OptimizerConfig["kind"] {
  return Object.hasOwn(OWN, kind);
}

/** Vectors that the optimizer keeps for each parameter, by PyTorch's names. */
export function optimizerVectors(kind: OptimizerConfig["kind"]): readonly string[] {
  return kind === "adamw" ? ["exp_avg", "exp_avg_sq"] : ["momentum"];
}

const NONE = { momentum: null, trustCoefficient: null, beta1: null, beta2: null, epsilon: null };

/**
 * What a config starts from that asks for another kind of optimizer than its preset's; the learning rate follows the linear
 * scaling rule (Goyal et al. 2017).
 * @param globalBatch W·B
 * @returns dotted keys and values
 */
export function optimizerDefaults(
  kind: OptimizerConfig["kind"],
  { globalBatch, epochs }: { readonly globalBatch: number; readonly epochs: number },
): Readonly<Record<string, unknown>> {
  const scaled = (base: number) => Number(((base * globalBatch) / 256).toPrecision(4));
  /** MoCo v3 warms up for 10 epochs of 100 */
  const warmupEpochs = Math.min(10, epochs / 10);
  const values = {
    /** MoCo's base rate (He et al. 2020) */
    sgd: { ...NONE, learningRate: scaled(0.03), momentum: 0.9, weightDecay: 1e-4, warmupEpochs: 0 },
    /** SimCLR (Chen et al. 2020, appendix B.6), MoCo v3 (Chen, Xie and He 2021, section 4.1 and its code) */
    lars: {
      ...{ ...NONE, learningRate: scaled(0.3), momentum: 0.9, trustCoefficient: 0.001, weightDecay: 1e-6 },
      warmupEpochs,
    },
    /** decay and betas as MoCo v3 trains ViT; DINO's base rate (Caron et al. 2021, section 3.2), fit for short runs */
    adamw: {
      ...{ ...NONE, learningRate: scaled(5e-4), beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weightDecay: 0.1 },
      warmupEpochs,
    },
  }[kind];
  return Object.fromEntries(Object.entries({ kind, ...values }).map(([key, value]) => [`optimizer.${key}`, value]));
}
