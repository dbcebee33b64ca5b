/** Files of records, a line each: what is common to texts and to pairs. */
import { isUtf8 } from "node:buffer";
import { readFile } from "node:fs/promises";
import { UserError } from "../protocol/errors.js";
import { fileErrorCode } from "./file-error.js";

const BYTE_ORDER_MARK = "\uFEFF";

/** A record as JSON gives it. */
export type JsonRecord = Readonly<Record<string, unknown>>;

/** A whole file, at most 2 GiB. @throws UserError `DATA_UNREADABLE`, `DATA_NOT_UTF8` */
export async function readUtf8File(path: string): Promise<Buffer> {
  const bytes = await readFile(path).catch((cause: unknown) => {
    throw new UserError("DATA_UNREADABLE", `file "${path}" cannot be read (${fileErrorCode(cause)}): check the path`, {
      cause,
    });
  });
  if (isUtf8(bytes)) return bytes;
  throw new UserError("DATA_NOT_UTF8", `file "${path}" is not UTF-8: convert it, e.g. with iconv`);
}

/** Without blanks around it, and without the mark that some editors put in front of a file. */
export function clean(text: string): string {
  return (text.startsWith(BYTE_ORDER_MARK) ? text.slice(1) : text).trim();
}

/**
 * @param name what to call the line in a message
 * @param example of such a record
 * @throws UserError `DATA_BAD_RECORD` where the line is no JSON object
 */
export function recordIn(line: string, name: string, example: string): JsonRecord {
  let value: unknown;
  try {
    value = JSON.parse(clean(line));
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new UserError("DATA_BAD_RECORD", `${name} is no JSON: ${reason.split("\n")[0]}`, { cause });
  }
  if (typeof value === "object" && value !== null && !Array.isArray(value)) return { ...value };
  throw new UserError("DATA_BAD_RECORD", `${name} is no JSON object: write each as ${example}`);
}

/** @throws UserError `DATA_BAD_RECORD` where the field is missing or no string */
export function stringIn(record: JsonRecord, field: string, name: string): string {
  const value = record[field];
  if (typeof value === "string") return value;
  const found = value === undefined ? "is missing" : `is ${JSON.stringify(value)}`;
  throw new UserError("DATA_BAD_RECORD", `field "${field}" of ${name} ${found}: a string is wanted there`);
}

/** Null where there is none. @throws UserError `DATA_BAD_RECORD` where it is neither a string nor a whole number */
export function labelIn(record: JsonRecord, field: string, name: string): string | null {
  const label = record[field] ?? null;
  if (label === null) return null;
  if (typeof label === "string") return label;
  if (typeof label === "number" && Number.isSafeInteger(label)) return String(label);
  throw new UserError(
    "DATA_BAD_RECORD",
    `field "${field}" of ${name} is ${JSON.stringify(label)}: a string or a whole number is wanted there`,
  );
}
