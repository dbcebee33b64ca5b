/** Digests by which two processes agree that they hold the same values. */
import { createHash } from "node:crypto";

/** Hex sha256 of the vectors' bytes, one after another. */
export function sha256OfFloats(...vectors: readonly Float32Array[]): string {
  const hash = createHash("sha256");
  for (const { buffer, byteOffset, byteLength } of vectors) hash.update(new Uint8Array(buffer, byteOffset, byteLength));
  return hash.digest("hex");
}
