/**
 * Builds Kubernetes' programs, CoreDNS, JobSet's controller and kubeconform from their Go modules, once, into a cache beside Tandem's own: they are
 * published as modules and not as programs everywhere. Go 1.24 or newer, 3 GB of disk, 8 minutes on two cores.
 *
 * usage: node tests/k8s/build-kubernetes.mjs [--api]      --api: what an API server without nodes needs, in half the time
 */
import { execFileSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const KUBERNETES = "v1.34.1";
const API = ["kube-apiserver", "kubectl"];
const NODES = ["kube-controller-manager", "kube-scheduler", "kube-proxy", "kubelet"];
/** Whose module is one program. */
const CONFORM = {
  name: "kubeconform",
  module: "github.com/yannh/kubeconform",
  version: "v0.8.0",
  main: "./cmd/kubeconform",
};
const COREDNS = { name: "coredns", module: "github.com/coredns/coredns", version: "v1.12.1", main: "." };
const JOBSET = { name: "jobset", module: "sigs.k8s.io/jobset", version: "v0.10.1", main: "." };
const OPERATOR = { module: "github.com/prometheus-operator/prometheus-operator", version: "v0.85.0" };
/** Files of custom resource definitions. */
export const DEFINITIONS = ["jobsets.yaml", "podmonitors.yaml", "prometheusrules.yaml"];

export const folder = join(process.env["XDG_CACHE_HOME"] || join(homedir(), ".cache"), `tandem-test-k8s/${KUBERNETES}`);

/** @param {boolean} hasNodes whether nodes are wanted too */
export function isBuilt(hasNodes) {
  const api = [...API, CONFORM.name, ...DEFINITIONS];
  const nodes = [...NODES, COREDNS.name, JOBSET.name, "jobset.yaml"];
  return (hasNodes ? [...api, ...nodes] : api).every(isThere);
}

/** @param {string} name */
function isThere(name) {
  return existsSync(join(folder, name));
}

/** @param {string} module @param {string} version @returns {string} the folder of its sources */
function download(module, version) {
  mkdirSync(join(folder, "build"), { recursive: true });
  const told = execFileSync("go", ["mod", "download", "-json", `${module}@${version}`], { cwd: join(folder, "build") });
  return JSON.parse(told.toString()).Dir;
}

/** @param {string} module @param {string} version @returns {string} a folder of its sources that may be changed */
function sources(module, version) {
  const target = join(folder, "build", module);
  rmSync(target, { recursive: true, force: true });
  mkdirSync(target, { recursive: true });
  cpSync(download(module, version), target, { recursive: true });
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

/** @param {boolean} hasNodes */
function build(hasNodes) {
  buildKubernetes((hasNodes ? [...API, ...NODES] : API).filter((name) => !isThere(name)));
  for (const { name, module, version, main } of hasNodes ? [CONFORM, COREDNS, JOBSET] : [CONFORM])
    if (!isThere(name)) compile(sources(module, version), main, name);
  const config = join(sources(JOBSET.module, JOBSET.version), "config");
  const told = execFileSync(join(folder, "kubectl"), ["kustomize", join(config, "default")], { encoding: "utf8" });
  const image = told.replace(/image: \S*\/jobset:\S*/, "image: tandem.test/jobset:1");
  writeFileSync(join(folder, "jobset.yaml"), image.replace("- /manager", "- /jobset"));
  cpSync(join(config, "components/crd/bases/jobset.x-k8s.io_jobsets.yaml"), join(folder, "jobsets.yaml"));
  const definitions = join(download(OPERATOR.module, OPERATOR.version), "example/prometheus-operator-crd");
  for (const name of DEFINITIONS.filter((each) => !isThere(each)))
    cpSync(join(definitions, `monitoring.coreos.com_${name}`), join(folder, name));
  rmSync(join(folder, "build"), { recursive: true, force: true });
}

/** @param {readonly string[]} programs */
function buildKubernetes(programs) {
  if (programs.length === 0) return;
  const kubernetes = sources("k8s.io/kubernetes", KUBERNETES);
  for (const name of ["go.work", "go.work.sum", "vendor"])
    rmSync(join(kubernetes, name), { recursive: true, force: true });
  // What lies in the same repository there is published as modules of their own.
  const path = join(kubernetes, "go.mod");
  const own = KUBERNETES.replace("v1.", "v0.");
  const modules = readFileSync(path, "utf8").replace(/(k8s\.io\/[\w-]+) => \.\/staging\/src\/k8s\.io\/[\w-]+/g, `$1 => $1 ${own}`); // prettier-ignore
  writeFileSync(path, modules);
  const version = `-X k8s.io/component-base/version.gitVersion=${KUBERNETES}`;
  for (const name of programs) compile(kubernetes, `./cmd/${name}`, name, version);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const hasNodes = process.argv[2] !== "--api";
  if (!isBuilt(hasNodes)) build(hasNodes);
  process.stdout.write(`${folder}\n`);
}
