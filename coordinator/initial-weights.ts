/** Weights that a run begins with, from a file of the user's (`--init`). */
import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { decodeSafetensors, runFiles, SafetensorsError, type NamedTensor } from "../src/checkpoint/index.js";
import { importWeights, type ImportReport } from "../src/models/import-weights.js";
import type { ParameterLayout } from "../src/models/parameters.js";
import type { EncoderState } from "../src/models/pytorch-layout.js";
import { UserError } from "../src/protocol/errors.js";

export interface InitialWeights {
  /** the whole file */
  readonly bytes: Uint8Array;
  /** hex, of the file */
  readonly sha256: string;
  readonly tensors: readonly NamedTensor[];
}

/** What is told of them when a run begins. */
export interface InitialReport extends ImportReport {
  /** hex, of the file */
  readonly sha256: string;
}

/** @throws UserError `INIT_UNREADABLE`, `INIT_FORMAT` */
export async function readInitialWeights(path: string): Promise<InitialWeights> {
  let bytes: Uint8Array;
  try {
    bytes = await readFile(path);
  } catch (cause) {
    const { message } = cause as Error;
    throw new UserError("INIT_UNREADABLE", `cannot read the weights in ${path}: ${message}; check --init`, { cause });
  }
  try {
    return { bytes, sha256: createHash("sha256").update(bytes).digest("hex"), tensors: decodeSafetensors(bytes) };
  } catch (cause) {
    if (!(cause instanceof SafetensorsError)) throw cause;
    const remedy = "--init wants float32 weights as safetensors (in Python: safetensors.torch.save_file)";
    throw new UserError("INIT_FORMAT", `${path} cannot be used: ${cause.message}; ${remedy}`, { cause });
  }
}

/**
 * The weights that a run was begun with: its own copy of the file.
 * @param asked the file that a resumption names; undefined: it names none
 * @returns null where it was begun without
 * @throws UserError `RUN_INIT_DIFFERS` where another file is named
 */
export async function storedInitialWeights(
  runDirectory: string,
  asked: InitialWeights | null,
): Promise<InitialWeights | null> {
  const { init } = runFiles(runDirectory);
  const stored = await readInitialWeights(init).catch((error: unknown) => {
    if (error instanceof UserError && (error.cause as NodeJS.ErrnoException).code === "ENOENT") return null;
    throw error;
  });
  if (asked !== null && asked.sha256 !== stored?.sha256) {
    const begun = stored === null ? "drawn weights" : `weights of sha256 ${stored.sha256.slice(0, 12)}`;
    throw new UserError(
      "RUN_INIT_DIFFERS",
      `${runDirectory} was begun with ${begun}, and --init names sha256 ${asked.sha256.slice(0, 12)}: leave it out to ` +
        "resume, or start a new run with another --out",
    );
  }
  return stored;
}

/**
 * @param start the state at step 0 without imported weights
 * @throws UserError `INIT_MISMATCH` where nothing fits, or a shape does not
 */
export function initialisedBy(
  { tensors, sha256 }: InitialWeights,
  layout: ParameterLayout,
  start: EncoderState,
): { readonly state: EncoderState; readonly report: InitialReport } {
  const { state, report } = importWeights(layout, start, tensors);
  const { matched, mismatched, missing } = report;
  if (mismatched.length > 0) {
    const [{ name, wanted, given }] = mismatched;
    throw new UserError(
      "INIT_MISMATCH",
      `--init: ${name} has shape [${given.join(", ")}], and the encoder wants float32 [${wanted.join(", ")}] ` +
        `(${mismatched.length} such): choose --encoder and model.stem as the weights have them`,
    );
  }
  if (matched.length === 0) {
    throw new UserError(
      "INIT_MISMATCH",
      `--init: none of its ${tensors.length} tensors is the encoder's (it looks for ${missing[0]}): are these the weights ` +
        "of another architecture?",
    );
  }
  return { state, report: { ...report, sha256 } };
}
