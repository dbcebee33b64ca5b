/** Texts as a data set: a file of lines, or of JSON records, a line each (JSONL). */
import { basename } from "node:path";
import { UserError } from "../protocol/errors.js";
import { classesOf, numberedLabels, refuseMixedLabels, type NamedLabels } from "./class-labels.js";
import type { Split, TextDataset, TextSource } from "./dataset.js";
import { hashOfLines } from "./manifest.js";
import { clean, labelIn, readUtf8File, recordIn, stringIn } from "./records.js";
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
const EXAMPLE = '{"text": "…", "label": "…"}';
const DEFAULT_FIELD = { text: "text", label: "label" } as const;

/**
 * Both files stay in memory, at most 2 GiB each. Lines without text are left out, and counted.
 * @throws UserError `DATA_UNREADABLE`, `DATA_NOT_UTF8`, `DATA_BAD_RECORD`, `DATA_NO_TEXTS`, `DATA_MIXED_LABELS`, `DATA_UNKNOWN_CLASS`
 */
export async function openText(spec: TextSpec): Promise<TextDataset> {
  const train = await readSplit(spec.train, spec);
  if (train.labels.length === 0) throw new UserError("DATA_NO_TEXTS", `file "${spec.train}" holds no texts`);
  const test = spec.test === null ? null : await readSplit(spec.test, spec);
  refuseMixedLabels([train, ...(test === null ? [] : [test])].map(labelsIn), "texts");
  const classes = classesOf(train.labels);
  const splits = {
    train: new LineSource(train, numberedLabels(labelsIn(train), classes, "text"), lineReader(spec.train, spec)),
    test:
      test === null
        ? NO_TEXTS
        : new LineSource(
            test,
            numberedLabels(labelsIn(test), classes, "text"),
            lineReader(spec.test ?? spec.train, spec),
          ),
  };
  return { modality: "text", classes, splits, manifestHash: hashOfLines("text", listing(splits, classes)) };
}

async function readSplit(path: string, spec: TextSpec): Promise<ReadFile> {
  const bytes = await readUtf8File(path);
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
    const record = recordIn(line, name, EXAMPLE);
    const text = stringIn(record, textField ?? DEFAULT_FIELD.text, name);
    return entryOf(text, labelIn(record, labelField ?? DEFAULT_FIELD.label, name));
  };
}

function entryOf(text: string, label: string | null): Entry | null {
  const cleaned = clean(text);
  return cleaned === "" ? null : { text: cleaned, label };
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

function labelsIn(file: ReadFile): NamedLabels {
  return { labels: file.labels, nameOf: (index) => nameOf(file, index) };
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
