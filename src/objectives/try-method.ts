/** A method of the user's own, tried out before a run begins, for who has no engine. */
import type { RunConfig } from "../config/schema.js";
import { askApart } from "../engine/apart.js";

/** The part of a run's config that its method follows from. */
export type MethodConfig = Pick<RunConfig, "method" | "moco" | "supcon" | "ownMethod">;

/** @throws UserError `METHOD_…` where the method is a file of the user's own, and does not serve */
export async function tryMethodApart({ method, moco, supcon, ownMethod }: MethodConfig): Promise<void> {
  if (ownMethod.file === null) return;
  const file = { kind: "method", path: ownMethod.file } as const;
  await askApart(new URL("./try-method-process.js", import.meta.url), { method, moco, supcon, ownMethod }, file);
}
