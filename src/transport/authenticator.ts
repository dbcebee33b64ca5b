/**
 * ZAP (RFC 27): ZeroMQ asks, for each connection to a socket with keys, whether the client's key is known. One handler answers
 * for all sockets of the process, in whichever thread they live, since threads share ZeroMQ's context.
 */
import { Reply } from "zeromq";
import type { KeyPair, ServerKeys } from "./keys.js";

const ENDPOINT = "inproc://zeromq.zap.01";
const VERSION = "1.0";
const Z85 = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#";

/** What a server's socket needs to be closed to strangers. */
export interface Guard extends KeyPair {
  /** whom the handler lets in */
  readonly domain: string;
}

/** Whom a domain lets in, and who hears of the others. */
interface Domain {
  /** public keys as hex */
  readonly allowed: ReadonlySet<string>;
  readonly refused: (reason: string) => void;
}

const domains = new Map<string, Domain>();
let handler: Reply | null = null;
let count = 0;

/** Lets the owners of the workers' keys in, and nobody else. The sockets that it guards are to be closed before it. */
export async function openGuard(
  { publicKey, secretKey, workers }: ServerKeys,
  refused: (reason: string) => void,
): Promise<{ readonly guard: Guard; readonly close: () => void }> {
  const domain = `tandem-${String(++count)}`;
  domains.set(domain, { allowed: new Set(Object.values(workers).map(z85ToHex)), refused });
  if (handler === null) {
    handler = new Reply();
    await handler.bind(ENDPOINT);
    void answer(handler);
  }
  return {
    guard: { publicKey, secretKey, domain },
    close: () => {
      domains.delete(domain);
      if (domains.size > 0) return;
      handler?.close();
      handler = null;
    },
  };
}

async function answer(socket: Reply): Promise<void> {
  for await (const [version, id, domain, address, , mechanism, key] of socket) {
    const asked = domains.get(domain?.toString() ?? "");
    const isKnown =
      version?.toString() === VERSION &&
      mechanism?.toString() === "CURVE" &&
      key !== undefined &&
      asked?.allowed.has(key.toString("hex")) === true;
    if (!isKnown) asked?.refused(`a peer at ${address?.toString() ?? "?"} with a key that is not known here`);
    const verdict = isKnown ? ["200", "OK"] : ["400", "unknown key"];
    await socket.send([VERSION, id ?? "", ...verdict, "", ""]);
  }
}

/** RFC 32: five characters are four bytes, base 85, most significant first. */
function z85ToHex(text: string): string {
  const words = text.match(/.{5}/gs) ?? [];
  return words
    .map((word) => Array.from(word).reduce((value, character) => value * 85 + Z85.indexOf(character), 0))
    .map((value) => value.toString(16).padStart(8, "0"))
    .join("");
}
