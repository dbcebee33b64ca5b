/**
 * A run directory: `config.yaml` (resolved), `id`, `manifest` (hash of the data set's listing), `checkpoints/`, `events.jsonl`,
 * `tensorboard/`, `logs/`, `pictures/`. It belongs to one run, and one coordinator at a time.
 */
import { randomBytes } from "node:crypto";
import { access, mkdir, readFile, rm } from "node:fs/promises";
import { basename, join } from "node:path";
import { conflictingKeys } from "../config/compare.js";
import { printConfig } from "../config/print.js";
import { readWholeConfig } from "../config/resolve.js";
import type { RunConfig } from "../config/schema.js";
import { UserError } from "../protocol/errors.js";
import { replaceFile, replaceText } from "./durable.js";

export interface RunIdentity {
  readonly config: RunConfig;
  /** hex sha256 of the data set's listing */
  readonly manifestHash: string;
}

/** Where things lie in a run directory. */
export function runFiles(directory: string) {
  return {
    config: join(directory, "config.yaml"),
    manifest: join(directory, "manifest"),
    id: join(directory, "id"),
    /** copy of the weights that it began with; only where it was given some */
    init: join(directory, "init.safetensors"),
    checkpoints: join(directory, "checkpoints"),
    events: join(directory, "events.jsonl"),
    tensorboard: join(directory, "tensorboard"),
    logs: join(directory, "logs"),
    /** the latest of each kind, made for who looks at the run */
    pictures: join(directory, "pictures"),
  } as const;
}

/** @param process `coordinator`, `worker-1`, … */
export function logFile(directory: string, process: string): string {
  return join(runFiles(directory).logs, `${process}.jsonl`);
}

export async function holdsRun(directory: string): Promise<boolean> {
  return access(runFiles(directory).config).then(
    () => true,
    () => false,
  );
}

/** @throws UserError `RUN_MISSING` where the directory holds no run; as `readWholeConfig` where its config is not valid */
export async function readRunConfig(directory: string): Promise<RunConfig> {
  if (!(await holdsRun(directory))) {
    const remedy = "check --out, or leave out --resume to start a run";
    throw new UserError("RUN_MISSING", `${directory} holds no run to resume (no config.yaml): ${remedy}`);
  }
  return readWholeConfig(runFiles(directory).config);
}

/** The name by which workers know the run. @throws UserError `RUN_MISSING` */
export async function readRunId(directory: string): Promise<string> {
  return readLine(directory, "id");
}

async function readLine(directory: string, file: "id" | "manifest"): Promise<string> {
  try {
    return (await readFile(runFiles(directory)[file], "utf8")).trim();
  } catch (cause) {
    const message = `${directory} holds no run that can be resumed (no file ${file}): start it anew`;
    throw new UserError("RUN_MISSING", message, { cause });
  }
}

/**
 * Lays out the directory of a new run, or checks that a resumed one is the same run.
 * @throws UserError `RUN_EXISTS`, `RUN_MISSING`, `RUN_CONFIG_DIFFERS` (names the key), `MANIFEST_MISMATCH`, `RUN_DIRECTORY`
 */
export async function openRunDirectory(
  directory: string,
  identity: RunIdentity &
    ({ readonly resume: true } | { readonly resume: false; readonly id: string; readonly init?: Uint8Array }),
): Promise<void> {
  const files = runFiles(directory);
  if (identity.resume) await checkSameRun(directory, identity);
  else if (await holdsRun(directory)) {
    throw new UserError(
      "RUN_EXISTS",
      `${directory} already holds a run: add --resume to go on with it, or choose another --out`,
    );
  }
  try {
    await mkdir(files.checkpoints, { recursive: true });
    await mkdir(files.logs, { recursive: true });
    if (!identity.resume) {
      await replaceText(files.id, `${identity.id}\n`, `id-${unique()}`);
      // Of a run that was given up before it had a config.
      await rm(files.init, { force: true });
      if (identity.init !== undefined) await replaceFile(files.init, [identity.init], `init-${unique()}`);
    }
    await replaceText(files.manifest, `${identity.manifestHash}\n`, `manifest-${unique()}`);
    // Last: a directory with a config is a run.
    await replaceText(files.config, printConfig(identity.config), `config-${unique()}`);
  } catch (cause) {
    const { message } = cause as Error;
    throw new UserError(
      "RUN_DIRECTORY",
      `cannot write the run directory ${directory}: ${message}; mend that, or choose another --out`,
      { cause },
    );
  }
}

async function checkSameRun(directory: string, { config, manifestHash }: RunIdentity): Promise<void> {
  const stored = await readRunConfig(directory);
  const [conflict] = conflictingKeys(stored, config);
  if (conflict !== undefined) {
    throw new UserError(
      "RUN_CONFIG_DIFFERS",
      `${directory} was begun with ${conflict.key} = ${conflict.stored}, and now ${conflict.given} is asked for: ` +
        "leave it out to resume, or start a new run with another --out",
    );
  }
  const storedHash = await readLine(directory, "manifest");
  if (storedHash !== manifestHash) {
    throw new UserError(
      "MANIFEST_MISMATCH",
      `${directory} was begun on another data set than ${config.data.spec} (manifest ${short(storedHash)}, now ` +
        `${short(manifestHash)}): resume with the same files, or start a new run`,
    );
  }
}

/**
 * Where a run goes without `--out`: `runs/<name>-<time>`, with a number behind it if that is taken.
 * @param source the preset's name, or the config file's path
 * @param now local time
 */
export async function defaultRunDirectory(source: string, now: Date): Promise<string> {
  const name = basename(source).replace(/\.ya?ml$/, "");
  const two = (value: number) => String(value).padStart(2, "0");
  const date = `${now.getFullYear()}${two(now.getMonth() + 1)}${two(now.getDate())}`;
  const time = `${two(now.getHours())}${two(now.getMinutes())}${two(now.getSeconds())}`;
  const plain = join("runs", `${name}-${date}-${time}`);
  for (let number = 1; ; number++) {
    const candidate = number === 1 ? plain : `${plain}-${number}`;
    if (!(await holdsRun(candidate))) return candidate;
  }
}

function unique(): string {
  return randomBytes(4).toString("hex");
}

function short(hash: string): string {
  return hash.slice(0, 12);
}
