import { createHash } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { asyncBufferFromFile, parquetReadObjects } from "hyparquet";
import { afterAll, describe, expect, it } from "vitest";
import { openSink, type EmbeddingFormat, type EmbeddingRow } from "../../../src/evaluation/embedding-file.js";
import { npyHeader } from "../../../src/evaluation/npy.js";

const folder = mkdtempSync(join(tmpdir(), "tandem-embedding-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const ROWS: readonly EmbeddingRow[] = [
  { name: "a/1.png", label: 0, className: "a" },
  { name: 'b/"2".png', label: 1, className: "b" },
  { name: "3", label: -1, className: null },
];
const VALUES = Float32Array.of(1, -2, 0.5, 0, 3, 0.25);

async function written(format: EmbeddingFormat): Promise<string> {
  const path = join(folder, `file.${format}`);
  const sink = await openSink(path, format, { count: 3, dimension: 2 });
  await sink.write(ROWS.slice(0, 2), VALUES.subarray(0, 4));
  await sink.write(ROWS.slice(2), VALUES.subarray(4));
  await sink.finish();
  await sink.close();
  return path;
}

describe("embeddings as a file", () => {
  it("is what numpy.save writes, byte by byte", async () => {
    const header =
      "\x93NUMPY\x01\x00v\x00{'descr': '<f4', 'fortran_order': False, 'shape': (3, 2), }".padEnd(127) + "\n";
    const values = "0000803f" + "000000c0" + "0000003f" + "00000000" + "00004040" + "0000803e";
    const bytes = readFileSync(await written("npy"));
    expect(bytes.subarray(0, 128).toString("latin1")).toBe(header);
    expect(bytes.subarray(128).toString("hex")).toBe(values);
  });

  it.each([
    // numpy.save(io, numpy.zeros(shape, dtype)), the sha256 of what precedes the values
    ["int32", [5], "266f4234c43556af6e03dfd7ffdcfd6535c651a9c7bcd67c983de07f8f4ade84"],
    ["float32", [60000, 2048], "b10a6cfedf280509218c1e3dc38d851be30c2b3b0b24e6c0b9714e1dd4fd9640"],
  ] as const)("has NumPy's header for %s %j", (dtype, shape, sha256) => {
    expect(createHash("sha256").update(npyHeader(dtype, shape)).digest("hex")).toBe(sha256);
  });

  it("is one JSON object a line", async () => {
    const lines = readFileSync(await written("jsonl"), "utf8").split("\n");
    expect(lines.pop()).toBe("");
    expect(lines.map((line) => JSON.parse(line) as unknown)).toEqual([
      { name: "a/1.png", label: 0, class: "a", embedding: [1, -2] },
      { name: 'b/"2".png', label: 1, class: "b", embedding: [0.5, 0] },
      { name: "3", label: -1, class: null, embedding: [3, 0.25] },
    ]);
  });

  it("is a Parquet file with a list of floats a row, over several row groups", async () => {
    const file = await asyncBufferFromFile(await written("parquet"));
    expect(await parquetReadObjects({ file })).toEqual([
      { name: "a/1.png", label: 0, class: "a", embedding: [1, -2] },
      { name: 'b/"2".png', label: 1, class: "b", embedding: [0.5, 0] },
      { name: "3", label: -1, class: null, embedding: [3, 0.25] },
    ]);
  });
});
