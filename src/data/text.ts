/** Texts as a data set: a file of lines, or of JSON records, a line each (JSONL). */
import { isUtf8 } from "node:buffer";
import { readFile } from "node:fs/promises";
import { basename } from "node:path";
import { UserError } from "../protocol/errors.js";
import type { Split, TextDataset, TextSource } from "./dataset.js";
import { fileErrorCode } from "./file-error.js";
import { hashOfLines } from "./manifest.js";
import type { TextSpec } from "./spec.js";

/** What a line holds. */
interface Entry {
  readonly text: string;
  /** null where it has none */
  readonly label: string | null;
}

/** Reads a line; null where it holds no text. @throws UserError */
type ReadLine = (line: string, name: string) => Entry | null;

/** A file whose lines have been read once. It stays in memory as it is, and a line is read again when it is asked for. */
interface ReadFile {
  readonly name: string;
  readonly bytes: Buffer;
  /** `[samples]` offsets of the samples' lines */
  readonly starts: readonly number[];
  /** `[samples]`, from 1 */
  readonly lineNumbers: readonly number[];
  readonly labels: readonly (string | null)[];
  readonly emptyLines: number;
}

const LINE_BREAK = 0x0a;
const BYTE_ORDER_MARK = "\uFEFF";
const DEFAULT_FIELD = { text: "text", label: "label" } as const;

/**
 * Both files stay in memory, at most 2 GiB each. Lines without text are left out, and counted.
 * @throws UserError `DATA_UNREADABLE`, `DATA_NOT_UTF8`, `DATA_BAD_RECORD`, `DATA_NO_TEXTS`, `DATA_MIXED_LABELS`, `DATA_UNKNOWN_CLASS`
 */
export async function openText(spec: TextSpec): Promise<TextDataset> {
  const train = await readSplit(spec.train, spec);
  if (train.labels.length === 0) throw new UserError("DATA_NO_TEXTS", `file "${spec.train}" holds no texts`);
  const test = spec.test === null ? null : await readSplit(spec.test, spec);
  refuseMixed(test === null ? [train] : [train, test]);
  const classes = classesOf(train.labels);
  const splits = {
    train: new LineSource(train, labelsOf(train, classes), lineReader(spec.train, spec)),
    test:
      test === null
        ? NO_TEXTS
        : new LineSource(test, labelsOf(test, classes), lineReader(spec.test ?? spec.train, spec)),
  };
  return { modality: "text", classes, splits, manifestHash: hashOfLines("text", listing(splits, classes)) };
}

async function readSplit(path: string, spec: TextSpec): Promise<ReadFile> {
  const bytes = await readFile(path).catch((cause: unknown) => {
    throw new UserError("DATA_UNREADABLE", `file "${path}" cannot be read (${fileErrorCode(cause)}): check the path`, {
      cause,
    });
  });
  if (!isUtf8(bytes)) throw new UserError("DATA_NOT_UTF8", `file "${path}" is not UTF-8: convert it, e.g. with iconv`);
  const read = lineReader(path, spec);
  const [starts, lineNumbers, labels]: [number[], number[], (string | null)[]] = [[], [], []];
  let [start, line, emptyLines] = [0, 0, 0];
  while (start < bytes.length) {
    const lineBreak = bytes.indexOf(LINE_BREAK, start);
    const end = lineBreak < 0 ? bytes.length : lineBreak;
    line++;
    const entry = read(bytes.toString("utf8", start, end), `line ${line} of "${path}"`);
    if (entry === null) emptyLines++;
    else {
      starts.push(start);
      lineNumbers.push(line);
      labels.push(entry.label);
    }
    start = end + 1;
  }
  return { name: basename(path), bytes, starts, lineNumbers, labels, emptyLines };
}

function lineReader(path: string, { textField, labelField }: TextSpec): ReadLine {
  const isRecords = textField !== null || labelField !== null || /\.(jsonl|ndjson)$/i.test(path);
  if (!isRecords) return (line) => entryOf(line, null);
  return (line, name) => {
    if (clean(line) === "") return null;
    const record = recordIn(line, name);
    const field = textField ?? DEFAULT_FIELD.text;
    const text = record[field];
    if (typeof text !== "string") {
      const found = text === undefined ? "is missing" : `is ${JSON.stringify(text)}`;
      throw new UserError("DATA_BAD_RECORD", `field "${field}" of ${name} ${found}: a string is wanted there`);
    }
    return entryOf(text, labelIn(record, labelField ?? DEFAULT_FIELD.label, name));
  };
}

