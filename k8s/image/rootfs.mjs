/**
 * The image's root file system: the few Debian packages that Node.js needs, node itself, libtensorflow, and Tandem, built from this checkout as its lockfile
 * says. The Dockerfile calls it, and so does build-image.mjs where there is no Docker; both get the same files.
 *
 * usage: node k8s/image/rootfs.mjs FOLDER [cpu|gpu]      on Debian 12, with g++, python3 and pip
 */
import { execFileSync } from "node:child_process";
import {
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { homedir, tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

const ROOT = fileURLToPath(new URL("../..", import.meta.url)).replace(/\/$/, "");
/** What node and its addons are linked to, certificates, and what tells the system apart. */
const PACKAGES = ["base-files", "netbase", "tzdata", "ca-certificates", "libc6", "libgcc-s1", "libstdc++6"];
/** What is built from, and what is run. */
const SOURCES = [".npmrc", "bin", "coordinator", "worker", "src", "proto", "k8s", "scripts", "examples", "tests", "package.json", "package-lock.json", "tsconfig.json", "LICENSE"]; // prettier-ignore
const RUN = ["bin", "dist", "examples", "k8s", "src/dashboard/page", "node_modules", "package.json", "LICENSE"];
/** Whoever runs it: nobody in particular, and not root. */
const USER = 65532;

const [folder = "", flavour = "cpu"] = process.argv.slice(2);
if (folder === "" || !["cpu", "gpu"].includes(flavour)) {
  process.stderr.write("usage: node k8s/image/rootfs.mjs FOLDER [cpu|gpu]\n");
  process.exit(2);
}
const target = resolve(folder);

/** @param {string} command @param {readonly string[]} args @param {import("node:child_process").ExecFileSyncOptions} [options] */
const run = (command, args, options) =>
  execFileSync(command, args, { stdio: ["ignore", "ignore", "inherit"], ...options });

function debianPackages() {
  const downloads = mkdtempSync(join(tmpdir(), "tandem-debs-"));
  run("apt-get", ["download", "-q", ...PACKAGES], { cwd: downloads });
  const status = join(target, "var/lib/dpkg/status.d");
  mkdirSync(status, { recursive: true });
  for (const file of readdirSync(downloads).sort()) {
    const archive = join(downloads, file);
    run("dpkg-deb", ["-x", archive, target]);
    // As scanners of images look for it.
    const [name = ""] = file.split("_");
    writeFileSync(join(status, name), execFileSync("dpkg-deb", ["-f", archive]));
  }
  rmSync(downloads, { recursive: true });
  // What no process of ours opens.
  for (const path of ["usr/share/doc", "usr/share/man", "usr/share/lintian", "usr/share/info", "etc/update-motd.d"])
    rmSync(join(target, path), { recursive: true, force: true });
  certificates();
}

/** As update-ca-certificates joins them. */
function certificates() {
  const all = join(target, "usr/share/ca-certificates/mozilla");
  const bundle = readdirSync(all)
    .sort()
    .map((name) => execFileSync("cat", [join(all, name)]));
  mkdirSync(join(target, "etc/ssl/certs"), { recursive: true });
  writeFileSync(join(target, "etc/ssl/certs/ca-certificates.crt"), Buffer.concat(bundle));
}

function accounts() {
  writeFileSync(join(target, "etc/passwd"), `root:x:0:0:root:/root:/sbin/nologin\ntandem:x:${USER}:${USER}:tandem:/home/tandem:/sbin/nologin\n`); // prettier-ignore
  writeFileSync(join(target, "etc/group"), `root:x:0:\ntandem:x:${USER}:\n`);
  writeFileSync(join(target, "etc/nsswitch.conf"), "hosts: files dns\n");
  for (const place of ["home/tandem", "tmp", "proc", "sys", "dev", "run"])
    mkdirSync(join(target, place), { recursive: true });
}

function node() {
  mkdirSync(join(target, "usr/local/bin"), { recursive: true });
  copyFileSync(process.execPath, join(target, "usr/local/bin/node"));
}

/** Built in a folder of its own, since what is built holds paths; those that lead into the image are made its own at the end. */
function tandem() {
  const work = mkdtempSync(join(tmpdir(), "tandem-image-"));
  const app = join(work, "app");
  for (const name of SOURCES) cpSync(join(ROOT, name), join(app, name), { recursive: true, filter: isSource });
  const caches = join(target, "opt");
  const engine = join(caches, "tandem");
  reuse(engine);
  const env = { ...process.env, XDG_CACHE_HOME: caches, TANDEM_CACHE: "", TANDEM_DEVICE: flavour };
  run(process.execPath, ["scripts/bootstrap.mjs"], { cwd: app, env });
  run("npm", ["prune", "--omit=dev", "--ignore-scripts", "--no-audit", "--no-fund"], { cwd: app });
  mkdirSync(join(target, "sbom"), { recursive: true });
  writeFileSync(join(target, "sbom/tandem.spdx.json"), bom(app));
  rmSync(join(app, "dist/tests"), { recursive: true, force: true });
  for (const name of RUN)
    cpSync(join(app, name), join(target, "app", name), { recursive: true, verbatimSymlinks: true });
  for (const name of [".lock", "graphs"]) rmSync(join(engine, name), { recursive: true, force: true });
  intoTheImage(join(target, "app/node_modules/@tensorflow/tfjs-node-gpu/deps"));
  asCommand("app/bin/tandem.js", "usr/local/bin/tandem");
  rmSync(work, { recursive: true });
}

/** There is no env to look for node. @param {string} program @param {string} name */
function asCommand(program, name) {
  const path = join(target, program);
  writeFileSync(path, readFileSync(path, "utf8").replace(/^#!.*/, "#!/usr/local/bin/node"));
  symlinkSync(`/${program}`, join(target, name));
}

/** What it consists of, and nothing of when it was asked. @param {string} app */
function bom(app) {
  const flags = ["--package-lock-only", "--omit", "dev", "--sbom-format", "spdx", "--sbom-type", "application"];
  const bill = JSON.parse(execFileSync("npm", ["sbom", ...flags], { cwd: app, maxBuffer: 1 << 28 }).toString());
  bill.documentNamespace = `http://spdx.org/spdxdocs/${bill.name}`;
  bill.creationInfo.created = "1970-01-01T00:00:00Z";
  return `${JSON.stringify(bill, null, 2)}\n`;
}

/** @param {string} path */
const isSource = (path) => !/\/(node_modules|dist|generated)$/.test(path);

/** Half a gigabyte that is here already need not be fetched again. @param {string} engine */
function reuse(engine) {
  const cached = join(process.env["XDG_CACHE_HOME"] || join(homedir(), ".cache"), "tandem");
  if (!existsSync(cached)) return;
  for (const name of readdirSync(cached).filter(
    (entry) => entry.startsWith("libtensorflow") && entry.endsWith(flavour),
  ))
    cpSync(join(cached, name), join(engine, name), { recursive: true, verbatimSymlinks: true });
}

/** Links to what lies in the image, as it is called there. @param {string} within */
function intoTheImage(within) {
  for (const entry of readdirSync(within, { recursive: true, withFileTypes: true })) {
    if (!entry.isSymbolicLink()) continue;
    const path = join(entry.parentPath, entry.name);
    const to = readlinkSync(path);
    if (!to.startsWith(`${target}/`)) continue;
    rmSync(path);
    symlinkSync(to.slice(target.length), path);
  }
}

mkdirSync(target, { recursive: true });
if (readdirSync(target).length > 0) throw new Error(`${target} is not empty`);
debianPackages();
accounts();
node();
tandem();
