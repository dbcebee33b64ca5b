/** Who listens beyond this machine wants keys, or is told so. */
import { UserError } from "../protocol/errors.js";
import { isLoopback } from "../transport/index.js";

/**
 * For an address without keys.
 * @param named how to call the address
 * @throws UserError `KEYS_MISSING` where others could reach the run and nothing keeps them out
 */
export function requireKeysOrInsecure(listen: string, insecure: boolean, named = listen): void {
  if (isLoopback(listen)) return;
  if (!insecure) {
    throw new UserError(
      "KEYS_MISSING",
      `${named} can be reached from other machines: give --keys (see tandem keys new), or --insecure on a network ` +
        "where everybody may read and change the run",
    );
  }
  process.stderr.write(`warning: --insecure: whoever reaches ${listen} can read and change this run\n`);
}
