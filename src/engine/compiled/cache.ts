/** Compiled graphs kept on disk, so that a worker that starts again need not record its step again. */
import { createHash, randomUUID } from "node:crypto";
import { mkdir, readdir, readFile, rename, rm, stat, utimes, writeFile } from "node:fs/promises";
import { homedir, tmpdir } from "node:os";
import { join } from "node:path";
import { CannotCompile } from "./record.js";
import type { Stage } from "./stages.js";
import type { TreeShape } from "./tree.js";

/** Graphs kept; those unused for longest go first. One is 0.1 to 1 MB. */
const KEPT = 64;

/** A step as it lies on disk, beside its `saved_model.pb`. */
export interface StoredStep extends StepPlan {
  /** `digestOf` */
  readonly sha256: string;
}

/** What must be known of a graph to run it. */
export interface StepPlan {
  readonly outputShape: TreeShape;
  /** of a step that waits for other ranks; null: it is run in one go */
  readonly stages: readonly Stage[] | null;
}

export interface Located {
  /** holds a `saved_model.pb` */
  readonly folder: string;
  readonly step: StoredStep;
  /** whoever has loaded it removes the folder */
  readonly isTemporary: boolean;
}

export function sha256(...parts: readonly (string | Uint8Array)[]): string {
  const hash = createHash("sha256");
  // Lengths keep neighbours apart.
  for (const part of parts) hash.update(`${String(part.length)}:`).update(part);
  return hash.digest("hex");
}

/** `TANDEM_CACHE`, or tandem's folder among the user's caches; set-up keeps libtensorflow beside it. */
export function graphCacheFolder(env: NodeJS.ProcessEnv = process.env): string {
  const caches = env["XDG_CACHE_HOME"] || join(homedir(), ".cache");
  const own = env["TANDEM_CACHE"] || join(caches, "tandem");
  return join(own, "graphs");
}

let digest: Promise<string> | null = null;

/** Digest of the compiled code that says what a step computes: whatever changes there makes other graphs. Read once. */
export function codeDigest(): Promise<string> {
  digest ??= readCode();
  return digest;
}

async function readCode(): Promise<string> {
  const root = new URL("../../../", import.meta.url);
  const parts: string[] = [];
  for (const folder of ["src/data/", "src/engine/", "src/models/", "src/objectives/", "worker/"]) {
    const names = await readdir(new URL(folder, root), { recursive: true });
    for (const name of names.filter((entry) => /\.[jt]s$/.test(entry)).sort()) {
      parts.push(folder + name, await readFile(new URL(folder + name, root), "utf8"));
    }
  }
  return sha256(...parts);
}

/** hex sha256 over the graph and what its outputs mean */
function digestOf(model: Uint8Array, { outputShape, stages }: StepPlan): string {
  return sha256(model, JSON.stringify({ outputShape, stages }));
}

export class GraphCache {
  /** @param root null: nothing is kept */
  constructor(private readonly root: string | null) {}

  /** @returns null where there is none, or where it is damaged */
  async find(key: string): Promise<Located | null> {
    if (this.root === null) return null;
    const folder = join(this.root, key);
    try {
      const step = JSON.parse(await readFile(join(folder, "step.json"), "utf8")) as StoredStep;
      const model = await readFile(join(folder, "saved_model.pb"));
      if (digestOf(model, step) !== step.sha256) return null;
      const now = new Date();
      // In a folder that is read-only or somebody else's nothing is removed either.
      await utimes(folder, now, now).catch(() => undefined);
      return { folder, step, isTemporary: false };
    } catch {
      return null;
    }
  }

  /** Keeps a step; where the disk refuses, it lies in a temporary folder. */
  async store(key: string, model: Uint8Array, plan: StepPlan): Promise<Located> {
    const stored = { ...plan, sha256: digestOf(model, plan) };
    if (this.root !== null) {
      try {
        const folder = await write(this.root, key, model, stored);
        await forgetOldest(this.root).catch(() => undefined);
        return { folder, step: stored, isTemporary: false };
      } catch {
        // A full or read-only disk costs the next start some seconds, no more.
      }
    }
    const temporary = join(tmpdir(), `tandem-graphs-${randomUUID()}`);
    try {
      return { folder: await write(temporary, key, model, stored), step: stored, isTemporary: true };
    } catch (cause) {
      await rm(temporary, { recursive: true, force: true });
      const why = cause instanceof Error ? cause.message : String(cause);
      const places = [this.root, tmpdir()].filter((place) => place !== null).join(" nor in ");
      throw new CannotCompile(`its graph cannot be kept in ${places} (${why}): free some space, or set TANDEM_CACHE`, {
        cause,
      });
    }
  }
}

/**
 * Each file takes its place in one stroke and none is ever taken away first: several workers of one machine write the same
 * graph at the same time, while others load it.
 */
async function write(root: string, key: string, model: Uint8Array, step: StoredStep): Promise<string> {
  const folder = join(root, key);
  await mkdir(folder, { recursive: true });
  for (const [name, content] of [
    ["saved_model.pb", model],
    ["step.json", JSON.stringify(step)],
  ] as const) {
    const temporary = join(folder, `.${name}.${randomUUID()}`);
    try {
      await writeFile(temporary, content);
      await rename(temporary, join(folder, name));
    } catch (error) {
      await rm(temporary, { force: true });
      throw error;
    }
  }
  return folder;
}

async function forgetOldest(root: string): Promise<void> {
  const names = await readdir(root);
  if (names.length <= KEPT) return;
  const aged = await Promise.all(names.map(async (name) => ({ name, usedAt: (await stat(join(root, name))).mtimeMs })));
  aged.sort((a, b) => b.usedAt - a.usedAt);
  for (const { name } of aged.slice(KEPT)) await rm(join(root, name), { recursive: true, force: true });
}
