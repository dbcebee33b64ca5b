/** Vectors as raw frames: cut into pieces on the way out, checked and joined on the way in. */
import { CHUNK_BYTES } from "./wire.js";
import { WireError } from "./wire-error.js";

/** Views of the vectors' bytes, one after another, in pieces of at most CHUNK_BYTES. Nothing is copied. */
export function toFrames(...vectors: readonly ArrayBufferView[]): Uint8Array[] {
  const frames: Uint8Array[] = [];
  for (const { buffer, byteOffset, byteLength } of vectors) {
    for (let start = 0; start < byteLength; start += CHUNK_BYTES) {
      frames.push(new Uint8Array(buffer, byteOffset + start, Math.min(CHUNK_BYTES, byteLength - start)));
    }
  }
  return frames;
}

/**
 * Copies frames into the targets, one after another (one copy, from ZeroMQ's memory into ours).
 * @throws WireError where the frames are not those that `toFrames` makes of vectors of these lengths
 */
export function fromFrames(frames: readonly Uint8Array[], ...targets: readonly ArrayBufferView[]): void {
  const places = toFrames(...targets);
  const fits = frames.length === places.length && places.every((place, i) => place.length === frames[i].length);
  if (!fits) {
    const bytes = (pieces: readonly Uint8Array[]) => pieces.reduce((sum, piece) => sum + piece.byteLength, 0);
    throw new WireError(
      `a tensor of ${String(bytes(frames))} bytes in ${String(frames.length)} frames where ` +
        `${String(bytes(places))} in ${String(places.length)} were due`,
    );
  }
  places.forEach((place, i) => place.set(frames[i]));
}

/** A Float32Array over shared memory, so that threads hand it over without copying. */
export function sharedFloats(length: number): Float32Array {
  return new Float32Array(new SharedArrayBuffer(length * Float32Array.BYTES_PER_ELEMENT));
}
