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

/** Tar shards: a folder of them, or patterns with brace ranges such as `shards/train-{000000..000009}.tar`. */
export interface WebDatasetSpec {
  readonly kind: "webdataset";
  /** a folder with both splits, where `test` is null; or the training split's shards */
  readonly train: string;
  readonly test: string | null;
}

/** Texts: a file of lines, or JSONL, which is told by the name's end (`.jsonl`, `.ndjson`) or by a field that is named. */
export interface TextSpec {
  readonly kind: "text";
  readonly train: string;
  readonly test: string | null;
  /** field of a record that holds its text; null: `text`, where the file is JSONL */
  readonly textField: string | null;
  /** field that holds its label; null: `label`, where records have it */
  readonly labelField: string | null;
}

/** Pairs of images or of texts, by the files that list them: `.csv`, or JSONL (`.jsonl`, `.ndjson`). */
export interface PairsSpec {
  readonly kind: "pairs";
  readonly train: string;
  readonly test: string | null;
  /** columns, or fields of a record */
  readonly query: string;
  readonly key: string;
  /** may be missing */
  readonly label: string;
}

/** Which of STL-10's files of pictures a training split holds. */
export type Stl10Part = "train" | "unlabeled";

/** Names of the parts that may train, as torchvision has them. */
const STL10_SPLITS = {
  train: ["train"],
  unlabeled: ["unlabeled"],
  "train+unlabeled": ["train", "unlabeled"],
} as const satisfies Record<string, readonly Stl10Part[]>;

/** The folder of STL-10's binary files. */
export interface Stl10Spec {
  readonly kind: "stl10";
  readonly path: string;
  /** what trains, in this order */
  readonly train: readonly Stl10Part[];
}

export type DataSpec =
  | SyntheticSpec
  | WebDatasetSpec
  | TextSpec
  | PairsSpec
  | Stl10Spec
  | { readonly kind: "folder"; readonly path: string }
  | { readonly kind: "cifar10"; readonly path: string }
  | { readonly kind: "cifar100"; readonly path: string };

const SCHEMES = ["synthetic", "folder", "cifar10", "cifar100", "stl10", "webdataset", "text", "pairs"];

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
 * @param spec `synthetic[:classes=10,size=32,train=4000,test=1000,seed=0]`, `folder:PATH`, `cifar10:PATH`,
 * `cifar100:PATH`, `stl10:PATH[,split=train|unlabeled|train+unlabeled]`, `webdataset:SHARDS[,test=SHARDS]`, `text:PATH[,text=FIELD][,label=FIELD][,test=PATH]` or
 * `pairs:FILE[,query=COLUMN][,key=COLUMN][,label=COLUMN][,test=FILE]`
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
    case "cifar100":
      if (rest === "") throw new UserError("DATA_NO_PATH", `data "${spec}" names no path: write ${scheme}:PATH`);
      return { kind: scheme, path: rest };
    case "stl10":
      return parseStl10(rest);
    case "webdataset":
      return parseWebDataset(rest);
    case "text":
      return parseText(rest);
    case "pairs":
      return parsePairs(rest);
    default:
      throw new UserError(
        "DATA_UNKNOWN_SCHEME",
        `data "${spec}" has the unknown scheme "${scheme}": did you mean "${nearestName(scheme, SCHEMES)}"? ` +
          "(synthetic[:classes=N,size=N,train=N,test=N,seed=N], folder:PATH, cifar10:PATH, cifar100:PATH, stl10:PATH[,split=train|unlabeled|train+unlabeled], webdataset:SHARDS[,test=SHARDS], text:PATH[,text=FIELD][,label=FIELD][,test=PATH] or pairs:FILE[,query=COLUMN][,key=COLUMN][,label=COLUMN][,test=FILE])",
      );
  }
}

const TEST_PART = ",test=";

function parseWebDataset(rest: string): WebDatasetSpec {
  const comma = rest.indexOf(TEST_PART);
  const train = comma < 0 ? rest : rest.slice(0, comma);
  const test = comma < 0 ? null : rest.slice(comma + TEST_PART.length);
  if (train === "" || test === "") {
    throw new UserError(
      "DATA_NO_PATH",
      `data "webdataset:${rest}" names no ${train === "" ? "" : "test "}shards: write webdataset:FOLDER or webdataset:PATTERN[,test=PATTERN]`,
    );
  }
  return { kind: "webdataset", train, test };
}

/** Without a name, all pictures train, as is usual for pretraining. */
function parseStl10(rest: string): Stl10Spec {
  const { path, valueOf } = pathAndParameters("stl10", rest, ["split"]);
  const split = valueOf("split") ?? "train+unlabeled";
  if (!Object.hasOwn(STL10_SPLITS, split)) {
    const names = Object.keys(STL10_SPLITS).join(", ");
    throw new UserError("DATA_BAD_PARAMETER", `data "stl10:${rest}" has split="${split}": give one of ${names}`);
  }
  return { kind: "stl10", path, train: STL10_SPLITS[split as keyof typeof STL10_SPLITS] };
}

function parseText(rest: string): TextSpec {
  const { path, valueOf } = pathAndParameters("text", rest, ["text", "label", "test"]);
  return { kind: "text", train: path, test: valueOf("test"), textField: valueOf("text"), labelField: valueOf("label") };
}

function parsePairs(rest: string): PairsSpec {
  const { path, valueOf } = pathAndParameters("pairs", rest, ["query", "key", "label", "test"]);
  const column = (name: "query" | "key" | "label") => valueOf(name) ?? name;
  return {
    ...{ kind: "pairs", train: path, test: valueOf("test") },
    ...{ query: column("query"), key: column("key"), label: column("label") },
  };
}

/** A path may hold commas: a parameter begins where a comma is followed by its name and an equals sign. */
function pathAndParameters<Name extends string>(
  scheme: string,
  rest: string,
  names: readonly Name[],
): { readonly path: string; readonly valueOf: (name: Name) => string | null } {
  const [path, ...assignments] = rest.split(new RegExp(`,(?=(?:${names.join("|")})=)`));
  if (path === "")
    throw new UserError(
      "DATA_NO_PATH",
      `data "${scheme}:${rest}" names no path: write ${scheme}:${scheme === "pairs" ? "FILE" : "PATH"}`,
    );
  const given = new Map<string, string>();
  for (const assignment of assignments) {
    const equals = assignment.indexOf("=");
    const [name, value] = [assignment.slice(0, equals), assignment.slice(equals + 1)];
    if (given.has(name))
      throw new UserError("DATA_REPEATED_PARAMETER", `data "${scheme}:${rest}" gives "${name}" twice: keep one`);
    if (value === "")
      throw new UserError(
        "DATA_BAD_PARAMETER",
        `data "${scheme}:${rest}" has an empty ${name}: name a value, or leave it out`,
      );
    given.set(name, value);
  }
  return { path, valueOf: (name) => given.get(name) ?? null };
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
