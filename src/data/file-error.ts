/** What the operating system said of a file that cannot be read. */

/** The error's code, e.g. `ENOENT`, or its text where it has none. */
export function fileErrorCode(error: unknown): string {
  if (error instanceof Error && "code" in error && typeof error.code === "string") return error.code;
  return String(error);
}
