/** The manifests on a real cluster of two nodes: runs begin, lose pods and nodes, change their size, and end with the digests of a quiet one on this machine. */
import { chmodSync, chownSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { stringify } from "yaml";
import { checkpointOf, eventsOf, tandem, temporaryFolder } from "../e2e/tandem.js";
import { Cluster, until } from "./cluster.mjs";
import { kustomization, manifestsOf, type Manifest } from "./kustomization.js";

const { TANDEM_TEST_FOLDER: place, TANDEM_TEST_IMAGE: image } = process.env;
if (place === undefined || image === undefined)
  throw new Error("npm run test:k8s runs these, in namespaces of their own");
const folder = temporaryFolder();

/** A run of seconds, or one of minutes, to be disturbed. */
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

let cluster: Cluster;
const told: string[] = [];

beforeAll(async () => {
  cluster = await Cluster.start(place, ["node-1", "node-2"]);
  cluster.load(image);
  await cluster.extend();
});

afterAll(() => {
  process.stdout.write(told.map((line) => `${line}\n`).join(""));
});

/** Two cores are fewer than what pods ask for. */
function asksForLess(value: unknown): void {
  if (typeof value !== "object" || value === null) return;
  for (const [key, inner] of Object.entries(value))
    if (key === "requests" && "cpu" in (inner as object))
      Object.assign(value, { requests: { cpu: "50m", memory: "100Mi" } }); // prettier-ignore
    else asksForLess(inner);
}

/** A run in a namespace of its own, under the strictest of the Pod Security Standards. */
class Deployed {
  readonly volume: string;

  /** @param claim of the run directory */
  constructor(
    readonly namespace: string,
    claim = "run-tandem-coordinator-0",
  ) {
    this.volume = join(folder, `volume-${namespace}`);
    mkdirSync(this.volume);
    chownSync(this.volume, 65532, 65532);
    // The way to it is the test's own.
    chmodSync(folder, 0o755);
    cluster.kubectl(["create", "namespace", namespace]);
    const strict = "pod-security.kubernetes.io/enforce=restricted";
    cluster.kubectl(["label", "namespace", namespace, strict]);
    const volume = {
      ...{ apiVersion: "v1", kind: "PersistentVolume", metadata: { name: namespace } },
      spec: {
        ...{ capacity: { storage: "20Gi" }, accessModes: ["ReadWriteOnce"] },
        claimRef: { namespace, name: claim },
        hostPath: { path: this.volume },
      },
    };
    cluster.kubectl(["apply", "-f", "-"], JSON.stringify(volume));
  }

  async keys(names?: string): Promise<void> {
    const { stdout } = await tandem(["keys", "new", "--k8s"]);
    const secrets = manifestsOf(stdout).filter(({ metadata }) => names === undefined || metadata.name === names);
    this.applyManifests(secrets);
  }

  /** `kubectl apply -k` of an overlay, with components of `k8s/components`. */
  apply(config: string, components: readonly string[] = [], patches: readonly object[] = []): void {
    const less = [{ op: "replace", path: "/spec/template/spec/containers/0/resources/requests", value: { cpu: "50m", memory: "100Mi" } }]; // prettier-ignore
    const kinds = [components.includes("elastic") ? "Deployment" : "Job", "StatefulSet"];
    const here = kustomization(join(folder, this.namespace), {
      namespace: this.namespace,
      resources: ["k8s/overlays/quickstart"],
      components: components.map((name) => `k8s/components/${name}`),
      configMapGenerator: [{ name: "tandem-run", behavior: "replace", files: ["run.yaml"] }],
      patches: [...kinds.map((kind) => ({ target: { kind }, patch: JSON.stringify(less) })), ...patches],
    });
    writeFileSync(join(here, "run.yaml"), config);
    this.kubectl(["apply", "--validate=strict", "-k", here]);
  }

  applyManifests(manifests: readonly Manifest[]): void {
    asksForLess(manifests);
    this.kubectl(["apply", "--validate=strict", "-f", "-"], manifests.map((each) => stringify(each, { version: "1.1" })).join("---\n")); // prettier-ignore
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

  /** When steps were made, as the run's own events say it, in ms. */
  private get stepTimes(): number[] {
    return eventsOf(join(this.volume, "run"))
      .filter(({ kind }) => kind === "step")
      .map(({ time }) => Date.parse(time));
  }

  logs(pod = "tandem-coordinator-0"): string {
    try {
      return this.kubectl(["logs", pod]);
    } catch {
      return "";
    }
  }

  /** Workers that take part. */
  workers(): string[] {
    const path = ".items[?(@.status.containerStatuses[0].ready==true)].metadata.name";
    return this.podsAt(path);
  }

  /** @param path JSON path of the list of workers' pods */
  podsAt(path: string): string[] {
    const label = "app.kubernetes.io/component=worker";
    return this.kubectl(["get", "pods", "-l", label, "-o", `jsonpath={${path}}`])
      .split(" ")
      .filter(Boolean);
  }

  /** What a container that has ended says of why. */
  message(pod: string): string {
    const path = ".status.containerStatuses[0]";
    const last = this.ask(`pod/${pod}`, `${path}.lastState.terminated.message`);
    return last === "" ? this.ask(`pod/${pod}`, `${path}.state.terminated.message`) : last;
  }

  async finished(patienceMs = 240_000): Promise<void> {
    await until(() => this.logs().includes("the run has finished; whoever comes"), "the run's end", patienceMs);
  }

  /** Trouble begins with so many workers at work, and is over when as many are to be so, and a step follows. */
  async suffers(what: string, { workers, after = workers, trouble }: Trouble): Promise<void> {
    const atWork = (count: number) => this.workers().length === count && this.stepTimes.length > 0;
    await until(() => atWork(workers), `work before: ${what}`, 120_000);
    const since = Date.now();
    trouble();
    // Nobody has noticed before.
    await sleep(5000);
    await until(() => atWork(after), `workers after: ${what}`, 120_000);
    const whole = Date.now();
    await until(() => this.stepTimes.some((time) => time > whole), `steps after: ${what}`, 120_000);
    const times = this.stepTimes.filter((time) => time >= since);
    const longest = Math.max(...times.map((time, index) => time - (times[index - 1] ?? since)));
    const seconds = (ms: number) => `${(ms / 1000).toFixed(1)} s`;
    told.push(`${what}: no step for ${seconds(longest)}, all workers at work again after ${seconds(whole - since)}`);
  }

  async digests(): Promise<unknown> {
    return (await checkpointOf(join(this.volume, "run"))).sha256;
  }

  remove(): void {
    cluster.kubectl(["delete", "namespace", this.namespace, "--wait=false"]);
  }
}

interface Trouble {
  /** at work before */
  readonly workers: number;
  readonly after?: number;
  readonly trouble: () => void;
}

/** The digests of a run that nothing happens to. */
async function quietly(steps: number): Promise<unknown> {
  const config = join(folder, `quiet-${String(steps)}.yaml`);
  writeFileSync(config, runOf(steps));
  const out = join(folder, `quiet-${String(steps)}`);
  const { code, stderr } = await tandem(["train", "--config", config, "--workers", "1", "--out", out]);
  expect(code, stderr).toBe(0);
  return (await checkpointOf(out)).sha256;
}

describe("on a cluster of two nodes", () => {
  it("the quickstart begins, trains and completes, with the digests of this machine", async () => {
    const run = new Deployed("quiet");
    await run.keys();
    run.apply(runOf(60));
    await until(() => run.ask("job/tandem-workers", ".status.succeeded") === "2", "the Job", 240_000);
    expect(await run.digests()).toEqual(await quietly(60));
    expect(run.ask("job/tandem-workers", ".status.conditions[?(@.type=='Complete')].status")).toBe("True");
    // It stays for whoever comes late.
    expect(run.ask("pod/tandem-coordinator-0", ".status.containerStatuses[0].ready")).toBe("true");
    run.remove();
  });

  it("a run loses pods and a node, and nothing else", { timeout: 900_000 }, async () => {
    const steps = 8000;
    const run = new Deployed("stormy");
    await run.keys();
    run.apply(runOf(steps));
    const lose = (pod: string | undefined, ...flags: string[]) => run.kubectl(["delete", "pod", pod ?? "", "--wait=false", ...flags]); // prettier-ignore
    await run.suffers("a worker's pod is deleted", {
      workers: 2,
      trouble: () => lose(run.workers()[0]),
    });
    await run.suffers("a worker's pod is deleted with grace 0", {
      workers: 2,
      trouble: () => lose(run.workers()[0], "--grace-period=0", "--force"),
    });
    await run.suffers("the coordinator's pod is deleted", {
      workers: 2,
      trouble: () => run.kubectl(["delete", "pod", "tandem-coordinator-0"]),
    });
    // Where the coordinator is, and perhaps a worker.
    const node = run.ask("pod/tandem-coordinator-0", ".spec.nodeName");
    await run.suffers("the coordinator's node is drained", {
      workers: 2,
      trouble: () =>
        cluster.kubectl(["drain", node, "--ignore-daemonsets", "--delete-emptydir-data", "--force", "--timeout=90s"]),
    });
    cluster.kubectl(["uncordon", node]);
    await until(() => run.ask("job/tandem-workers", ".status.succeeded") === "2", "the Job", 400_000);
    expect(await run.digests()).toEqual(await quietly(steps));
    run.remove();
  });

  it("kubectl scale changes a run's size while it trains", { timeout: 600_000 }, async () => {
    const steps = 3000;
    const run = new Deployed("elastic");
    await run.keys();
    run.apply(runOf(steps), ["elastic"], [
      { target: { kind: "Deployment" }, patch: '[{"op": "replace", "path": "/spec/replicas", "value": 1}]' },
    ]); // prettier-ignore
    const scale = (replicas: number) => run.kubectl(["scale", "deployment/tandem-workers", `--replicas=${String(replicas)}`]); // prettier-ignore
    await run.suffers("from one worker to three", { workers: 1, after: 3, trouble: () => scale(3) });
    await run.suffers("from three workers to one", { workers: 3, after: 1, trouble: () => scale(1) });
    await until(() => run.podsAt(".items[*].metadata.name").length === 1, "two to leave");
    await run.finished();
    expect(await run.digests()).toEqual(await quietly(steps));
    // Nobody is started again and again for a run that is over.
    const path = ".items[*].status.containerStatuses[0].restartCount";
    expect(run.podsAt(path)).toEqual(["0"]);
    run.remove();
  });

  it("a JobSet with two aggregators, of tandem k8s render, trains and completes", async () => {
    const config = join(folder, "jobset.yaml");
    writeFileSync(config, runOf(70));
    const run = new Deployed("jobset", "tandem-run");
    await run.keys();
    const flags = ["--gpus-per-worker=0", "--aggregators=2", "--config", config];
    const { stdout, code, stderr } = await tandem(["k8s", "render", "--preset=jobset", ...flags]);
    expect(code, stderr).toBe(0);
    run.applyManifests(manifestsOf(stdout));
    const completed = () => run.ask("jobset/tandem", ".status.conditions[?(@.type=='Completed')].status") === "True";
    await until(completed, "the JobSet", 240_000);
    expect(run.ask("job/tandem-aggregators", ".status.succeeded")).toBe("2");
    expect(await run.digests()).toEqual(await quietly(70));
    run.remove();
  });
});

describe("what is missing or wrong is said in one line, as the container's termination message:", () => {
  it("no Secret, and then no worker's", async () => {
    const run = new Deployed("keyless");
    run.apply(runOf(60));
    await until(() => run.message("tandem-coordinator-0") !== "", "a message about keys", 120_000);
    const message = /tandem: cannot read \/etc\/tandem-keys\/secret.key \(ENOENT\): .*keys new/;
    expect(run.message("tandem-coordinator-0")).toMatch(message);
    // Its workers' Job fails at once: a mistake would be made again.
    const failed = ".status.conditions[?(@.type=='Failed')].reason";
    await until(() => run.ask("job/tandem-workers", failed) === "PodFailurePolicy", "the Job to fail");
    const [worker = ""] = run.podsAt(".items[*].metadata.name");
    expect(run.message(worker)).toMatch(message);
    run.remove();
  });

  it("a config that contradicts itself", async () => {
    const run = new Deployed("wrong");
    await run.keys();
    run.apply(runOf(60).replace("queueSize: 100", "queueSize: 7"));
    await until(() => run.message("tandem-coordinator-0") !== "", "a message about the config", 120_000);
    expect(run.message("tandem-coordinator-0").trim().split("\n").at(-1)).toMatch(/^tandem: .*moco\.queueSize/);
    run.remove();
  });

  it("data that are not there", async () => {
    const run = new Deployed("dataless");
    await run.keys();
    run.apply(runOf(60).replace(/spec: "synthetic[^"]*"/, 'spec: "folder:/data"'));
    await until(() => run.message("tandem-coordinator-0") !== "", "a message about data", 120_000);
    expect(run.message("tandem-coordinator-0").trim().split("\n").at(-1)).toMatch(/^tandem: .*\/data/);
    run.remove();
  });

  it("no claim for the run's directory", async () => {
    const run = new Deployed("claimless");
    await run.keys();
    const remove = ["/spec/template/spec/containers/0/volumeMounts/0", "/spec/volumeClaimTemplates"];
    const patch = JSON.stringify(remove.map((path) => ({ op: "remove", path })));
    run.apply(runOf(60), [], [{ target: { kind: "StatefulSet" }, patch }]);
    await until(() => run.message("tandem-coordinator-0") !== "", "a message about the run directory", 120_000);
    expect(run.message("tandem-coordinator-0").trim().split("\n").at(-1)).toMatch(
      /^tandem: .*\/var\/lib\/tandem.*mount/,
    );
    run.remove();
  });

  it("a key that the coordinator does not know is refused, and that is written down", async () => {
    const run = new Deployed("strange");
    await run.keys("tandem-coordinator-keys");
    await run.keys("tandem-worker-keys");
    run.apply(runOf(60));
    const events = () => readFileSync(join(run.volume, "run/events.jsonl"), "utf8");
    await until(() => run.logs().includes("listening at"), "the coordinator", 120_000);
    await until(() => events().includes('"dropped"'), "a refusal", 120_000);
    expect(run.workers()).toEqual([]);
    expect(events()).not.toContain('"joined"');
    run.remove();
  });
});
