/** What a method of the user's own says of itself, for the config: no engine is needed to read it. */
import { inspect } from "node:util";
import { UserError } from "../protocol/errors.js";
import { loadOwnFile } from "./load-own-file.js";
import { readOwnFile } from "./own-file.js";
import type { RunConfig } from "./schema.js";

/** A method of the user's own, whose file there is. */
export type OwnMethod = RunConfig["ownMethod"] & { readonly file: string };

/** @throws UserError `METHOD_…` */
export async function describeOwnMethod(file: string): Promise<OwnMethod> {
  const { sha256 } = await readOwnFile(file, "method");
  const { default: contrast, negatives, labels = false } = await loadOwnFile(file, sha256, "method");
  if (typeof contrast !== "function")
    throw new UserError("METHOD_EXPORT", `the method ${file} exports no function by default: see docs/methods.md`);
  if (negatives !== "queue" && negatives !== "batch")
    throw new UserError(
      "METHOD_EXPORT",
      `the method ${file} says negatives = ${inspect(negatives, { breakLength: Infinity, depth: 0 })}: export const negatives = "batch" (or "queue")`,
    );
  if (typeof labels !== "boolean")
    throw new UserError("METHOD_EXPORT", `the method ${file} has labels that are neither true nor false`);
  return { file, sha256, negatives, labels };
}
