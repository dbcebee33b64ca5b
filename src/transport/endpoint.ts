/** Addresses, as `tcp://HOST:PORT`. */

/** Whether an address is reached from this machine alone: 127.0.0.0/8 and ::1. */
export function isLoopback(endpoint: string): boolean {
  return /^tcp:\/\/(127(\.\d{1,3}){3}|localhost|\[::1\]):/.test(endpoint);
}
