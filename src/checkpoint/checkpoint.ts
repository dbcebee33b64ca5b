/**
 * Checkpoints on disk: `checkpoints/step-N/` with one safetensors file a group, `checkpoint.json`, and
 * `checkpoint.sha256`, which lists the digests of all of these (`sha256sum -c` reads it). A checkpoint is whole and
 * verified, or it is not there: it is written under a temporary name, synced, and renamed.
 */
import { createHash, randomBytes } from "node:crypto";
import { mkdir, readdir, readFile, rename, rm } from "node:fs/promises";
import { basename, join } from "node:path";
import { z } from "zod";
import { UserError } from "../protocol/errors.js";
import { renameSynced, syncDirectory, writeSynced } from "./durable.js";
import { prunable } from "./retention.js";
import { decodeSafetensors, encodeSafetensors, SafetensorsError, type NamedTensor } from "./safetensors.js";
import {
  CHECKPOINT_GROUPS,
  checkpointMetaSchema,
  digestsOf,
  type CheckpointGroup,
  type CheckpointState,
  type Digests,
} from "./state.js";

const FORMAT_VERSION = 1;
const DESCRIPTION = "checkpoint.json";
const SUMS = "checkpoint.sha256";
const TEMPORARY = ".tmp-";
const FILES = [...CHECKPOINT_GROUPS.map((group) => fileOf(group)), DESCRIPTION] as const;

const descriptionSchema = z.object({
  formatVersion: z.literal(FORMAT_VERSION),
  step: z.number().int().min(0),
  meta: checkpointMetaSchema,
});

function fileOf(group: CheckpointGroup): string {
  return `${group}.safetensors`;
}

function corrupt(path: string, problem: string, cause?: unknown): UserError {
  const remedy = "remove its checkpoint's folder; --resume then takes the one before";
  return new UserError("CHECKPOINT_CORRUPT", `corrupt checkpoint: ${path}: ${problem}; ${remedy}`, { cause });
}

/** Steps of the checkpoints in a run directory, ascending; whether they are whole is not looked at. */
export async function checkpointSteps(runDirectory: string): Promise<number[]> {
  const names = await readdir(join(runDirectory, "checkpoints")).catch((error: unknown) => {
    if (isMissing(error)) return [];
    throw error;
  });
  return names
    .map((name) => /^step-(\d+)$/.exec(name)?.[1])
    .filter((digits) => digits !== undefined)
    .map(Number)
    .sort((a, b) => a - b);
}

export function checkpointDirectory(runDirectory: string, step: number): string {
  return join(runDirectory, "checkpoints", `step-${step}`);
}

/**
 * Writes `state` and removes old checkpoints: the last `keep` stay, and the one with the best kNN accuracy.
 * One process at a time writes into a run directory.
 * @param state its arrays must stay unwritten until the promise settles
 * @returns the checkpoint's directory. A whole one of the same step that is there already is left as it is: state is a
 *   function of config and step, and replacing it would leave a moment without it.
 * @throws UserError `CHECKPOINT_WRITE` where the system refuses, e.g. on a full disk
 */
export async function writeCheckpoint(
  runDirectory: string,
  state: CheckpointState,
  options: { readonly keep: number },
): Promise<string> {
  try {
    return await store(runDirectory, state, options);
  } catch (cause) {
    // Errors of the system carry its number: a full disk, a read-only one.
    if (!(cause instanceof Error && "errno" in cause)) throw cause;
    const message = `cannot write the checkpoint of step ${state.step} in ${runDirectory}: ${cause.message}`;
    const remedy = "make room or mend its permissions; the checkpoints before it are whole";
    throw new UserError("CHECKPOINT_WRITE", `${message}; ${remedy}`, { cause });
  }
}

