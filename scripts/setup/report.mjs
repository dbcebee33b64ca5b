/** What set-up says, and how it gives up. */

/** Something that the user can put right: one line, no stack, exit code 2. */
export class SetupError extends Error {
  name = "SetupError";
}

/** A tool that set-up ran has failed: its last lines follow, exit code 1. */
export class ToolFailure extends Error {
  name = "ToolFailure";

  /** @param {string} message @param {string} output what the tool printed */
  constructor(message, output) {
    super(message);
    this.output = output;
  }
}

/** @param {string} line */
export function log(line) {
  process.stdout.write(`[set-up] ${line}\n`);
}

/** @param {number} since from `performance.now()` @returns {string} for example "3.2 s" */
export function elapsed(since) {
  return `${((performance.now() - since) / 1000).toFixed(1)} s`;
}
