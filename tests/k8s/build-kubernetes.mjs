/**
 * Builds Kubernetes' programs and CoreDNS from their Go modules, once, into a cache beside Tandem's own: they are published as modules and not as programs
 * everywhere. Go 1.24 or newer, 3 GB of disk, 7 minutes on two cores.
 *
 * usage: node tests/k8s/build-kubernetes.mjs
 */
import { execFileSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const KUBERNETES = "v1.34.1";
const COREDNS = "v1.12.1";
const PROGRAMS = ["kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy", "kubelet", "kubectl"];

const folder = join(process.env["XDG_CACHE_HOME"] || join(homedir(), ".cache"), `tandem-test-k8s/${KUBERNETES}`);

/** @returns {string | null} their folder; null: they are not built */
export function binaries() {
  return [...PROGRAMS, "coredns"].every((name) => existsSync(join(folder, name))) ? folder : null;
}

/** @param {string} module @param {string} version @returns {string} a folder of its sources that may be changed */
function sources(module, version) {
  const target = join(folder, "build", module);
  rmSync(target, { recursive: true, force: true });
  mkdirSync(target, { recursive: true });
  const told = execFileSync("go", ["mod", "download", "-json", `${module}@${version}`], { cwd: join(folder, "build") });
  cpSync(JSON.parse(told.toString()).Dir, target, { recursive: true });
  execFileSync("chmod", ["-R", "u+w", target]);
  return target;
}

/** @param {string} cwd @param {string} target @param {string} name @param {string} flags */
function compile(cwd, target, name, flags = "") {
  const out = join(folder, `${name}.partial`);
  const ldflags = `-s -w ${flags}`;
  execFileSync("go", ["build", "-mod=mod", "-trimpath", "-buildvcs=false", "-ldflags", ldflags, "-o", out, target], { cwd, stdio: "inherit", env: { ...process.env, CGO_ENABLED: "0" } }); // prettier-ignore
  renameSync(out, join(folder, name));
}

function build() {
  mkdirSync(join(folder, "build"), { recursive: true });
  const kubernetes = sources("k8s.io/kubernetes", KUBERNETES);
  for (const name of ["go.work", "go.work.sum", "vendor"])
    rmSync(join(kubernetes, name), { recursive: true, force: true });
  // What lies in the same repository there is published as modules of their own.
  const path = join(kubernetes, "go.mod");
  const own = KUBERNETES.replace("v1.", "v0.");
  const modules = readFileSync(path, "utf8").replace(/(k8s\.io\/[\w-]+) => \.\/staging\/src\/k8s\.io\/[\w-]+/g, `$1 => $1 ${own}`); // prettier-ignore
  writeFileSync(path, modules);
  const version = `-X k8s.io/component-base/version.gitVersion=${KUBERNETES}`;
  for (const name of PROGRAMS) compile(kubernetes, `./cmd/${name}`, name, version);
  compile(sources("github.com/coredns/coredns", COREDNS), ".", "coredns");
  rmSync(join(folder, "build"), { recursive: true, force: true });
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  if (binaries() === null) build();
  process.stdout.write(`${folder}\n`);
}
