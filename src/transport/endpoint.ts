/** Addresses, as `tcp://HOST:PORT`. */
import { UserError } from "../protocol/errors.js";

export const LAST_PORT = 65_535;
/** A name, an IPv4 address, or an IPv6 address in brackets. */
const HOST = /^([\w.-]{1,253}|\[[\da-fA-F:.]{2,45}\])$/;

export function isHost(text: string): boolean {
  return HOST.test(text);
}

/** Whether an address is reached from this machine alone: 127.0.0.0/8 and ::1. */
export function isLoopback(endpoint: string): boolean {
  return /^tcp:\/\/(127(\.\d{1,3}){3}|localhost|\[::1\]):/.test(endpoint);
}

/** Whether it is of all addresses of this machine, which nobody can be told to connect to. */
export function isWildcard(endpoint: string): boolean {
  return ["0.0.0.0", "[::]", "*"].includes(addressOf(endpoint).host);
}

/** @returns port: NaN where it is `*` */
export function addressOf(endpoint: string): { readonly host: string; readonly port: number } {
  const at = endpoint.lastIndexOf(":");
  return { host: endpoint.slice("tcp://".length, at), port: Number(endpoint.slice(at + 1)) };
}

/** A free port of the same address. */
export function anyPort(endpoint: string): string {
  return `tcp://${addressOf(endpoint).host}:*`;
}

/** The port behind it, or so many behind. @throws UserError `ENDPOINT_INVALID` where there is none */
export function nextPort(endpoint: string, behind = 1): string {
  const { host, port } = addressOf(endpoint);
  if (port + behind <= LAST_PORT) return `tcp://${host}:${String(port + behind)}`;
  const needed = behind === 1 ? "the next port is" : `the next ${String(behind)} ports are`;
  throw new UserError("ENDPOINT_INVALID", `${endpoint}: ${needed} needed too, and not there: choose a lower one`);
}
