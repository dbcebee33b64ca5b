/** The manifests on a real cluster of two nodes: a run begins, loses pods and nodes, and ends with the digests of a quiet one on this machine. */
import { execFileSync } from "node:child_process";
import { chmodSync, chownSync, cpSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { checkpointOf, tandem, temporaryFolder } from "../e2e/tandem.js";
import { Cluster, obstacle, until } from "./cluster.mjs";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const folder = temporaryFolder();
const why = obstacle();
if (why !== null) process.stderr.write(`Kubernetes is not tested: ${why}\n`);

/** A run of seconds, and one of minutes, to be disturbed. */
const runOf = (steps: number) => `version: 1
seed: 7
data: { spec: "synthetic:size=16,train=400,test=40", imageSize: 8, decodeSize: 8 }
parallel: { worldSize: 4, batchSize: 8 }
moco: { queueSize: 100 }
schedule: { steps: ${String(steps)} }
evaluation: { everyEpochs: 0 }
checkpoint: { everySteps: 50 }
membership: { minWorkers: 1 }
`;

/** Two cores are fewer than what a pod asks for. */
const LESS = JSON.stringify([
  {
    op: "replace",
    path: "/spec/template/spec/containers/0/resources/requests",
    value: { cpu: "50m", memory: "100Mi" },
  },
]);

let cluster: Cluster;

beforeAll(async () => {
  if (why !== null) return;
  const archive = join(folder, "tandem.tar");
  execFileSync(process.execPath, [join(ROOT, "k8s/build-image.mjs"), "--out", archive], { stdio: "inherit" });
  cluster = await Cluster.start(["node-1", "node-2"]);
  cluster.load(archive);
  rmSync(archive);
});

afterAll(async () => {
  if (why === null) await cluster.stop();
});

/** A namespace with the overlay in it, under the strictest of the Pod Security Standards. */
class Deployed {
  readonly volume: string;
  private readonly overlay: string;

  constructor(
    readonly namespace: string,
    config: string,
  ) {
    this.volume = join(folder, `volume-${namespace}`);
    mkdirSync(this.volume);
    chownSync(this.volume, 65532, 65532);
    // The way to it is the test's own.
    chmodSync(folder, 0o755);
    this.overlay = join(folder, namespace);
    cpSync(join(ROOT, "k8s"), join(this.overlay, "k8s"), { recursive: true });
    const here = join(this.overlay, "here");
    mkdirSync(here);
    writeFileSync(join(here, "run.yaml"), config);
    writeFileSync(
      join(here, "kustomization.yaml"),
      JSON.stringify({
        ...{ apiVersion: "kustomize.config.k8s.io/v1beta1", kind: "Kustomization", namespace },
        resources: ["../k8s/overlays/quickstart"],
        configMapGenerator: [{ name: "tandem-run", behavior: "replace", files: ["run.yaml"] }],
        patches: ["Job", "StatefulSet"].map((kind) => ({ target: { kind }, patch: LESS })),
      }),
    );
    cluster.kubectl(["create", "namespace", namespace]);
    const strict = "pod-security.kubernetes.io/enforce=restricted";
    cluster.kubectl(["label", "namespace", namespace, strict]);
    const volume = {
      ...{ apiVersion: "v1", kind: "PersistentVolume", metadata: { name: namespace } },
      spec: {
        ...{ capacity: { storage: "20Gi" }, accessModes: ["ReadWriteOnce"] },
        claimRef: { namespace, name: "run-tandem-coordinator-0" },
        hostPath: { path: this.volume },
      },
    };
    cluster.kubectl(["apply", "-f", "-"], JSON.stringify(volume));
  }

  async keys(): Promise<void> {
    const { stdout } = await tandem(["keys", "new", "--k8s"]);
    this.kubectl(["apply", "-f", "-"], stdout);
  }

  apply(): void {
    this.kubectl(["apply", "--validate=strict", "-k", join(this.overlay, "here")]);
  }

  kubectl(args: readonly string[], input?: string): string {
    return cluster.kubectl(["-n", this.namespace, ...args], input);
  }

  /** @param path JSON path of the resource @returns what is there, or nothing where the resource is not */
  ask(resource: string, path: string): string {
    try {
      return this.kubectl(["get", resource, "-o", `jsonpath={${path}}`]);
    } catch {
      return "";
    }
  }

  get step(): number {
    const log = this.ask("pod/tandem-coordinator-0", ".status.phase") === "Running" ? this.logs() : "";
    return Math.max(0, ...[...log.matchAll(/step +(\d+)\//g)].map(([, step]) => Number(step)));
  }

  logs(): string {
    try {
      return this.kubectl(["logs", "tandem-coordinator-0"]);
    } catch {
      return "";
    }
  }

  /** Workers that take part. */
  workers(): string[] {
    const path = ".items[?(@.status.containerStatuses[0].ready==true)].metadata.name";
    const label = "app.kubernetes.io/component=worker";
    return this.kubectl(["get", "pods", "-l", label, "-o", `jsonpath={${path}}`])
      .split(" ")
      .filter(Boolean);
  }

  async finished(patienceMs = 240_000): Promise<void> {
    await until(() => this.ask("job/tandem-workers", ".status.succeeded") === "2", "the Job", patienceMs);
  }

  remove(): void {
    cluster.kubectl(["delete", "namespace", this.namespace, "--wait=false"]);
  }
}

async function quietly(steps: number): Promise<unknown> {
  const config = join(folder, `quiet-${String(steps)}.yaml`);
  writeFileSync(config, runOf(steps));
  const out = join(folder, `quiet-${String(steps)}`);
  const { code, stderr } = await tandem(["train", "--config", config, "--workers", "1", "--out", out]);
  expect(code, stderr).toBe(0);
  return (await checkpointOf(out)).sha256;
}

describe.runIf(why === null)("on a cluster of two nodes", () => {
  it("the quickstart begins, trains and completes, with the digests of this machine", async () => {
    const run = new Deployed("quiet", runOf(60));
    await run.keys();
    run.apply();
    await run.finished();
    expect((await checkpointOf(join(run.volume, "run"))).sha256).toEqual(await quietly(60));
    expect(run.ask("job/tandem-workers", ".status.conditions[?(@.type=='Complete')].status")).toBe("True");
    // It stays for whoever comes late.
    expect(run.ask("pod/tandem-coordinator-0", ".status.containerStatuses[0].ready")).toBe("true");
    run.remove();
  });

  it("loses pods and a node, and nothing else", { timeout: 600_000 }, async () => {
    const steps = 12_000;
    const run = new Deployed("stormy", runOf(steps));
    await run.keys();
    run.apply();
    const told: string[] = [];
    /** Each trouble begins with both workers at work, and is over when a step follows that was not made before. */
    const suffers = async (what: string, trouble: () => void) => {
      await until(() => run.workers().length === 2 && run.step > 0, `work before ${what}`, 120_000);
      trouble();
      const since = performance.now();
      const before = run.step;
      await until(() => run.step > before || run.logs().includes("has finished"), `work after ${what}`, 120_000);
      told.push(`${what}: ${((performance.now() - since) / 1000).toFixed(1)} s`);
    };
    await suffers("a worker's pod is deleted", () => run.kubectl(["delete", "pod", run.workers()[0], "--wait=false"]));
    await suffers("a worker's pod is deleted with grace 0", () => {
      run.kubectl(["delete", "pod", run.workers()[0], "--grace-period=0", "--force"]);
    });
    await suffers("the coordinator's pod is deleted", () => run.kubectl(["delete", "pod", "tandem-coordinator-0"]));
    let node = "";
    await suffers("a node is drained", () => {
      node = run.ask(`pod/${run.workers()[0]}`, ".spec.nodeName");
      cluster.kubectl(["drain", node, "--ignore-daemonsets", "--delete-emptydir-data", "--force", "--timeout=90s"]);
    });
    cluster.kubectl(["uncordon", node]);
    await run.finished();
    process.stdout.write(`from a trouble to the next step — ${told.join("; ")}\n`);
    expect((await checkpointOf(join(run.volume, "run"))).sha256).toEqual(await quietly(steps));
    run.remove();
  });

  it("says in a pod's termination message what is missing, or wrong, and what to do", async () => {
    const keyless = new Deployed("keyless", runOf(60));
    keyless.apply();
    const message = (run: Deployed) => {
      const path = ".status.containerStatuses[0]";
      const last = run.ask("pod/tandem-coordinator-0", `${path}.lastState.terminated.message`);
      return last === "" ? run.ask("pod/tandem-coordinator-0", `${path}.state.terminated.message`) : last;
    };
    await until(() => message(keyless) !== "", "a message about keys", 120_000);
    expect(message(keyless)).toMatch(/tandem: cannot read \/etc\/tandem-keys\/secret.key \(ENOENT\): .*keys new/);
    // Its workers' Job fails at once: a mistake would be made again.
    await until(
      () => keyless.ask("job/tandem-workers", ".status.conditions[?(@.type=='Failed')].reason") === "PodFailurePolicy",
      "the Job to fail",
    );
    keyless.remove();

    const wrong = new Deployed("wrong", runOf(60).replace("queueSize: 100", "queueSize: 7"));
    await wrong.keys();
    wrong.apply();
    await until(() => message(wrong) !== "", "a message about the config", 120_000);
    expect(message(wrong).trim().split("\n").at(-1)).toMatch(/^tandem: .*moco\.queueSize/);
    wrong.remove();
  });
});
