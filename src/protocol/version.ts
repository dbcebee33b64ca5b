/** The package: where its files are, and its version, which coordinator and workers of one run must share. */
import { readFileSync } from "node:fs";

interface Package {
  /** folder of `package.json`, `proto`, `k8s` */
  readonly root: URL;
  readonly version: string;
}

function find(): Package {
  // From dist/src/protocol/ and, under test, from src/protocol/.
  for (const above of ["../../../", "../../"]) {
    try {
      const root = new URL(above, import.meta.url);
      const parsed = JSON.parse(readFileSync(new URL("package.json", root), "utf8")) as {
        name?: string;
        version?: string;
      };
      if (parsed.name === "tandem" && parsed.version !== undefined) return { root, version: parsed.version };
    } catch {
      continue;
    }
  }
  throw new Error("package.json of tandem is missing");
}

const found = find();
export const SOFTWARE_VERSION = found.version;
export const PACKAGE_ROOT = found.root;
