/** An extraction that is cut off goes on behind its last whole row. */
import { statSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, it } from "vitest";
import { openImages } from "../../../src/data/open.js";
import { EXTRACTION_BATCH, extractFeatures, type Extractor } from "../../../src/evaluation/extract.js";
import { KeptRows } from "../../../src/evaluation/kept-rows.js";
import { temporaryFolder } from "../data/temporary-folder.js";

const folder = temporaryFolder();
const DIMENSION = 3;
const COUNT = 2 * EXTRACTION_BATCH + 100;
const warn = (message: string) => expect.fail(message);
const data = await openImages(`synthetic:size=16,train=${String(COUNT)},test=10`, { decodeSize: 16 });

/** Mean, first and last value of each picture. */
function extractor(seen: number[], failAfter = Infinity): Extractor {
  return {
    ...{ dimension: DIMENSION, maxCorrupt: 0 },
    extract: (values, samples) => {
      if (seen.length >= failAfter) throw new Error("cut off");
      if (values.modality !== "image") throw new Error("texts");
      seen.push(...samples);
      const size = values.pixels.length / samples.length;
      return Float32Array.from({ length: samples.length * DIMENSION }, (_, at) => {
        const row = Math.floor(at / DIMENSION);
        return [samples[row] / 7, values.pixels[row * size], values.pixels[(row + 1) * size - 1]][at % DIMENSION];
      });
    },
  };
}

async function extracted(path: string, by: Extractor) {
  const kept = await KeptRows.open(path, DIMENSION);
  try {
    return await extractFeatures(by, data, "train", Infinity, warn, kept);
  } finally {
    await kept.close();
  }
}

it("computes what is missing, and nothing twice", async () => {
  const whole = await extractFeatures(extractor([]), data, "train", Infinity, warn);
  const path = join(folder.path, "new", "features");
  await expect(extracted(path, extractor([], 2 * EXTRACTION_BATCH))).rejects.toThrow("cut off");
  expect(statSync(path).size).toBe(2 * EXTRACTION_BATCH * 4 * (1 + DIMENSION));
  // The last row was being written.
  truncateSync(path, statSync(path).size - 5);
  const seen: number[] = [];
  expect(await extracted(path, extractor(seen))).toEqual(whole);
  expect(seen).toEqual(
    Array.from({ length: COUNT - 2 * EXTRACTION_BATCH + 1 }, (_, i) => 2 * EXTRACTION_BATCH - 1 + i),
  );
  expect(await extracted(path, extractor([], 0))).toEqual(whole);
});

it("is the same after two at once", async () => {
  const whole = await extractFeatures(extractor([]), data, "train", Infinity, warn);
  const path = join(folder.path, "shared");
  expect(await Promise.all([extracted(path, extractor([])), extracted(path, extractor([]))])).toEqual([whole, whole]);
  expect(statSync(path).size).toBe(COUNT * 4 * (1 + DIMENSION));
  expect(await extracted(path, extractor([], 0))).toEqual(whole);
});

it("says so where a full disk takes no more", async () => {
  const kept = await KeptRows.open("/dev/full", DIMENSION);
  const row = { samples: Int32Array.of(0), features: new Float32Array(DIMENSION) };
  await expect(kept.append(row)).rejects.toMatchObject({
    code: "KEEP_UNUSABLE",
    message: expect.stringContaining("cannot keep features in /dev/full (ENOSPC): make room"),
  });
  await kept.close();
});

it("says so where nothing can be kept", async () => {
  writeFileSync(join(folder.path, "file"), "");
  await expect(KeptRows.open(join(folder.path, "file", "features"), DIMENSION)).rejects.toMatchObject({
    code: "KEEP_UNUSABLE",
    message: expect.stringMatching(/cannot keep features in .*make room, or give another --keep/),
  });
});
