/**
 * Somebody's mistake that they can mend: a wrong key, a missing folder, a port in use.
 * The CLI prints `message` as one line and exits 2; an error that is neither this nor a breakdown is a bug: stack and exit 1.
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

/**
 * Something broke down that may hold another time, e.g. a process that was killed. The CLI prints `message` as one line and exits 1: whoever
 * supervises starts it again.
 */
export class BreakdownError extends Error {
  override readonly name: string = "BreakdownError";
}
