/** `--ui`. */
import type { Dashboard, RunView } from "../dashboard/index.js";
import type { RunConfig } from "../config/index.js";
import { UserError } from "../protocol/errors.js";
import { httpAddress } from "../telemetry/index.js";
import { once } from "./run-options.js";

export const UI_OPTION = {
  type: "string",
  requiresArg: true,
  defaultDescription: "127.0.0.1:8080, or the next port that is free",
  describe:
    "Where the dashboard is shown, HOST:PORT, or off; beyond this machine only to those with its token (TANDEM_UI_TOKEN, or one that is drawn and printed)",
} as const;

/** As the dashboard calls it when it cannot listen. */
const FLAG = { name: "--ui", example: "127.0.0.1:8080, or off" };
const HOST = "127.0.0.1";
/** Tried in turn where none is asked for. */
const PORTS = Array.from({ length: 20 }, (_, index) => 8080 + index);
/** Of a token that somebody chooses. */
const LEAST_TOKEN = 16;

/** null: no dashboard */
type Place = { readonly host: string; readonly ports: readonly number[]; readonly isAskedFor: boolean } | null;

/** @param given undefined: not given @throws UserError `ADDRESS_INVALID` */
export function uiPlace(given: string | undefined): Place {
  const text = once("ui", given);
  if (text === "off") return null;
  if (text === undefined) return { host: HOST, ports: PORTS, isAskedFor: false };
  const { host, port } = httpAddress(text, FLAG);
  return { host, ports: [port], isAskedFor: true };
}

/**
 * @param say hears where it is, or why there is none
 * @throws UserError `PORT_IN_USE`, `ADDRESS_INVALID`, `TOKEN_SHORT`
 */
export async function openDashboard(
  place: NonNullable<Place>,
  { config, title, view, pictures }: { view: RunView; pictures: string; title: string; config: RunConfig },
  say: (message: string) => void,
): Promise<Dashboard | null> {
  const { serveDashboard } = await import("../dashboard/index.js");
  const token = process.env["TANDEM_UI_TOKEN"] || null;
  if (token !== null && token.length < LEAST_TOKEN)
    throw new UserError("TOKEN_SHORT", `TANDEM_UI_TOKEN has ${String(token.length)} characters: give ${String(LEAST_TOKEN)} or more`); // prettier-ignore
  const described = { title, encoder: config.model.encoder, method: config.method };
  for (const port of place.ports) {
    try {
      const address = { host: place.host, port };
      const dashboard = await serveDashboard({ address, flag: FLAG, token, view, pictures, described });
      say(`dashboard at ${dashboard.url}`);
      return dashboard;
    } catch (error) {
      if (place.isAskedFor || !(error instanceof UserError) || error.code !== "PORT_IN_USE") throw error;
    }
  }
  say(
    `no dashboard: ports ${String(PORTS[0])} to ${String(PORTS.at(-1))} are in use; choose another with --ui HOST:PORT`,
  );
  return null;
}
