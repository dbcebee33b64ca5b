/** Embeddings with names and labels as a file that other programs read: NumPy's array, JSON lines, or Parquet. */
import { endianness } from "node:os";
import { open, type FileHandle } from "node:fs/promises";
import { fileWriter, ParquetWriter } from "hyparquet-writer";
import { npyHeader } from "./npy.js";

export const EMBEDDING_FORMATS = ["npy", "jsonl", "parquet"] as const;
export type EmbeddingFormat = (typeof EMBEDDING_FORMATS)[number];

export interface EmbeddingRow {
  readonly name: string;
  /** class; −1: none */
  readonly label: number;
  /** the class's name; null: none */
  readonly className: string | null;
}

/** Takes rows in their order. */
export interface EmbeddingSink {
  /** @param embeddings float32 `[rows.length, dimension]` */
  write(rows: readonly EmbeddingRow[], embeddings: Float32Array): Promise<void>;
  /** Ends the file and syncs it; without it the file is not whole. */
  finish(): Promise<void>;
  /** Lets go of the file, finished or not. */
  close(): Promise<void>;
}

/** @param count rows that will be written */
export async function openSink(
  path: string,
  format: EmbeddingFormat,
  shape: { readonly count: number; readonly dimension: number },
): Promise<EmbeddingSink> {
  switch (format) {
    case "npy":
      return npySink(await open(path, "wx"), shape);
    case "jsonl":
      return jsonlSink(await open(path, "wx"), shape.dimension);
    case "parquet":
      return parquetSink(path, shape.dimension);
  }
}

async function npySink(
  file: FileHandle,
  { count, dimension }: { readonly count: number; readonly dimension: number },
): Promise<EmbeddingSink> {
  if (endianness() !== "LE") throw new RangeError("npy files are written little-endian, and this machine is not");
  await file.writeFile(npyHeader("float32", [count, dimension]));
  return {
    write: (_, { buffer, byteOffset, byteLength }) => file.writeFile(new Uint8Array(buffer, byteOffset, byteLength)),
    finish: () => file.sync(),
    close: () => file.close(),
  };
}

function jsonlSink(file: FileHandle, dimension: number): EmbeddingSink {
  return {
    write: (rows, embeddings) =>
      file.writeFile(
        rows
          .map(({ name, label, className }, row) => {
            const embedding = [...embeddings.subarray(row * dimension, (row + 1) * dimension)];
            return `${JSON.stringify({ name, label, class: className, embedding })}\n`;
          })
          .join(""),
      ),
    finish: () => file.sync(),
    close: () => file.close(),
  };
}

/** A row group for each `write`. */
function parquetSink(path: string, dimension: number): EmbeddingSink {
  const writer = new ParquetWriter({
    writer: fileWriter(path),
    schema: [
      { name: "root", num_children: 4 },
      { name: "name", type: "BYTE_ARRAY", converted_type: "UTF8", repetition_type: "REQUIRED" },
      { name: "label", type: "INT32", repetition_type: "REQUIRED" },
      { name: "class", type: "BYTE_ARRAY", converted_type: "UTF8", repetition_type: "OPTIONAL" },
      { name: "embedding", num_children: 1, converted_type: "LIST", repetition_type: "REQUIRED" },
      { name: "list", num_children: 1, repetition_type: "REPEATED" },
      { name: "element", type: "FLOAT", repetition_type: "REQUIRED" },
    ],
    createdBy: "tandem",
  });
  return {
    write: async (rows, embeddings) => {
      const vectors = rows.map((_, row) => [...embeddings.subarray(row * dimension, (row + 1) * dimension)]);
      await writer.write({
        columnData: [
          { name: "name", data: rows.map(({ name }) => name) },
          { name: "label", data: rows.map(({ label }) => label) },
          { name: "class", data: rows.map(({ className }) => className) },
          { name: "embedding", data: vectors },
        ],
      });
    },
    finish: async () => {
      await writer.finish();
      const file = await open(path, "r+");
      await file.sync();
      await file.close();
    },
    close: () => Promise.resolve(),
  };
}
