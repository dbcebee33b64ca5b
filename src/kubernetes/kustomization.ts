/**
 * The objects that a kustomization yields, for those who have no kustomize: as much of it as Tandem's own in `k8s/` use (the test of the cluster
 * holds every overlay against `kubectl kustomize`). Whatever else one says is refused, never left out.
 * Source: https://kubectl.docs.kubernetes.io/references/kustomize/kustomization/
 */
import { readFileSync, statSync } from "node:fs";
import { basename, join } from "node:path";
import { applyPatch, type Operation } from "rfc6902";
import { parse, parseAllDocuments } from "yaml";

/** A Kubernetes object. */
export interface Manifest {
  apiVersion: string;
  kind: string;
  metadata: { name: string; namespace?: string; labels?: Record<string, string> };
  [key: string]: unknown;
}

interface Kustomization {
  readonly resources?: readonly string[];
  readonly components?: readonly string[];
  readonly labels?: readonly { readonly pairs: Record<string, string>; readonly includeSelectors: boolean }[];
  readonly configMapGenerator?: readonly ConfigMapGenerator[];
  readonly patches?: readonly { readonly target: Target; readonly patch: string; readonly options?: object }[];
  readonly replacements?: readonly Replacement[];
  readonly images?: readonly { readonly name: string; readonly newTag: string }[];
}

interface Target {
  readonly kind: string;
  readonly name: string;
}

interface ConfigMapGenerator {
  readonly name: string;
  readonly behavior?: "replace";
  readonly files: readonly string[];
  readonly options?: { readonly labels: Record<string, string> };
}

interface Replacement {
  readonly source: Target & { readonly fieldPath: string };
  readonly targets: readonly { readonly select: Target; readonly fieldPaths: readonly string[] }[];
}

/** In the order in which kustomize applies them. */
const KEYS = [
  ...["apiVersion", "kind", "resources", "configMapGenerator", "generatorOptions", "components", "patches", "labels"],
  ...["images", "replacements"],
];

/** 0440 is octal there. */
const AS_KUBECTL = { version: "1.1" } as const;

/**
 * @param folder of a kustomization
 * @param added folders of components, to be applied to what kustomizations without another below them yield
 */
export function kustomized(folder: string, added: readonly string[] = []): Manifest[] {
  return apply(folder, [], added);
}

/** @param given what a component is applied to; nothing, where it is a kustomization of its own */
function apply(folder: string, given: readonly Manifest[], added: readonly string[]): Manifest[] {
  const file = join(folder, "kustomization.yaml");
  const kustomization = parse(readFileSync(file, "utf8"), AS_KUBECTL) as Kustomization;
  const unknown = Object.keys(kustomization).filter((key) => !KEYS.includes(key));
  if (unknown.length > 0) throw new Error(`${file}: ${unknown.join(", ")} is not understood here`);
  const paths = (kustomization.resources ?? []).map((name) => join(folder, name));
  const isLowest = given.length === 0 && paths.every((path) => !statSync(path).isDirectory());
  let objects = [...given];
  for (const path of paths) objects.push(...(statSync(path).isDirectory() ? apply(path, [], added) : documents(path)));
  for (const generator of kustomization.configMapGenerator ?? []) generate(objects, generator, folder);
  const components = (kustomization.components ?? []).map((name) => join(folder, name));
  for (const component of [...components, ...(isLowest ? added : [])]) objects = apply(component, objects, []);
  for (const { target, patch } of kustomization.patches ?? []) objects = patched(objects, target, patch, file);
  for (const { pairs } of kustomization.labels ?? [])
    for (const { metadata } of objects) metadata.labels = { ...metadata.labels, ...pairs };
  for (const { name, newTag } of kustomization.images ?? [])
    for (const container of containersOf(objects)) container.image = tagged(container.image, name, newTag);
  for (const replacement of kustomization.replacements ?? []) replace(objects, replacement);
  return objects;
}

function documents(path: string): Manifest[] {
  return parseAllDocuments(readFileSync(path, "utf8"), AS_KUBECTL).map((document) => document.toJS() as Manifest);
}

function generate(objects: Manifest[], { name, behavior, files, options }: ConfigMapGenerator, folder: string): void {
  const data = Object.fromEntries(files.map((file) => [basename(file), readFileSync(join(folder, file), "utf8")]));
  if (behavior === "replace") only(objects, { kind: "ConfigMap", name })["data"] = data;
  else objects.push({ apiVersion: "v1", kind: "ConfigMap", metadata: { name, ...options }, data });
}

/** A JSON patch (RFC 6902), or the one strategic merge patch that there is here: `$patch: delete`. */
function patched(objects: readonly Manifest[], target: Target, patch: string, file: string): Manifest[] {
  const found = objects.filter((object) => isAt(object, target));
  if (found.length === 0) throw new Error(`${file}: there is no ${target.kind} ${target.name} to patch`);
  const change = parse(patch, AS_KUBECTL) as unknown;
  if (Array.isArray(change)) {
    for (const object of found) {
      const failed = applyPatch(object, structuredClone(change) as Operation[]).find((error) => error !== null);
      if (failed !== undefined) throw new Error(`${file}: ${target.kind} ${target.name}: ${failed.message}`);
    }
    return [...objects];
  }
  if ((change as Record<string, unknown>)["$patch"] !== "delete") throw new Error(`${file}: a patch is a list, or a $patch: delete`); // prettier-ignore
  return objects.filter((object) => !found.includes(object));
}

function isAt({ kind, metadata }: Manifest, target: Target): boolean {
  return kind === target.kind && metadata.name === target.name;
}

function replace(objects: readonly Manifest[], { source, targets }: Replacement): void {
  const value = path(source.fieldPath).reduce<unknown>(child, only(objects, source));
  for (const { select, fieldPaths } of targets)
    for (const fieldPath of fieldPaths) {
      const steps = path(fieldPath);
      const parent = steps.slice(0, -1).reduce<unknown>(child, only(objects, select));
      (parent as Record<string, unknown>)[steps.at(-1) ?? ""] = structuredClone(value);
    }
}

function only(objects: readonly Manifest[], target: Target): Manifest {
  const object = objects.find((candidate) => isAt(candidate, target));
  if (object === undefined) throw new Error(`there is no ${target.kind} ${target.name}`);
  return object;
}

function path(fieldPath: string): string[] {
  return fieldPath.split(".");
}

function child(value: unknown, key: string): unknown {
  return (value as Record<string, unknown>)[key];
}

interface Container {
  name: string;
  image: string;
}

/** Of whatever kind of object, initial ones too. */
export function containersOf(value: unknown): Container[] {
  if (typeof value !== "object" || value === null) return [];
  return Object.entries(value).flatMap(([key, inner]) =>
    key === "containers" || key === "initContainers" ? (inner as Container[]) : containersOf(inner),
  );
}

/** @param image NAME or NAME:TAG; a registry's port is no tag */
function tagged(image: string, name: string, tag: string): string {
  return image.replace(/:[^:/]*$/, "") === name ? `${name}:${tag}` : image;
}
