import { spawnSync } from "node:child_process";

/** @param {string} command @param {readonly string[]} args @returns {Record<string, number>} the last line that it prints, as JSON */
export function lastLine(command, args) {
  const { status, stdout, stderr } = spawnSync(command, args, { encoding: "utf8" });
  if (status !== 0) throw new Error(`${command} ${args.join(" ")} ended with ${status}: ${stderr}`);
  return JSON.parse(stdout.trim().split("\n").at(-1) ?? "");
}
