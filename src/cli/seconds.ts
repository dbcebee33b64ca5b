/** Flags that are times. */
import { UserError } from "../protocol/errors.js";
import { once } from "./run-options.js";

/** What a timer can wait: 24 days. */
const MOST_SECONDS = 2_147_483;

/** @returns ms @throws UserError where it is no time */
export function milliseconds(name: string, seconds: number): number {
  if (once(name, seconds) >= 0 && seconds <= MOST_SECONDS) return 1000 * seconds;
  throw new UserError("USAGE", `--${name} wants a number of seconds, ${String(MOST_SECONDS)} at the most`);
}
