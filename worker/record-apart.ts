/**
 * Recording runs the step eagerly, which takes half as much memory again as the graph ever will, and malloc would keep it. So
 * it is done in a process of its own, which leaves the graph among those that are kept.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import type { RunConfig } from "../src/config/schema.js";

const PROGRAM = fileURLToPath(new URL("./record-step.js", import.meta.url));
/** Set in that process, which is to record by itself. */
const MARK = "TANDEM_RECORDING";

/** Whatever goes wrong there happens again where it is awaited: in `compile`. */
export async function recordApart(config: RunConfig): Promise<void> {
  if (process.env[MARK] !== undefined) return;
  const child = spawn(process.execPath, [PROGRAM], {
    env: { ...process.env, [MARK]: "1" },
    stdio: ["pipe", "ignore", "ignore"],
  });
  child.stdin.on("error", () => undefined);
  child.stdin.end(JSON.stringify(config));
  const end = () => child.kill("SIGKILL");
  process.once("exit", end);
  await once(child, "close").catch(() => undefined);
  process.off("exit", end);
}
