/** The data `SPEC` of the command line and the config: a scheme and where or what the samples are. */
import { nearestName } from "../config/nearest-name.js";
import { UserError } from "../protocol/errors.js";

export interface SyntheticSpec {
  readonly kind: "synthetic";
  /** number of classes, 2 to 20 */
  readonly classes: number;
  /** side of the drawn square in pixels, 16 to 256 */
  readonly size: number;
  /** number of training samples */
  readonly train: number;
  /** number of test samples */
  readonly test: number;
  /** seed of the drawings, apart from the run's seed */
  readonly seed: number;
}

export type DataSpec =
  | SyntheticSpec
  | { readonly kind: "folder"; readonly path: string }
  | { readonly kind: "cifar10"; readonly path: string };

const SCHEMES = ["synthetic", "folder", "cifar10"];

/** Default, least and greatest value of each parameter of `synthetic`. */
const SYNTHETIC_PARAMETERS = {
  classes: { default: 10, least: 2, greatest: 20 },
  size: { default: 32, least: 16, greatest: 256 },
  train: { default: 4000, least: 1, greatest: 10_000_000 },
  test: { default: 1000, least: 0, greatest: 10_000_000 },
  seed: { default: 0, least: 0, greatest: Number.MAX_SAFE_INTEGER },
} as const;
type SyntheticParameter = keyof typeof SYNTHETIC_PARAMETERS;

/**
 * @param spec `synthetic[:classes=10,size=32,train=4000,test=1000,seed=0]`, `folder:PATH` or `cifar10:PATH`
 * @throws UserError `DATA_UNKNOWN_SCHEME`, `DATA_NO_PATH`, `DATA_UNKNOWN_PARAMETER`, `DATA_REPEATED_PARAMETER`, `DATA_BAD_PARAMETER`
 */
export function parseDataSpec(spec: string): DataSpec {
  const colon = spec.indexOf(":");
  const scheme = colon < 0 ? spec : spec.slice(0, colon);
  const rest = colon < 0 ? "" : spec.slice(colon + 1);
  switch (scheme) {
    case "synthetic":
      return parseSynthetic(rest);
    case "folder":
    case "cifar10":
      if (rest === "") throw new UserError("DATA_NO_PATH", `data "${spec}" names no path: write ${scheme}:PATH`);
      return { kind: scheme, path: rest };
    default:
      throw new UserError(
        "DATA_UNKNOWN_SCHEME",
        `data "${spec}" has the unknown scheme "${scheme}": did you mean "${nearestName(scheme, SCHEMES)}"? ` +
          "(synthetic[:classes=N,size=N,train=N,test=N,seed=N], folder:PATH or cifar10:PATH)",
      );
  }
}

function parseSynthetic(rest: string): SyntheticSpec {
  const given = new Map<SyntheticParameter, number>();
  for (const assignment of rest === "" ? [] : rest.split(",")) {
    const [name, ...values] = assignment.split("=");
    const value = values.join("=");
    if (!isSyntheticParameter(name)) {
      const nearest = nearestName(name, Object.keys(SYNTHETIC_PARAMETERS));
      throw new UserError(
        "DATA_UNKNOWN_PARAMETER",
        `data "synthetic" has no parameter "${name}": did you mean "${nearest}"? (${Object.keys(SYNTHETIC_PARAMETERS).join(", ")})`,
      );
    }
    if (given.has(name))
      throw new UserError("DATA_REPEATED_PARAMETER", `data "synthetic" gives "${name}" twice: keep one`);
    const { least, greatest } = SYNTHETIC_PARAMETERS[name];
    const number = Number(value);
    if (!/^\d+$/.test(value) || number < least || number > greatest) {
      throw new UserError(
        "DATA_BAD_PARAMETER",
        `data "synthetic" has ${name}="${value}": give a whole number from ${least} to ${greatest}`,
      );
    }
    given.set(name, number);
  }
  const valueOf = (name: SyntheticParameter) => given.get(name) ?? SYNTHETIC_PARAMETERS[name].default;
  return {
    kind: "synthetic",
    classes: valueOf("classes"),
    size: valueOf("size"),
    train: valueOf("train"),
    test: valueOf("test"),
    seed: valueOf("seed"),
  };
}

function isSyntheticParameter(name: string): name is SyntheticParameter {
  return Object.hasOwn(SYNTHETIC_PARAMETERS, name);
}
