/** `tandem data inspect`: what a data set holds, in numbers and as a sheet of views. */
import { writeFile } from "node:fs/promises";
import { availableParallelism } from "node:os";
import type { CommandModule } from "yargs";
import {
  inspectDataset,
  nativeSide,
  openDataset,
  parseDataSpec,
  type DatasetReport,
  type ImageSplitReport,
  type Split,
  type Spread,
  type TextSplitReport,
} from "../../data/index.js";
import { UserError } from "../../protocol/errors.js";
import { configOf, once, pathOf, withRunOptions, type RunArguments } from "../run-options.js";

interface InspectArguments extends RunArguments {
  readonly spec: string;
  readonly sample: number;
  readonly sheet: string | undefined;
  readonly rows: number;
  readonly pairs: number;
  readonly json: boolean;
}

/** Cells of a sheet at most: it is for looking at. */
const MOST_ROWS = 100;
const MOST_PAIRS = 20;
/** Classes that are listed one by one; of more, the rarest and the most frequent. */
const CLASSES_SHOWN = 20;
const NAMES_SHOWN = 5;

export const inspectCommand: CommandModule<object, InspectArguments> = {
  command: "inspect <spec>",
  describe:
    "Counts, labels, sizes of pictures or texts, and manifest hash of a data set; --sheet draws augmented views",
  builder: (yargs) =>
    withRunOptions(
      yargs.positional("spec", { type: "string", demandOption: true, describe: "A data set, as --data takes it" }),
      ["preset", "config", "set", "method", "seed"],
    )
      .option("sample", {
        type: "number",
        default: 500,
        requiresArg: true,
        describe: "Pictures of each split that are decoded for sizes and faults",
      })
      .option("sheet", {
        type: "string",
        requiresArg: true,
        describe: "Write a PNG: per row a picture, and its query and key views of the first epochs under the config",
      })
      .option("rows", { type: "number", default: 8, requiresArg: true, describe: "Pictures on the sheet" })
      .option("pairs", { type: "number", default: 3, requiresArg: true, describe: "Epochs on the sheet" })
      .option("json", { type: "boolean", default: false, describe: "Print one JSON object" })
      .example("$0 data inspect folder:photos --sample 100000", "Decode everything, and name what cannot be")
      .example("$0 data inspect cifar10:data --sheet views.png --preset cifar10 --method simclr", "SimCLR's views"),
  handler: async (given) => {
    const { spec, sample, rows, pairs } = given;
    for (const [name, value, most] of [
      ["sample", sample, Infinity],
      ["rows", rows, MOST_ROWS],
      ["pairs", pairs, MOST_PAIRS],
    ] as const) {
      if (!Number.isInteger(once(name, value)) || value < (name === "sample" ? 0 : 1) || value > most) {
        const range = most === Infinity ? "from 0 on" : `from 1 to ${most}`;
        throw new UserError("USAGE", `--${name} ${value}: give a whole number ${range}`);
      }
    }
    const config = await configOf(given, null);
    const sheet = pathOf("--sheet", given.sheet);
    const dataset = await openDataset(once("the data set", spec), { decodeSize: config.data.decodeSize });
    if (sheet !== undefined) {
      if (dataset.modality === "text")
        throw new UserError("USAGE", `--sheet draws pictures, and ${spec} holds texts: leave it out`);
      const { configureEngine } = await import("../../engine/environment.js");
      configureEngine({ threads: availableParallelism() });
      // Only now: the engine reads its environment when it loads.
      const { contactSheet } = await import("../../data/contact-sheet.js");
      const picture = await contactSheet(dataset, config, { rows, pairs });
      await writeFile(sheet, picture).catch((cause: unknown) => {
        throw new UserError("OUT_UNWRITABLE", `sheet "${sheet}" cannot be written: ${String(cause)}`, { cause });
      });
    }
    const report = await inspectDataset(dataset, nativeSide(parseDataSpec(spec)), sample);
    process.stdout.write(
      given.json ? `${JSON.stringify({ spec, ...report, sheet: sheet ?? null })}\n` : text(spec, report, sheet),
    );
  },
};

