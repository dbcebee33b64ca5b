/**
 * `npm run test:k8s [-- manifests]`: the image, and the tests in Linux namespaces of their own (processes, mounts, network), where a cluster may do as it likes: whatever
 * it leaves behind goes with them, also where this process is killed.
 */
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { obstacle } from "./cluster.mjs";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
/** An address that is not loopback: kubelets want one. bash, the first process there, buries those whose parents have died. */
const INSIDE = `
ip link set lo up
ip link add outside type veth peer name beyond
ip link set beyond up
ip address add 192.168.211.1/24 dev outside
ip link set outside up
ip route add default via 192.168.211.254
"$@"`;

/** Manifests want no nodes, and no image. */
const isShort = process.argv[2] === "manifests";
const why = obstacle(!isShort);
if (why !== null) {
  process.stderr.write(`Kubernetes is not tested: ${why}\n`);
  process.exit(0);
}
const folder = mkdtempSync(join(tmpdir(), "tandem-k8s-"));
try {
  const image = join(folder, "tandem.tar");
  if (!isShort)
    execFileSync(process.execPath, [join(ROOT, "k8s/build-image.mjs"), "--out", image], { stdio: "inherit" });
  const vitest = [join(ROOT, "node_modules/.bin/vitest"), "run", "--config", join(ROOT, "tests/k8s/vitest.config.ts")];
  const child = spawn(
    "setpriv",
    [
      ...["--pdeathsig", "KILL", "unshare", "--pid", "--fork", "--kill-child", "--mount", "--mount-proc", "--net"],
      ...["bash", "-ec", INSIDE, "bash", ...vitest, ...process.argv.slice(2)],
    ],
    { stdio: "inherit", cwd: ROOT, env: { ...process.env, TANDEM_TEST_FOLDER: folder, TANDEM_TEST_IMAGE: image } },
  );
  for (const signal of /** @type {const} */ (["SIGINT", "SIGTERM"])) process.on(signal, () => child.kill("SIGKILL"));
  const [code] = await once(child, "exit");
  process.exitCode = code ?? 1;
} finally {
  rmSync(folder, { recursive: true, force: true });
}
