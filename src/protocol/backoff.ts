/** Waits between attempts to connect: doubled each time, up to the second, and spread by half either way. In ms. */
const FIRST_RETRY_MS = 100;
const LAST_RETRY_MS = 2000;

/** @param failures attempts so far @param random in [0, 1) @returns how long to wait before the next, in ms */
export function retryAfter(failures: number, random: number): number {
  return Math.min(LAST_RETRY_MS, FIRST_RETRY_MS * 2 ** Math.min(failures, 10)) * (0.5 + random);
}