function text(spec: string, report: DatasetReport, sheet: string | undefined): string {
  const { manifestHash, classes } = report;
  const lines: [string, string][] = [
    ["data", spec],
    ["manifest", manifestHash],
    ["classes", classes.length === 0 ? "none: no labels" : String(classes.length)],
  ];
  for (const split of ["train", "test"] as const) {
    const { labels } = report.splits[split];
    lines.push([split, countLine(report, split)]);
    if (labels !== null) lines.push(["", labelLine(labels) + unlabelledPart(report, split)]);
    const ofPairs = report.keys === undefined ? "" : "queries: ";
    for (const detail of details(report, "splits", split)) lines.push(["", ofPairs + detail]);
    for (const detail of details(report, "keys", split)) lines.push(["", `keys: ${detail}`]);
  }
  if (sheet !== undefined)
    lines.push(["sheet", `${sheet}: ${pictures(report)}, then query and key view of epoch 0, of epoch 1, …`]);
  return lines.map(([name, value]) => `${name.padEnd(10)} ${value}\n`).join("");
}

function pictures({ keys }: DatasetReport): string {
  return keys === undefined ? "picture" : "the pair's two pictures";
}

/** Behind the labels, of a split whose samples have not all one. */
function unlabelledPart(report: DatasetReport, split: Split): string {
  const { labels } = report.splits[split];
  const labelled = Object.values(labels ?? {}).reduce((sum, count) => sum + count, 0);
  const unlabelled = countOf(report, split) - labelled;
  return unlabelled === 0 ? "" : `; ${unlabelled} without label`;
}

function countOf(report: DatasetReport, split: Split): number {
  return report.modality === "image" ? report.splits[split].images : report.splits[split].texts;
}

function countLine(report: DatasetReport, split: Split): string {
  const count = countOf(report, split);
  const what = `${report.modality}s`;
  return report.keys === undefined ? `${count} ${what}` : `${count} pairs of ${what}`;
}

/** Beyond the count; none where there is no such side. */
function details(report: DatasetReport, side: "splits" | "keys", split: Split): string[] {
  if (report.modality === "image") {
    const sources = report[side];
    return sources === undefined ? [] : imageDetails(sources[split]);
  }
  const sources = report[side];
  return sources === undefined ? [] : textDetails(sources[split]);
}

function imageDetails(report: ImageSplitReport): string[] {
  const lines = report.looked > 0 ? [sizeLine(report)] : [];
  if (report.corrupt.length > 0) {
    const more = report.corrupt.length > NAMES_SHOWN ? ", …" : "";
    const names = report.corrupt.slice(0, NAMES_SHOWN).join(", ");
    lines.push(`${report.corrupt.length} of them cannot be decoded: ${names}${more}`);
  }
  return lines;
}

function textDetails({ characters, emptyLines }: TextSplitReport): string[] {
  const lines = characters === null ? [] : [`${range(characters)} characters`];
  if (emptyLines > 0) lines.push(`${emptyLines} lines without text are left out`);
  return lines;
}

function range({ min, median, max }: Spread): string {
  return min === max ? String(min) : `${min} to ${max} (median ${median})`;
}

function labelLine(labels: Readonly<Record<string, number>>): string {
  const counts = Object.entries(labels);
  const shown = (entries: typeof counts) => entries.map(([name, count]) => `${name} ${count}`).join(", ");
  if (counts.length <= CLASSES_SHOWN) return shown(counts);
  const sorted = [...counts].sort(([, a], [, b]) => a - b);
  const least = sorted[0][1];
  const most = sorted[sorted.length - 1][1];
  if (least === most) return `${least} of each class`;
  return `rarest ${shown(sorted.slice(0, NAMES_SHOWN))}; most frequent ${shown(sorted.slice(-NAMES_SHOWN).reverse())}`;
}

function sizeLine({ looked, width, height, formats }: ImageSplitReport): string {
  if (width === null || height === null) return `${looked} looked at: none can be decoded`;
  const kinds = Object.entries(formats).map(([format, count]) => `${format} ${count}`);
  return `${looked} looked at: width ${range(width)}, height ${range(height)} pixels; ${kinds.join(", ")}`;
}
