/** The version in `package.json`: coordinator and workers of one run must share it. */
import { readFileSync } from "node:fs";

function read(): string {
  // From dist/src/protocol/ and, under test, from src/protocol/.
  for (const above of ["../../../package.json", "../../package.json"]) {
    try {
      const parsed = JSON.parse(readFileSync(new URL(above, import.meta.url), "utf8")) as {
        name?: string;
        version?: string;
      };
      if (parsed.name === "tandem" && parsed.version !== undefined) return parsed.version;
    } catch {
      continue;
    }
  }
  throw new Error("package.json of tandem is missing");
}

export const SOFTWARE_VERSION = read();
