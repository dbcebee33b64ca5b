/**
 * Builds the image without a Docker daemon: an OCI archive, as `docker load`, `skopeo copy oci-archive:`, `ctr images import` and
 * `kind load image-archive` take it. The same files as of the Dockerfile.
 *
 * usage: node k8s/build-image.mjs [--out tandem.tar] [--device cpu|gpu] [--name tandem:0.1.0]
 */
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  createReadStream,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

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
/** The same bytes whenever it is built of the same files. */
const REPRODUCIBLE = ["--sort=name", "--mtime=@0", "--owner=0", "--group=0", "--numeric-owner", "--format=posix", "--pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime"]; // prettier-ignore

const work = mkdtempSync(join(tmpdir(), "tandem-oci-"));
const blobs = join(work, "oci/blobs/sha256");
mkdirSync(blobs, { recursive: true });

/** @param {string} path @returns {Promise<string>} hex sha256 */
async function digestOf(path) {
  const hash = createHash("sha256");
  for await (const bytes of createReadStream(path)) hash.update(bytes);
  return hash.digest("hex");
}

/** @param {string} path is moved @param {string} mediaType */
async function blob(path, mediaType) {
  const digest = await digestOf(path);
  const { size } = statSync(path);
  renameSync(path, join(blobs, digest));
  return { mediaType, digest: `sha256:${digest}`, size };
}

/** @param {unknown} content @param {string} mediaType */
function document(content, mediaType) {
  const path = join(work, "document.json");
  writeFileSync(path, JSON.stringify(content));
  return blob(path, mediaType);
}

const rootfs = join(work, "rootfs");
execFileSync(process.execPath, [join(ROOT, "k8s/image/rootfs.mjs"), rootfs, values.device], { stdio: "inherit" });
const layers = [];
const diffs = [];
const system = readdirSync(rootfs).filter((name) => !OWN.flat().includes(name));
for (const names of [system, ...OWN]) {
  const tar = join(work, "layer.tar");
  execFileSync("tar", [...REPRODUCIBLE, "-cf", tar, "-C", rootfs, ...names]);
  diffs.push(`sha256:${await digestOf(tar)}`);
  execFileSync("gzip", ["-n", "-6", tar]);
  layers.push(await blob(`${tar}.gz`, "application/vnd.oci.image.layer.v1.tar+gzip"));
}
rmSync(rootfs, { recursive: true });

const labels = {
  "org.opencontainers.image.title": "tandem",
  "org.opencontainers.image.description": description,
  "org.opencontainers.image.version": version,
  "org.opencontainers.image.licenses": license,
};
/** As the Dockerfile says it. */
const config = {
  User: "65532:65532",
  Entrypoint: ["/usr/local/bin/node", "/app/bin/tandem.js"],
  Cmd: ["--help"],
  WorkingDir: "/home/tandem",
  Env: ["PATH=/usr/local/bin:/usr/bin:/bin", "XDG_CACHE_HOME=/opt", "TANDEM_CACHE=/tmp/tandem", "NODE_ENV=production"],
  Labels: labels,
};
const platform = { architecture: process.arch === "x64" ? "amd64" : process.arch, os: "linux" };
const image = await document(
  { created: "1970-01-01T00:00:00Z", ...platform, config, rootfs: { type: "layers", diff_ids: diffs } },
  "application/vnd.oci.image.config.v1+json",
);
const manifest = await document(
  {
    schemaVersion: 2,
    mediaType: "application/vnd.oci.image.manifest.v1+json",
    config: image,
    layers,
    annotations: labels,
  },
  "application/vnd.oci.image.manifest.v1+json",
);
const [repository = "", tag = "latest"] = values.name.split(":");
/** As kubelets and Docker complete a name without a registry. */
const full = repository.includes("/") ? values.name : `docker.io/library/${repository}:${tag}`;
const reference = { "org.opencontainers.image.ref.name": tag, "io.containerd.image.name": full };
writeFileSync(join(work, "oci/oci-layout"), JSON.stringify({ imageLayoutVersion: "1.0.0" }));
writeFileSync(
  join(work, "oci/index.json"),
  JSON.stringify({ schemaVersion: 2, manifests: [{ ...manifest, platform, annotations: reference }] }),
);
execFileSync("tar", [...REPRODUCIBLE, "-cf", resolve(values.out), "-C", join(work, "oci"), "."]);
rmSync(work, { recursive: true });
process.stdout.write(`${values.out}  ${values.name}  ${manifest.digest}\n`);
