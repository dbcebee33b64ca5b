/** Float32 vectors as raw frames: cut into pieces on the way out, checked and joined on the way in. */
import { CHUNK_BYTES } from "./wire.js";
import { WireError } from "./wire-error.js";

/** Views of the vectors' bytes, one after another, in pieces of at most CHUNK_BYTES. Nothing is copied. */
export function toFrames(...vectors: readonly Float32Array[]): Uint8Array[] {
  return vectors.flatMap((vector) => {
    const frames: Uint8Array[] = [];
    for (let start = 0; start < vector.byteLength; start += CHUNK_BYTES) {
      const length = Math.min(CHUNK_BYTES, vector.byteLength - start);
      frames.push(new Uint8Array(vector.buffer, vector.byteOffset + start, length));
    }
    return frames;
  });
}

/**
 * Copies frames into `target` (one copy, from ZeroMQ's memory into ours).
 * @throws WireError where the frames hold fewer or more bytes than `target`
 */
export function fromFrames(frames: readonly Uint8Array[], target: Float32Array): void {
  const total = frames.reduce((sum, frame) => sum + frame.byteLength, 0);
  if (total !== target.byteLength) {
    throw new WireError(`a tensor of ${String(total)} bytes where ${String(target.byteLength)} were due`);
  }
  const bytes = new Uint8Array(target.buffer, target.byteOffset, target.byteLength);
  let offset = 0;
  for (const frame of frames) {
    bytes.set(frame, offset);
    offset += frame.byteLength;
  }
}

/** A Float32Array over shared memory, so that threads hand it over without copying. */
export function sharedFloats(length: number): Float32Array {
  return new Float32Array(new SharedArrayBuffer(length * Float32Array.BYTES_PER_ELEMENT));
}
