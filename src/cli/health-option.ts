/** `--health`. */
import { Health, serveHealth } from "../telemetry/index.js";
import { once } from "./run-options.js";

export const HEALTH_OPTION = {
  type: "string",
  requiresArg: true,
  describe: "Answer a supervisor's probes over HTTP at HOST:PORT: /livez (the heartbeat loop turns) and /readyz",
} as const;

/**
 * @param given undefined: nobody asks
 * @param say hears where it is answered
 * @returns what is told of the process's health from then on, and `close`
 */
export async function healthAt(
  given: string | undefined,
  say: (message: string) => void,
): Promise<{ readonly health: Health; readonly close: () => void }> {
  const health = new Health();
  const address = once("health", given);
  if (address === undefined) return { health, close: () => undefined };
  const server = await serveHealth(address, health);
  say(`health at http://${server.address}/livez and /readyz`);
  return { health, close: server.close };
}
