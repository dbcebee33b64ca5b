/** Memory that is let go at once. */
import { loadAddon } from "./addon.js";

/** let-go.cc */
interface Addon {
  letGo(buffer: ArrayBuffer): void;
}

let loaded: Addon | null = null;

/**
 * An array that is read no more. Each few dozen MB that are left to the garbage collector have V8 look through its whole heap (20 ms of another
 * core, measured), and where a thread allocates little they stay. What shares its buffer with others is left alone.
 */
export function letGo({ buffer, byteLength }: Float32Array): void {
  const isOwn = buffer instanceof ArrayBuffer && buffer.byteLength === byteLength && byteLength > 0;
  if (!isOwn) return;
  loaded ??= loadAddon<Addon>("let-go");
  loaded.letGo(buffer);
}
