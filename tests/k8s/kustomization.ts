/** Kustomizations of `k8s/`, and what they yield. */
import { cpSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseAllDocuments } from "yaml";

export const ROOT = fileURLToPath(new URL("../..", import.meta.url));

export interface Manifest {
  readonly kind: string;
  readonly metadata: { readonly name: string };
}

/** One that may name `k8s/…`. @param folder for it, to be made @returns the folder, for kubectl -k */
export function kustomization(folder: string, more: object): string {
  mkdirSync(folder);
  cpSync(join(ROOT, "k8s"), join(folder, "k8s"), { recursive: true });
  const text = JSON.stringify({ apiVersion: "kustomize.config.k8s.io/v1beta1", kind: "Kustomization", ...more });
  writeFileSync(join(folder, "kustomization.yaml"), text);
  return folder;
}

/** @param text YAML, as kubectl reads it */
export function manifestsOf(text: string): Manifest[] {
  return parseAllDocuments(text, { version: "1.1" })
    .map((document) => document.toJS() as Manifest | null)
    .filter((manifest) => manifest !== null);
}