function entryOf(text: string, label: string | null): Entry | null {
  const cleaned = clean(text);
  return cleaned === "" ? null : { text: cleaned, label };
}

/** Without blanks around it, and without the mark that some editors put in front of a file. */
function clean(text: string): string {
  return (text.startsWith(BYTE_ORDER_MARK) ? text.slice(1) : text).trim();
}

function recordIn(line: string, name: string): Readonly<Record<string, unknown>> {
  let value: unknown;
  try {
    value = JSON.parse(clean(line));
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new UserError("DATA_BAD_RECORD", `${name} is no JSON: ${reason.split("\n")[0]}`, { cause });
  }
  if (typeof value === "object" && value !== null && !Array.isArray(value)) return { ...value };
  throw new UserError("DATA_BAD_RECORD", `${name} is no JSON object: write each as {"text": "…", "label": "…"}`);
}

function labelIn(record: Readonly<Record<string, unknown>>, field: string, name: string): string | null {
  const label = record[field] ?? null;
  if (label === null) return null;
  if (typeof label === "string") return label;
  if (typeof label === "number" && Number.isSafeInteger(label)) return String(label);
  throw new UserError(
    "DATA_BAD_RECORD",
    `field "${field}" of ${name} is ${JSON.stringify(label)}: a string or a whole number is wanted there`,
  );
}

function refuseMixed(files: readonly ReadFile[]): void {
  const lineWhere = (holds: (label: string | null) => boolean) =>
    files.flatMap((file) => {
      const index = file.labels.findIndex(holds);
      return index < 0 ? [] : [nameOf(file, index)];
    });
  const [labelled] = lineWhere((label) => label !== null);
  const [unlabelled] = lineWhere((label) => label === null);
  if (labelled === undefined || unlabelled === undefined) return;
  throw new UserError(
    "DATA_MIXED_LABELS",
    `${labelled} has a label and ${unlabelled} has none: label all texts or none`,
  );
}

/** By number where all are whole numbers, by code point otherwise; empty where there are none. */
function classesOf(labels: readonly (string | null)[]): string[] {
  const names = [...new Set(labels)].filter((label) => label !== null);
  const isNumbered = names.every((name) => /^-?\d+$/.test(name));
  return isNumbered ? names.sort((a, b) => Number(a) - Number(b)) : names.sort();
}

function labelsOf(file: ReadFile, classes: readonly string[]): Int32Array {
  const numbers = new Map<string | null, number>(classes.map((name, number) => [name, number]));
  numbers.set(null, -1);
  return Int32Array.from(file.labels, (label, index) => {
    const number = numbers.get(label);
    if (number !== undefined) return number;
    throw new UserError(
      "DATA_UNKNOWN_CLASS",
      `${nameOf(file, index)} has the label ${JSON.stringify(label)}, which no training text has: check the labels`,
    );
  });
}

function* listing(splits: TextDataset["splits"], classes: readonly string[]): Generator<string> {
  yield JSON.stringify(classes);
  for (const split of ["train", "test"] as const satisfies readonly Split[]) {
    const source = splits[split];
    for (let index = 0; index < source.length; index++)
      yield JSON.stringify([split, source.labels[index], source.text(index)]);
  }
}

/** Without its folder, so that workers with other mount points give the same name. */
function nameOf({ name, lineNumbers }: ReadFile, index: number): string {
  return `${name}:${lineNumbers[index]}`;
}

class LineSource implements TextSource {
  readonly length: number;
  readonly emptyLines: number;

  constructor(
    private readonly file: ReadFile,
    readonly labels: Int32Array,
    private readonly read: ReadLine,
  ) {
    this.length = labels.length;
    this.emptyLines = file.emptyLines;
  }

  nameOf(index: number): string {
    return nameOf(this.file, index);
  }

  text(index: number): string {
    const { bytes, starts } = this.file;
    const start = starts[index];
    const lineBreak = bytes.indexOf(LINE_BREAK, start);
    const entry = this.read(
      bytes.toString("utf8", start, lineBreak < 0 ? bytes.length : lineBreak),
      this.nameOf(index),
    );
    if (entry === null) throw new Error(`${this.nameOf(index)} held a text and no longer does`);
    return entry.text;
  }
}

const NO_TEXTS: TextSource = {
  length: 0,
  labels: new Int32Array(0),
  emptyLines: 0,
  nameOf: (index) => `text ${index}`,
  text: (index) => {
    throw new RangeError(`there is no text ${index}`);
  },
};
