/** Loads a file of the user's own, as far as what it exports. */
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { UserError } from "../protocol/errors.js";
import { readOwnFileOf, type OwnKind } from "./own-file.js";

/** The first line of what somebody else's code threw. */
export function firstLine(error: unknown): string {
  const [line = ""] = (error instanceof Error ? error.message : String(error)).split("\n");
  return line;
}

/**
 * @param path on this machine
 * @param sha256 hex, of the run's file; null: whatever lies there
 * @returns what it exports, a default among it
 * @throws UserError `ENCODER_…` or `METHOD_…`: `…_MISSING`, `…_DIFFERS`, `…_LOAD`, `…_EXPORT`
 */
export async function loadOwnFile(
  path: string,
  sha256: string | null,
  kind: OwnKind,
): Promise<Readonly<Record<string, unknown>>> {
  const file = await readOwnFileOf(path, sha256, kind);
  const failure = (code: string, message: string, cause?: unknown) =>
    new UserError(`${kind.toUpperCase()}_${code}`, `the ${kind} ${path} ${message}`, { cause });
  let loaded: Readonly<Record<string, unknown>>;
  try {
    // Another content is another module, also where the path is the same.
    const url = path.endsWith(".ts") ? await transpiled(file.source) : pathToFileURL(resolve(path)).href;
    loaded = (await import(url.startsWith("data:") ? url : `${url}?sha256=${file.sha256}`)) as typeof loaded;
  } catch (cause) {
    if (cause instanceof UserError) throw cause;
    throw failure("LOAD", `cannot be loaded: ${firstLine(cause)}`, cause);
  }
  if (loaded["default"] === undefined)
    throw failure("EXPORT", "exports nothing by default: end it with export default …");
  return loaded;
}

/** TypeScript as a module of its own: its types go, and it can import packages of Node alone. */
async function transpiled(source: string): Promise<string> {
  const { default: typescript } = await import("typescript");
  const { outputText } = typescript.transpileModule(source, {
    compilerOptions: { target: typescript.ScriptTarget.ES2022, module: typescript.ModuleKind.ES2022 },
  });
  return `data:text/javascript;base64,${Buffer.from(outputText).toString("base64")}`;
}
