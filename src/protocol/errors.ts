/**
 * Somebody's mistake that they can mend: a wrong key, a missing folder, a port in use.
 * The CLI prints `message` as one line and exits 2; every other error is a bug: stack and exit 1.
 */
export class UserError extends Error {
  override readonly name: string = "UserError";

  /**
   * @param code stable, upper-case, e.g. `CONFIG_UNKNOWN_KEY`
   * @param message one line that names the thing, its value and the remedy
   */
  constructor(
    readonly code: string,
    message: string,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}
