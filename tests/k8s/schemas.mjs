/** The API server's own description of its objects, as kubeconform takes it: a JSON schema a kind, and none of them allows a field that it does not know. */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";

/** @typedef {{ group: string, version: string, kind: string }} Kind */
/**
 * @typedef {object} Schema
 * @property {Record<string, unknown>} [properties]
 * @property {unknown} [additionalProperties]
 * @property {unknown} [items]
 * @property {unknown[]} [oneOf]
 * @property {Kind[]} [x-kubernetes-group-version-kind]
 * @property {boolean} [x-kubernetes-preserve-unknown-fields]
 */

/** @param {object} description OpenAPI v2, of /openapi/v2 @param {string} folder to make; a file each, as kubeconform names them */
export function writeSchemas(description, folder) {
  mkdirSync(folder);
  const { definitions } = /** @type {{ definitions: Record<string, Schema> }} */ (description);
  for (const schema of Object.values(definitions)) close(schema);
  // Written as a number or as text: a port, 12Gi.
  for (const name of ["util.intstr.IntOrString", "api.resource.Quantity"])
    definitions[`io.k8s.apimachinery.pkg.${name}`] = { oneOf: [{ type: "string" }, { type: "number" }] };
  writeFileSync(join(folder, "definitions.json"), JSON.stringify({ definitions }));
  for (const [name, { "x-kubernetes-group-version-kind": kinds = [] }] of Object.entries(definitions))
    for (const { group, version, kind } of kinds) {
      const file = `${[kind, ...group.split(".").slice(0, 1).filter(Boolean), version].join("-")}.json`.toLowerCase();
      writeFileSync(join(folder, file), JSON.stringify({ $ref: `definitions.json#/definitions/${name}` }));
    }
}

/** @param {unknown} value a schema: of an object it shall allow no fields but those that it names; and so all that are in it */
function close(value) {
  if (typeof value !== "object" || value === null) return;
  const schema = /** @type {Schema} */ (value);
  for (const inner of [...Object.values(schema.properties ?? {}), schema.items, schema.additionalProperties])
    close(inner);
  if (schema.properties !== undefined && schema["x-kubernetes-preserve-unknown-fields"] !== true)
    schema.additionalProperties ??= false;
}