async function store(
  runDirectory: string,
  state: CheckpointState,
  { keep }: { readonly keep: number },
): Promise<string> {
  const parent = join(runDirectory, "checkpoints");
  const target = checkpointDirectory(runDirectory, state.step);
  await mkdir(parent, { recursive: true });
  await removeLeftOvers(parent);
  if (await isWhole(target)) return target;
  await retire(parent, target);

  const temporary = join(parent, `${TEMPORARY}step-${state.step}-${randomBytes(4).toString("hex")}`);
  await mkdir(temporary);
  const sums: string[] = [];
  const write = async (name: string, parts: readonly Uint8Array[]) => {
    sums.push(`${await writeSynced(join(temporary, name), parts)}  ${name}\n`);
  };
  for (const group of CHECKPOINT_GROUPS) await write(fileOf(group), encodeSafetensors(state.groups[group]));
  const description = { formatVersion: FORMAT_VERSION, step: state.step, meta: state.meta };
  await write(DESCRIPTION, [Buffer.from(`${JSON.stringify(description, null, 2)}\n`)]);
  await writeSynced(join(temporary, SUMS), [Buffer.from(sums.join(""))]);
  await syncDirectory(temporary);
  await renameSynced(temporary, target);
  await prune(runDirectory, keep);
  return target;
}

async function removeLeftOvers(parent: string): Promise<void> {
  for (const name of await readdir(parent)) {
    if (name.startsWith(TEMPORARY)) await rm(join(parent, name), { recursive: true, force: true });
  }
}

/** Takes a checkpoint away under a temporary name first, so that one half removed is never taken for a checkpoint. */
async function retire(parent: string, directory: string): Promise<void> {
  const temporary = join(parent, `${TEMPORARY}old-${randomBytes(4).toString("hex")}`);
  try {
    await rename(directory, temporary);
  } catch (error) {
    if (isMissing(error)) return;
    throw error;
  }
  await rm(temporary, { recursive: true, force: true });
}

async function prune(runDirectory: string, keep: number): Promise<void> {
  const steps = await checkpointSteps(runDirectory);
  const known = await Promise.all(
    steps.map(async (step) => ({ step, knn: await storedKnn(checkpointDirectory(runDirectory, step)) })),
  );
  for (const step of prunable(known, keep)) {
    await retire(join(runDirectory, "checkpoints"), checkpointDirectory(runDirectory, step));
  }
}

/** null also where the description cannot be read: a corrupt checkpoint is nobody's best. */
async function storedKnn(directory: string): Promise<number | null> {
  try {
    const text = await readFile(join(directory, DESCRIPTION), "utf8");
    return descriptionSchema.parse(JSON.parse(text)).meta.knn;
  } catch {
    return null;
  }
}

async function isWhole(directory: string): Promise<boolean> {
  try {
    await readCheckpoint(directory);
    return true;
  } catch (error) {
    if (error instanceof UserError) return false;
    throw error;
  }
}

/**
 * Reads a checkpoint and verifies every byte of it.
 * @param directory `…/checkpoints/step-N`
 * @throws UserError `CHECKPOINT_MISSING`, `CHECKPOINT_VERSION`, or `CHECKPOINT_CORRUPT` with the file and the remedy
 */
export async function readCheckpoint(directory: string): Promise<CheckpointState> {
  const sums = parseSums(directory, (await readPart(directory, SUMS)).toString("latin1"));
  const verified = async (name: string): Promise<Uint8Array> => {
    const bytes = await readPart(directory, name);
    if (createHash("sha256").update(bytes).digest("hex") !== sums.get(name)) {
      throw corrupt(join(directory, name), `its sha256 is not the one in ${SUMS}`);
    }
    return bytes;
  };
  const { step, meta } = parseDescription(directory, await verified(DESCRIPTION));
  const [, named = step] = /^step-(\d+)$/.exec(basename(directory)) ?? [];
  if (Number(named) !== step) throw corrupt(directory, `it is of step ${step}, whatever its folder's name says`);
  const group = async (name: CheckpointGroup): Promise<NamedTensor[]> => {
    const bytes = await verified(fileOf(name));
    try {
      return decodeSafetensors(bytes);
    } catch (error) {
      if (!(error instanceof SafetensorsError)) throw error;
      throw corrupt(join(directory, fileOf(name)), error.message, error);
    }
  };
  const groups = {
    query: await group("query"),
    key: await group("key"),
    optimizer: await group("optimizer"),
    buffers: await group("buffers"),
    queue: await group("queue"),
  };
  return { step, meta, groups };
}

