/** Labels as files give them, in words: checked, and numbered. */
import { UserError } from "../protocol/errors.js";

/** The labels of a file's samples. */
export interface NamedLabels {
  /** null where a sample has none */
  readonly labels: readonly (string | null)[];
  /** what to call a sample in a message */
  nameOf(index: number): string;
}

/**
 * @param what the samples are, in the plural
 * @throws UserError `DATA_MIXED_LABELS` where some have labels and some have none
 */
export function refuseMixedLabels(files: readonly NamedLabels[], what: string): void {
  const lineWhere = (holds: (label: string | null) => boolean) =>
    files.flatMap((file) => {
      const index = file.labels.findIndex(holds);
      return index < 0 ? [] : [file.nameOf(index)];
    });
  const [labelled] = lineWhere((label) => label !== null);
  const [unlabelled] = lineWhere((label) => label === null);
  if (labelled === undefined || unlabelled === undefined) return;
  throw new UserError(
    "DATA_MIXED_LABELS",
    `${labelled} has a label and ${unlabelled} has none: label all ${what} or none`,
  );
}

/** Names by label: by number where all are whole numbers, by code point otherwise; empty where there are none. */
export function classesOf(labels: readonly (string | null)[]): string[] {
  const names = [...new Set(labels)].filter((label) => label !== null);
  const isNumbered = names.every((name) => /^-?\d+$/.test(name));
  return isNumbered ? names.sort((a, b) => Number(a) - Number(b)) : names.sort();
}

/**
 * @param what a sample is, in the singular
 * @returns int32 `[samples]`, −1 where there is none
 * @throws UserError `DATA_UNKNOWN_CLASS` for a label that is not among the classes
 */
export function numberedLabels(file: NamedLabels, classes: readonly string[], what: string): Int32Array {
  const numbers = new Map<string | null, number>(classes.map((name, number) => [name, number]));
  numbers.set(null, -1);
  return Int32Array.from(file.labels, (label, index) => {
    const number = numbers.get(label);
    if (number !== undefined) return number;
    throw new UserError(
      "DATA_UNKNOWN_CLASS",
      `${file.nameOf(index)} has the label ${JSON.stringify(label)}, which no training ${what} has: check the labels`,
    );
  });
}
