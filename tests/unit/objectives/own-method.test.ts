/** A method of the user's own: its file as a part of the run, and each mistake in it as one line. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, describe, expect, it } from "vitest";
import { resolveConfig } from "../../../src/config/index.js";
import { tf, type Tensor2D, type Tensor4D } from "../../../src/engine/index.js";
import { OWN_BATCH, resnet } from "../../../src/models/index.js";
import { normalise, objectiveOf, type ShowInput } from "../../../src/objectives/index.js";
import { parametersDrawn } from "../../fixtures/drawn.js";

const folder = mkdtempSync(join(tmpdir(), "tandem-method-"));
afterAll(() => {
  rmSync(folder, { recursive: true, force: true });
});

let files = 0;
function file(source: string): string {
  const path = join(folder, `${files++}.mjs`);
  writeFileSync(path, source);
  return path;
}

const DECOUPLED = fileURLToPath(new URL("../../../examples/own-method.js", import.meta.url));
const NT_XENT = `export const negatives = "batch";
export default ({ tf, embeddings, isSelf, isOther, temperature }) => {
  const logits = tf.add(tf.div(tf.matMul(embeddings, embeddings, false, true), temperature), tf.mul(isSelf, -1e9));
  return tf.mean(tf.sub(tf.logSumExp(logits, 1), tf.sum(tf.mul(logits, isOther), 1)));
};`;
const INFO_NCE = `export const negatives = "queue";
export default ({ tf, queries, keys, queue, temperature }) => {
  const positive = tf.div(tf.sum(tf.mul(queries, keys), 1, true), temperature);
  const logits = tf.concat([positive, tf.div(tf.matMul(queries, queue, false, true), temperature)], 1);
  return tf.mean(tf.sub(tf.logSumExp(logits, 1), tf.squeeze(positive, [1])));
};`;

const encoder = resnet({ encoder: "resnet-tiny", stem: "3x3", head: "linear", embeddingDim: 8 });
const viewsDrawn = (seed: number): Tensor4D => tf.randomNormal([4, 8, 8, 3], 0, 1, "float32", seed);
const input: ShowInput = {
  encoder,
  query: parametersDrawn(encoder.layout, 1000),
  key: parametersDrawn(encoder.layout, 2000),
  queryViews: viewsDrawn(1),
  keyViews: viewsDrawn(2),
  labels: null,
  batchNorm: OWN_BATCH,
  temperature: 0.2,
};

/** Loss and gradients of one rank that is alone. */
async function alone(method: string) {
  const objective = await objectiveOf(
    await resolveConfig({ preset: "quickstart", method, set: ["moco.temperature=0.5"] }),
  );
  const block = objective.show(input).embeddings;
  const queue: Tensor2D = normalise(tf.randomNormal([16, 8], 0, 1, "float32", 3));
  const exchanged =
    method === "moco-v2" || method.endsWith("queue.mjs") ? null : { block, own: tf.tensor1d([1]), rows: null };
  const { loss, gradients } = objective.step({ ...input, queue, exchanged, keyShuffle: null });
  return { loss: loss.dataSync()[0], gradients: gradients.map((gradient) => gradient.dataSync()) };
}

describe("a method of one's own", () => {
  it("is known by its digest and by what it says of itself", async () => {
    const { method, ownMethod } = await resolveConfig({ preset: "quickstart", method: DECOUPLED });
    expect(method).toBe("own");
    expect(ownMethod).toMatchObject({ file: DECOUPLED, negatives: "batch", labels: false });
    expect(ownMethod.sha256).toMatch(/^[0-9a-f]{64}$/);
  });

  it("over the global batch has NT-Xent's loss and gradients where it is NT-Xent", async () => {
    const [own, builtIn] = [await alone(file(NT_XENT)), await alone("simclr")];
    expect(own.loss).toBeCloseTo(builtIn.loss, 5);
    own.gradients.forEach((values, i) => {
      values.forEach((value, j) => expect(value).toBeCloseTo(builtIn.gradients[i][j], 4));
    });
  });

  it("against the queue has InfoNCE's loss where it is InfoNCE", async () => {
    const path = join(folder, "queue.mjs");
    writeFileSync(path, INFO_NCE);
    expect((await alone(path)).loss).toBeCloseTo((await alone("moco-v2")).loss, 5);
  });

  it("of the example leaves the positive out of the denominator: a lower loss than NT-Xent's", async () => {
    const [decoupled, whole] = [await alone(DECOUPLED), await alone("simclr")];
    expect(decoupled.loss).toBeLessThan(whole.loss);
  });

  const batch = 'export const negatives = "batch";';
  it.each([
    ["METHOD_MISSING", "/nowhere/method.js", "cannot read the method"],
    ["METHOD_LOAD", file("export default ("), "cannot be loaded"],
    ["METHOD_EXPORT", file(batch), "exports nothing by default"],
    ["METHOD_EXPORT", file(`${batch} export default 5`), "exports no function by default"],
    ["METHOD_EXPORT", file("export default () => 0"), "says negatives = undefined: export"],
    ["METHOD_EXPORT", file('export const negatives = "all"; export default () => 0'), "says negatives = 'all': export"],
    [
      "METHOD_EXPORT",
      file('export const negatives = { of: ["x".repeat(99)] }; export default () => 0'),
      "says negatives = { of: [Array] }: export",
    ],
    ["METHOD_EXPORT", file(`${batch} export const labels = 2; export default () => 0`), "neither true nor false"],
    ["METHOD_FAILS", file(`${batch} export default () => { throw new Error("no idea"); }`), "no idea"],
    ["METHOD_SHAPE", file(`${batch} export default () => 5`), "gives number"],
    ["METHOD_SHAPE", file(`${batch} export default ({ embeddings }) => embeddings`), "a float32 tensor [8, 3]"],
    ["METHOD_IDLE", file(`${batch} export default ({ tf }) => tf.scalar(1)`), "has no gradient"],
    [
      "METHOD_NOT_FINITE",
      file(`${batch} export default ({ tf, embeddings }) => tf.mean(tf.log(tf.sub(embeddings, 5)))`),
      "not finite",
    ],
  ])("is refused with %s in one line: %s", async (code, path, message) => {
    const refused = resolveConfig({ preset: "quickstart", method: path }).then(objectiveOf);
    await expect(refused).rejects.toMatchObject({ name: "UserError", code });
    await expect(refused).rejects.toThrow(message);
    await expect(refused).rejects.toThrow(path);
  });

  it("is not another file than the run's", async () => {
    const path = file(NT_XENT);
    const config = await resolveConfig({ preset: "quickstart", method: path });
    writeFileSync(path, `${NT_XENT}\n`);
    await expect(objectiveOf(config)).rejects.toMatchObject({ code: "METHOD_DIFFERS" });
  });
});