async function readPart(directory: string, name: string): Promise<Buffer> {
  try {
    return await readFile(join(directory, name));
  } catch (error) {
    if (!isMissing(error))
      throw corrupt(join(directory, name), `it cannot be read (${(error as Error).message})`, error);
    const names = await readdir(directory).catch(() => []);
    if (names.some((present) => (FILES as readonly string[]).includes(present))) {
      throw corrupt(join(directory, name), "the file is missing", error);
    }
    const remedy = "give a run directory, or one of its checkpoints/step-N";
    throw new UserError("CHECKPOINT_MISSING", `${directory} is no checkpoint: ${remedy}`, { cause: error });
  }
}

function parseSums(directory: string, text: string): ReadonlyMap<string, string> {
  const lines = [...text.matchAll(/([0-9a-f]{64}) {2}([\w.]+)\n/gy)];
  const sums = new Map(lines.map(([, sum = "", name = ""]) => [name, sum]));
  const isStrict = lines.map(([line]) => line).join("") === text;
  if (!isStrict || sums.size !== FILES.length || !FILES.every((name) => sums.has(name))) {
    throw corrupt(join(directory, SUMS), `it does not list exactly ${FILES.join(", ")}`);
  }
  return sums;
}

function parseDescription(directory: string, bytes: Uint8Array): z.infer<typeof descriptionSchema> {
  const parsed: unknown = JSON.parse(Buffer.from(bytes).toString("utf8"));
  const result = descriptionSchema.safeParse(parsed);
  if (result.success) return result.data;
  const [issue] = result.error.issues;
  const problem = `${issue?.path.join(".") ?? ""}: ${issue?.message ?? ""}`;
  throw new UserError(
    "CHECKPOINT_VERSION",
    `${join(directory, DESCRIPTION)} was written by another version of Tandem (${problem}): use that version`,
    { cause: result.error },
  );
}

/**
 * The newest whole checkpoint of a run.
 * @param onSkipped hears of each newer one that is not whole
 * @returns its directory
 * @throws UserError `CHECKPOINT_MISSING` where there is none; `CHECKPOINT_CORRUPT` where none is whole; `CHECKPOINT_VERSION` where
 *   another version of Tandem wrote the newest
 */
export async function latestCheckpoint(
  runDirectory: string,
  onSkipped: (error: UserError) => void = (error) => process.stderr.write(`tandem: skipped: ${error.message}\n`),
): Promise<string> {
  const steps = await checkpointSteps(runDirectory);
  let lastError: UserError | null = null;
  for (const step of steps.reverse()) {
    const directory = checkpointDirectory(runDirectory, step);
    try {
      await readCheckpoint(directory);
      return directory;
    } catch (error) {
      if (!(error instanceof UserError)) throw error;
      // Sound, if not for us: to go on from an older one would lose what it holds.
      if (error.code === "CHECKPOINT_VERSION") throw error;
      onSkipped(error);
      lastError = error;
    }
  }
  if (lastError !== null) {
    const message = `none of the ${steps.length} checkpoints of ${runDirectory} is whole: start the run anew`;
    throw new UserError("CHECKPOINT_CORRUPT", message, { cause: lastError });
  }
  throw new UserError(
    "CHECKPOINT_MISSING",
    `${runDirectory} holds no checkpoint: name the folder of a run that has written one`,
  );
}

/**
 * A sha256 of each group of a checkpoint, over names, shapes and values.
 * @throws UserError as `readCheckpoint`
 */
export async function digests(directory: string): Promise<Digests> {
  return digestsOf((await readCheckpoint(directory)).groups);
}

function isMissing(error: unknown): boolean {
  const code = error instanceof Error && "code" in error ? error.code : undefined;
  return code === "ENOENT" || code === "ENOTDIR";
}
