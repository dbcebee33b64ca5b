/** `--connect` and `--listen`. */
import { UserError } from "../protocol/errors.js";

/** @throws UserError `ENDPOINT_INVALID` */
export function tcpEndpoint(text: string, flag: "connect" | "listen"): string {
  const [, host, port] = /^tcp:\/\/(\[[\da-fA-F:.%\w]+\]|[^:/\s]+):(\d+|\*)$/.exec(text) ?? [];
  const isPort = port === "*" ? flag === "listen" : Number(port) > 0 && Number(port) < 65_536;
  if (host !== undefined && isPort) return text;
  const form = flag === "connect" ? "tcp://HOST:PORT" : "tcp://ADDRESS:PORT (or :* for a free port)";
  throw new UserError(
    "ENDPOINT_INVALID",
    `--${flag} ${text} is no address: write it as ${form}, e.g. tcp://127.0.0.1:5555`,
  );
}
