/** A method of the user's own that does not serve costs one line, and no run. */
import { existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, it } from "vitest";
import { SMALL_RUN, tandem, temporaryFolder } from "./tandem.js";

const folder = temporaryFolder();

it.each([
  ["gives no scalar", "({ embeddings }) => embeddings", /the method \.\/mine\.js gives a float32 tensor \[8, 3\]/],
  ["gives nothing", "() => undefined", /the method \.\/mine\.js gives undefined/],
  ["throws", "() => { throw new Error('of its own\\nsecond line'); }", /fails when it is called: of its own$/m],
  ["learns nothing", "({ tf }) => tf.scalar(1)", /the loss of the method \.\/mine\.js has no gradient/],
  ["is not finite", "({ tf, embeddings }) => tf.sum(tf.log(tf.sub(0, tf.square(embeddings))))", /is not finite/],
  ["ends its process", "() => process.abort()", /the method \.\/mine\.js ended the process that loaded it/],
])("a run does not begin where its method %s", { timeout: 60_000 }, async (_, loss, message) => {
  writeFileSync(join(folder, "mine.js"), `export const negatives = "batch";\nexport default ${loss};\n`);
  const { code, stderr } = await tandem(["train", ...SMALL_RUN, "--method", "./mine.js", "--out", "new"], folder);
  expect(stderr).toMatch(message);
  expect(stderr.trim().split("\n")).toHaveLength(1);
  expect(code).toBe(2);
  expect(existsSync(join(folder, "new"))).toBe(false);
});
