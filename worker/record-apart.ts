/**
 * Recording runs the step eagerly, which takes half as much memory again as the graph ever will, and malloc would keep it. So
 * it is done in a process of its own, which leaves the graph among those that are kept.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import type { RunConfig } from "../src/config/schema.js";

const PROGRAM = fileURLToPath(new URL("./record-step.js", import.meta.url));
/** A recording that takes longer hangs: it is given up, and the worker records by itself. */
const MOST_MS = 10 * 60_000;

/**
 * Whatever goes wrong there happens again, and is heard, where the worker prepares its step.
 * @param signal ends the process
 */
export async function recordApart(config: RunConfig, signal: AbortSignal): Promise<void> {
  const child = spawn(process.execPath, [PROGRAM], { stdio: ["pipe", "ignore", "ignore"] });
  const end = () => child.kill("SIGKILL");
  const timer = setTimeout(end, MOST_MS);
  signal.addEventListener("abort", end, { once: true });
  if (signal.aborted) end();
  child.stdin.on("error", () => undefined);
  // Left open: its end tells the process that we are gone.
  child.stdin.write(`${JSON.stringify(config)}\n`);
  await once(child, "close").catch(() => undefined);
  clearTimeout(timer);
  signal.removeEventListener("abort", end);
}
