/** Running pip, npm, g++ and tsc. */
import { spawn } from "node:child_process";
import { basename } from "node:path";
import { ToolFailure } from "./report.mjs";

/** Of a failing tool's output, what is shown. */
const SHOWN_CHARACTERS = 4000;

/**
 * Runs a command to its end. The lock's descriptor goes along, so that the lock outlives a set-up that was killed for as
 * long as its tools still write.
 * @param {string} command
 * @param {readonly string[]} args
 * @param {{ cwd?: string, env?: NodeJS.ProcessEnv, lock?: number | undefined }} options
 * @returns {Promise<string>} what it printed
 * @throws {ToolFailure} where it exits other than 0, or cannot be started
 */
export function runTool(command, args, { cwd, env, lock } = {}) {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { cwd, env, stdio: ["ignore", "pipe", "pipe", lock ?? "ignore"] });
    /** @type {Buffer[]} */
    const printed = [];
    child.stdout?.on("data", (bytes) => printed.push(bytes));
    child.stderr?.on("data", (bytes) => printed.push(bytes));
    const text = () => Buffer.concat(printed).toString("utf8");
    child.on("error", (cause) => reject(new ToolFailure(`${command} could not be started: ${cause.message}`, "")));
    child.on("close", (code, signal) => {
      if (code === 0) resolve(text());
      else
        reject(
          new ToolFailure(
            `${nameOf(command, args)} ended with ${signal ?? code}`,
            text().trim().slice(-SHOWN_CHARACTERS),
          ),
        );
    });
  });
}

/** "tsc" rather than the Node that runs it. @param {string} command @param {readonly string[]} args */
function nameOf(command, [script = ""]) {
  return basename(command === process.execPath ? script : command);
}
