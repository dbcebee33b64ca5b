/** `--health`. */
import { Health, serveHealth, type Metrics } from "../telemetry/index.js";
import { once } from "./run-options.js";

export const HEALTH_OPTION = {
  type: "string",
  requiresArg: true,
  describe:
    "Answer over HTTP at HOST:PORT: /livez (the heartbeat loop turns) and /readyz for a supervisor, /metrics for Prometheus",
} as const;

/**
 * @param given undefined: nobody asks
 * @param say hears where it is answered
 * @returns what is told of the process's health from then on, where it registers what it measures (null: nobody asks), and `close`
 */
export async function healthAt(
  given: string | undefined,
  say: (message: string) => void,
): Promise<{ readonly health: Health; readonly metrics: Metrics | null; readonly close: () => void }> {
  const health = new Health();
  const address = once("health", given);
  if (address === undefined) return { health, metrics: null, close: () => undefined };
  // Whom nobody asks starts sooner without.
  const { Metrics } = await import("../telemetry/metrics.js");
  const metrics = new Metrics();
  const server = await serveHealth(address, health, metrics);
  say(`health at http://${server.address}/livez and /readyz, metrics at /metrics`);
  return { health, metrics, close: server.close };
}
