/** A run config as YAML, every key behind a comment that says what it means. Reads back to the same config. */
import { Document, isMap, isPair, isScalar } from "yaml";
import { CONFIG_KEYS } from "./keys.js";
import type { RunConfig } from "./schema.js";

export function printConfig(config: RunConfig): string {
  const document = new Document(config);
  const describe = (node: unknown, prefix: string): void => {
    if (!isMap(node)) return;
    for (const pair of node.items) {
      if (!isPair(pair) || !isScalar(pair.key)) continue;
      const name = prefix + String(pair.key.value);
      const description = CONFIG_KEYS.find((key) => key.name === name)?.description ?? "";
      if (description !== "") pair.key.commentBefore = ` ${description}`;
      if (prefix === "" && isMap(pair.value)) pair.key.spaceBefore = true;
      describe(pair.value, `${name}.`);
    }
  };
  describe(document.contents, "");
  return document.toString({ lineWidth: 0 });
}
