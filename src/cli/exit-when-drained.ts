/** `--exit-when-drained`. */
import { UserError } from "../protocol/errors.js";
import { wholeNumber } from "./run-options.js";

export const EXIT_WHEN_DRAINED_OPTION = {
  type: "number",
  default: 0,
  requiresArg: true,
  describe: "Exit code where it was asked to leave before the run's end, e.g. 143 for a Job that replaces it",
} as const;

/** @throws UserError `USAGE` where it is no exit code */
export function drainedCode(given: number): number {
  const code = wholeNumber("exit-when-drained", given, 0);
  if (code > 255) throw new UserError("USAGE", `--exit-when-drained ${String(code)}: an exit code is 0 to 255`);
  return code;
}
