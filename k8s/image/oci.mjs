/** Images as OCI archives: the image layout of the Open Container Initiative, in a tar file. */
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { createReadStream, mkdirSync, mkdtempSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";

/** The same bytes whenever it is packed of the same files. */
const REPRODUCIBLE = ["--sort=name", "--mtime=@0", "--owner=0", "--group=0", "--numeric-owner", "--format=posix", "--pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime"]; // prettier-ignore

/**
 * @typedef {object} Image
 * @property {string} root folder of its files
 * @property {readonly (readonly string[])[]} layers what of the folder is in each
 * @property {string} name `REPOSITORY:TAG`
 * @property {Readonly<Record<string, unknown>>} config as the image specification has it, e.g. `Entrypoint`
 * @property {Readonly<Record<string, string>>} [labels]
 */

/**
 * @param {Image} image @param {string} out the archive
 * @returns {Promise<string>} the manifest's digest
 */
export async function packImage({ root, layers, name, config, labels = {} }, out) {
  const work = mkdtempSync(join(tmpdir(), "tandem-oci-"));
  try {
    return await pack(work, { root, layers, name, config, labels }, out);
  } finally {
    rmSync(work, { recursive: true });
  }
}

/** @param {string} work @param {Image} image @param {string} out */
async function pack(work, { root, layers, name, config, labels }, out) {
  const layout = join(work, "layout");
  const blobs = join(layout, "blobs/sha256");
  mkdirSync(blobs, { recursive: true });
  /** @param {string} path is moved @param {string} mediaType */
  const blob = async (path, mediaType) => {
    const digest = await digestOf(path);
    const { size } = statSync(path);
    renameSync(path, join(blobs, digest));
    return { mediaType, digest: `sha256:${digest}`, size };
  };
  /** @param {unknown} content @param {string} mediaType */
  const document = (content, mediaType) => {
    const path = join(work, "document.json");
    writeFileSync(path, JSON.stringify(content));
    return blob(path, mediaType);
  };
  const [packed, diffs] = [[], []];
  for (const names of layers) {
    const tar = join(work, "layer.tar");
    execFileSync("tar", [...REPRODUCIBLE, "-cf", tar, "-C", root, ...names]);
    diffs.push(`sha256:${await digestOf(tar)}`);
    execFileSync("gzip", ["-n", "-6", tar]);
    packed.push(await blob(`${tar}.gz`, "application/vnd.oci.image.layer.v1.tar+gzip"));
  }
  const platform = { architecture: process.arch === "x64" ? "amd64" : process.arch, os: "linux" };
  const rootfs = { type: "layers", diff_ids: diffs };
  const own = { created: "1970-01-01T00:00:00Z", ...platform, config: { ...config, Labels: labels }, rootfs };
  const described = await document(own, "application/vnd.oci.image.config.v1+json");
  const type = "application/vnd.oci.image.manifest.v1+json";
  const content = { schemaVersion: 2, mediaType: type, config: described, layers: packed, annotations: labels };
  const manifest = await document(content, type);
  const annotations = {
    "org.opencontainers.image.ref.name": tagOf(name),
    "io.containerd.image.name": fullName(name),
  };
  const index = { schemaVersion: 2, manifests: [{ ...manifest, platform, annotations }] };
  writeFileSync(join(layout, "oci-layout"), JSON.stringify({ imageLayoutVersion: "1.0.0" }));
  writeFileSync(join(layout, "index.json"), JSON.stringify(index));
  execFileSync("tar", [...REPRODUCIBLE, "-cf", resolve(out), "-C", layout, "."]);
  return manifest.digest;
}

/** @param {string} path @returns {Promise<string>} hex sha256 */
async function digestOf(path) {
  const hash = createHash("sha256");
  for await (const bytes of createReadStream(path)) hash.update(bytes);
  return hash.digest("hex");
}

/** A port of a registry is no tag. @param {string} name */
function tagOf(name) {
  return /:([^:/]+)$/.exec(name)?.[1] ?? "latest";
}

/** As kubelets and Docker complete a name without a registry. @param {string} name */
function fullName(name) {
  const tagged = name.endsWith(`:${tagOf(name)}`) ? name : `${name}:${tagOf(name)}`;
  return name.includes("/") ? tagged : `docker.io/library/${tagged}`;
}
