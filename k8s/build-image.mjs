/**
 * Builds the image without a Docker daemon: an OCI archive, as `docker load`, `skopeo copy oci-archive:`, `ctr images import` and
 * `kind load image-archive` take it. The same files as of the Dockerfile.
 *
 * usage: node k8s/build-image.mjs [--out tandem.tar] [--device cpu|gpu] [--name tandem:0.1.0]
 */
import { execFileSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { packImage } from "./image/oci.mjs";

const ROOT = fileURLToPath(new URL("..", import.meta.url));
const { version, description, license } = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8"));
const { values } = parseArgs({
  options: {
    out: { type: "string", default: "tandem.tar" },
    device: { type: "string", default: "cpu" },
    name: { type: "string", default: `tandem:${version}` },
  },
});
/** What changes seldom comes first, so that an update moves the last layer alone. */
const OWN = [["opt"], ["app", "sbom"]];
const labels = {
  "org.opencontainers.image.title": "tandem",
  "org.opencontainers.image.description": description,
  "org.opencontainers.image.version": version,
  "org.opencontainers.image.licenses": license,
};
/** As the Dockerfile says it. */
const config = {
  User: "65532:65532",
  Entrypoint: ["/usr/local/bin/tandem"],
  Cmd: ["--help"],
  WorkingDir: "/home/tandem",
  Env: ["PATH=/usr/local/bin:/usr/bin:/bin", "XDG_CACHE_HOME=/opt", "TANDEM_CACHE=/tmp/tandem", "NODE_ENV=production"],
};

if (!["cpu", "gpu"].includes(values.device)) {
  process.stderr.write(`--device ${values.device}: give cpu or gpu\n`);
  process.exit(2);
}
const work = mkdtempSync(join(tmpdir(), "tandem-build-"));
try {
  const root = join(work, "rootfs");
  execFileSync(process.execPath, [join(ROOT, "k8s/image/rootfs.mjs"), root, values.device], { stdio: "inherit" });
  const system = readdirSync(root).filter((name) => !OWN.flat().includes(name));
  const digest = await packImage({ root, layers: [system, ...OWN], name: values.name, config, labels }, values.out);
  process.stdout.write(`${values.out}  ${values.name}  ${digest}\n`);
} finally {
  rmSync(work, { recursive: true });
}
