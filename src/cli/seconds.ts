/** Flags that are times. */
import { UserError } from "../protocol/errors.js";
import { once } from "./run-options.js";

/** @returns ms @throws UserError where it is no time */
export function milliseconds(name: string, seconds: number): number {
  if (once(name, seconds) >= 0 && Number.isFinite(seconds)) return 1000 * seconds;
  throw new UserError("USAGE", `--${name} wants a number of seconds`);
}
