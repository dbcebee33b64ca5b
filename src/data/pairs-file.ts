/** A file that lists pairs, a line each: CSV with a header (RFC 4180), or JSONL. */
import { basename } from "node:path";
import { CsvError, parse as parseCsv } from "csv-parse/sync";
import { UserError } from "../protocol/errors.js";
import type { NamedLabels } from "./class-labels.js";
import { clean, labelIn, readUtf8File, recordIn, stringIn } from "./records.js";
import type { PairsSpec } from "./spec.js";

/** The file's columns, one row a pair. */
export interface PairsFile extends NamedLabels {
  readonly path: string;
  /** `[pairs]` as they stand there, without blanks around them; none is empty */
  readonly queries: readonly string[];
  readonly keys: readonly string[];
  /** What to call a row in a message, with the file's whole path. */
  lineOf(index: number): string;
}

/** What a row holds, as far as it is wanted. */
interface Row {
  readonly line: number;
  readonly query: string;
  readonly key: string;
  readonly label: string | null;
}

type Columns = Pick<PairsSpec, "query" | "key" | "label">;

/**
 * @throws UserError `DATA_PAIRS_FORMAT`, `DATA_UNREADABLE`, `DATA_NOT_UTF8`, `DATA_NO_PAIRS`, `DATA_MISSING_COLUMN`, `DATA_BAD_RECORD`
 */
export async function readPairsFile(path: string, columns: Columns): Promise<PairsFile> {
  const readRows = formatOf(path);
  const rows = readRows(await readUtf8File(path), path, columns);
  if (rows.length === 0) throw new UserError("DATA_NO_PAIRS", `file "${path}" holds no pairs: list one a line`);
  for (const { line, ...row } of rows) {
    const empty = (["query", "key"] as const).find((side) => row[side] === "");
    if (empty !== undefined)
      throw badRecord(`column "${columns[empty]}" of line ${line} of "${path}" is empty: a path or a text is wanted`);
  }
  const name = basename(path);
  return {
    path,
    queries: rows.map(({ query }) => query),
    keys: rows.map(({ key }) => key),
    labels: rows.map(({ label }) => label),
    nameOf: (index) => `${name}:${rows[index].line}`,
    lineOf: (index) => `line ${rows[index].line} of "${path}"`,
  };
}

function formatOf(path: string): (bytes: Buffer, path: string, columns: Columns) => Row[] {
  if (/\.csv$/i.test(path)) return csvRows;
  if (/\.(jsonl|ndjson)$/i.test(path)) return jsonRows;
  throw new UserError("DATA_PAIRS_FORMAT", `file "${path}" lists pairs, so its name must end in .csv or .jsonl`);
}

/** Blank lines are left out, and columns that nobody asks for. A record of several lines goes by its last. */
function csvRows(bytes: Buffer, path: string, columns: Columns): Row[] {
  const rows: Row[] = [];
  let header: string[] | null = null;
  let places: Readonly<Record<keyof Columns, number>> | null = null;
  const onRecord = (fields: string[], line: number): void => {
    if (header === null || places === null) {
      header = fields.map(clean);
      places = placesOf(header, columns, `line ${line} of "${path}"`);
      return;
    }
    const label = places.label < 0 ? "" : clean(fields[places.label]);
    rows.push({
      ...{ line, query: clean(fields[places.query]), key: clean(fields[places.key]) },
      label: label === "" ? null : label,
    });
  };
  try {
    parseCsv(bytes, {
      bom: true,
      record_delimiter: ["\r\n", "\n"],
      skip_empty_lines: true,
      on_record: (fields: string[], { lines }) => {
        onRecord(fields, lines);
        return null;
      },
    });
  } catch (error) {
    if (error instanceof CsvError) throw csvRefusal(error, path, header);
    throw error;
  }
  return rows;
}

function placesOf(header: readonly string[], columns: Columns, name: string): Readonly<Record<keyof Columns, number>> {
  const place = (side: "query" | "key"): number => {
    const index = header.indexOf(columns[side]);
    if (index >= 0) return index;
    throw new UserError(
      "DATA_MISSING_COLUMN",
      `${name} names no column "${columns[side]}" (it names ${header.map((column) => `"${column}"`).join(", ")}): ` +
        `head the file with query,key, or add ,${side}=COLUMN to the data`,
    );
  };
  return { query: place("query"), key: place("key"), label: header.indexOf(columns.label) };
}

/** The library's refusal as one line with its remedy. */
function csvRefusal(error: CsvError, path: string, header: readonly string[] | null): UserError {
  const { code, lines, record } = error;
  const name = `line ${String(lines)} of "${path}"`;
  if (code === "CSV_RECORD_INCONSISTENT_FIELDS_LENGTH" && Array.isArray(record) && header !== null) {
    const wanted = `${header.length} (${header.join(", ")})`;
    return badRecord(
      `${name} has ${record.length} ${record.length === 1 ? "field" : "fields"}, and the header ${wanted}: ` +
        `complete the line, and put fields with a comma in double quotes`,
      error,
    );
  }
  const reason = code === "CSV_QUOTE_NOT_CLOSED" ? "a double quote is open to the end" : error.message.split(":")[0];
  return badRecord(`${name} is no CSV: ${reason}; double a quote within a field, and put the field in quotes`, error);
}

const EXAMPLE = '{"query": "…", "key": "…"}';

/** Blank lines are left out. */
function jsonRows(bytes: Buffer, path: string, columns: Columns): Row[] {
  const rows: Row[] = [];
  let start = 0;
  for (let line = 1; start < bytes.length; line++) {
    const lineBreak = bytes.indexOf("\n", start);
    const end = lineBreak < 0 ? bytes.length : lineBreak;
    const content = bytes.toString("utf8", start, end);
    start = end + 1;
    if (clean(content) === "") continue;
    const name = `line ${line} of "${path}"`;
    const record = recordIn(content, name, EXAMPLE);
    const [query, key] = [columns.query, columns.key].map((field) => clean(stringIn(record, field, name)));
    rows.push({ line, query, key, label: labelIn(record, columns.label, name) });
  }
  return rows;
}

function badRecord(message: string, cause?: unknown): UserError {
  return new UserError("DATA_BAD_RECORD", message, { cause });
}
