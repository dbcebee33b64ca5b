/** Memory that is let go at once. */
import { loadAddon } from "./addon.js";

/** let-go.cc */
interface Addon {
  letGo(buffer: ArrayBuffer): void;
}

let loaded: Addon | null = null;

/**
 * An array that is read no more, and whose buffer is its own: each few dozen MB that wait for the garbage collector have V8 look through its whole
 * heap (20 ms of another core, measured), and the next ones are fresh pages. What shares its buffer with others is left alone.
 */
export function letGo({ buffer, byteLength }: Float32Array): void {
  if (!(buffer instanceof ArrayBuffer) || buffer.byteLength !== byteLength) return;
  loaded ??= loadAddon<Addon>("let-go");
  loaded.letGo(buffer);
}
