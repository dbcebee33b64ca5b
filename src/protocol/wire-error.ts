/** A peer sent what the protocol does not allow. The message is dropped and counted; the process goes on. */
export class WireError extends Error {
  override readonly name = "WireError";
}
