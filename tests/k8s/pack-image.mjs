/** An image of one layer, as an OCI archive. */
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/**
 * @param {string} root folder of its files @param {string} out the archive @param {string} name @param {readonly string[]} entrypoint
 * @returns {string} `out`
 */
export function packImage(root, out, name, entrypoint) {
  const work = mkdtempSync(join(tmpdir(), "tandem-pack-"));
  mkdirSync(join(work, "blobs/sha256"), { recursive: true });
  /** @param {Uint8Array} bytes @param {string} mediaType */
  const blob = (bytes, mediaType) => {
    const digest = createHash("sha256").update(bytes).digest("hex");
    writeFileSync(join(work, "blobs/sha256", digest), bytes);
    return { mediaType, digest: `sha256:${digest}`, size: bytes.length };
  };
  const json = (/** @type {unknown} */ content, /** @type {string} */ mediaType) => blob(Buffer.from(JSON.stringify(content)), mediaType); // prettier-ignore
  const tar = execFileSync("tar", ["--owner=0", "--group=0", "-cf", "-", "-C", root, "."], { maxBuffer: 1 << 30 });
  const layer = blob(tar, "application/vnd.oci.image.layer.v1.tar");
  const platform = { architecture: process.arch === "x64" ? "amd64" : process.arch, os: "linux" };
  const rootfs = { type: "layers", diff_ids: [layer.digest] };
  const config = json(
    { ...platform, config: { Entrypoint: entrypoint }, rootfs },
    "application/vnd.oci.image.config.v1+json",
  );
  const type = "application/vnd.oci.image.manifest.v1+json";
  const manifest = json({ schemaVersion: 2, mediaType: type, config, layers: [layer] }, type);
  const annotations = { "io.containerd.image.name": name };
  writeFileSync(join(work, "oci-layout"), JSON.stringify({ imageLayoutVersion: "1.0.0" }));
  writeFileSync(
    join(work, "index.json"),
    JSON.stringify({ schemaVersion: 2, manifests: [{ ...manifest, annotations }] }),
  );
  execFileSync("tar", ["-cf", out, "-C", work, "."]);
  rmSync(work, { recursive: true });
  return out;
}
