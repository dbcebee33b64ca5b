/** What `tandem k8s render` makes of the overlays, and what it refuses. (That they are kustomize's is checked on the cluster.) */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { resolveConfig } from "../../../src/config/index.js";
import { kustomized, type Manifest } from "../../../src/kubernetes/kustomization.js";
import { OVERLAYS, ownRunFile, render, type OverlayName, type RenderOptions } from "../../../src/kubernetes/render.js";

const NAMES = Object.keys(OVERLAYS) as OverlayName[];

/** @param keys of the config, over the overlay's own */
async function rendered(options: Partial<RenderOptions>, keys: Record<string, unknown> = {}): Promise<Manifest[]> {
  const { preset = "quickstart" } = options;
  const config = await resolveConfig({ file: ownRunFile(preset), overrides: keys });
  return render({ preset, run: { text: "version: 1\n", config }, ...options });
}

/** Everything below a key, at whatever depth. */
function found(value: unknown, key: string): unknown[] {
  if (typeof value !== "object" || value === null) return [];
  return Object.entries(value).flatMap(([name, inner]) => [...(name === key ? [inner] : []), ...found(inner, key)]);
}

function argumentsOf(objects: readonly Manifest[], command: string): string[] {
  return found(objects, "args").find((args) => (args as string[])[0] === command) as string[];
}

describe("an overlay", () => {
  it.each(NAMES)("%s has a coordinator, workers, and who may speak to whom", async (preset) => {
    const objects = await rendered({ preset });
    expect(found(objects, "containers").map((list) => (list as { name: string }[])[0]?.name)).toEqual(
      expect.arrayContaining(["coordinator", "worker"]),
    );
    expect(objects.filter(({ kind }) => kind === "NetworkPolicy")).toHaveLength(2);
    expect(new Set(found(objects, "automountServiceAccountToken"))).toEqual(new Set([false]));
    expect(new Set(found(objects, "readOnlyRootFilesystem"))).toEqual(new Set([true]));
    for (const { metadata } of objects) expect(metadata.labels?.["app.kubernetes.io/name"]).toBe("tandem");
  });

  it("that says more than is understood is refused, as is a patch of nothing", () => {
    const folder = mkdtempSync(join(tmpdir(), "tandem-overlay-"));
    const write = (text: string) => writeFileSync(join(folder, "kustomization.yaml"), text);
    try {
      write("kind: Kustomization\nnamePrefix: a-\n");
      expect(() => kustomized(folder)).toThrow(/namePrefix is not understood here/);
      write("kind: Kustomization\npatches: [{ target: { kind: Job, name: a }, patch: '[]' }]\n");
      expect(() => kustomized(folder)).toThrow(/there is no Job a to patch/);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});

describe("what is chosen", () => {
  it.each(["quickstart", "spot", "jobset"] as const)("is put into %s wherever it has its place", async (preset) => {
    const image = "registry.example:5000/team/tandem:1.2.3";
    const options = {
      preset,
      workers: 3,
      gpusPerWorker: 0,
      image,
      namespace: "team",
      aggregators: 2,
      monitoring: true,
    };
    const objects = await rendered(options, { "parallel.worldSize": 6 });
    const counts = [...found(objects, "completions"), ...found(objects, "replicas")];
    expect(counts).toContain(3);
    expect(new Set(found(objects, "image"))).toEqual(new Set([image]));
    expect(new Set(objects.map(({ metadata }) => metadata.namespace))).toEqual(new Set(["team"]));
    expect(argumentsOf(objects, "coordinator")).toContain("--aggregators=2");
    expect(argumentsOf(objects, "worker").join(" ")).not.toContain("gpu");
    expect(found(objects, "nvidia.com/gpu")).toEqual([]);
    expect(objects.map(({ kind }) => kind)).toContain("PodMonitor");
    expect(found(objects, "run.yaml")).toEqual(["version: 1\n"]);
  });

  it("GPUs of a worker are its limit, its devices, and room beside them", async () => {
    const objects = await rendered({ preset: "multi-gpu", workers: 4, gpusPerWorker: 4 });
    expect(argumentsOf(objects, "worker")).toContain("--devices=gpu:0,gpu:1,gpu:2,gpu:3");
    expect(found(objects, "limits")).toEqual([{ "nvidia.com/gpu": 4 }]);
    expect(found(objects, "requests")).toContainEqual({ cpu: "16", memory: "48Gi", "nvidia.com/gpu": 4 });
    expect(new Set(found(objects, "image"))).toEqual(new Set(["tandem:0.1.0-gpu"]));
  });

  it("one worker may be moved by a drain", async () => {
    const budget = async (workers: number) => found(await rendered({ workers }), "minAvailable");
    expect([await budget(1), await budget(2)]).toEqual([[0], [1]]);
  });

  it("data come from a claim, or from storage", async () => {
    const keys = { "data.spec": "folder:/data/photos" };
    const claimed = await rendered({ preset: "jobset", dataClaim: "photos" }, keys);
    expect(found(claimed, "claimName")).toContain("photos");
    const copied = await rendered({ dataS3: "s3:bucket/photos" }, keys);
    expect(found(copied, "args").find((args) => (args as string[])[0] === "copy")).toContain("s3:bucket/photos");
  });

  it("a queue is a label", async () => {
    const objects = await rendered({ preset: "kueue", queue: "team-a" });
    expect(found(objects, "kueue.x-k8s.io/queue-name")).toEqual(["team-a"]);
    expect(found(objects, "suspend")).toEqual([true]);
  });
});

describe("refused, with the reason and a remedy:", () => {
  const refused: [Partial<RenderOptions>, Record<string, unknown>, RegExp][] = [
    [
      { workers: 3 },
      {},
      /a step has 2 ranks .* 1 devices would never have work: ask for fewer, or set parallel\.world/,
    ],
    [{ workers: 1 }, { "membership.minWorkers": 2 }, /--workers 1: the run waits for 2 \(membership\.minWorkers\)/],
    [{ gpusPerWorker: 1 }, {}, /--gpus-per-worker 1: a worker of --preset quickstart has 0: use --preset gpu/],
    [{ preset: "gpu", gpusPerWorker: 8 }, {}, /of --preset gpu has 1: use --preset multi-gpu/],
    [{ preset: "gpu", gpusPerWorker: 0 }, {}, /of --preset gpu has 1: use --preset quickstart/],
    [{ preset: "multi-gpu", gpusPerWorker: 65 }, {}, /multi-gpu has 2 to 64: take more workers/],
    [{ image: "tandem" }, {}, /--image tandem: name a version/],
    [{ image: "tandem:latest" }, {}, /--image tandem:latest: name a version/],
    [{ image: "host:5000/tandem" }, {}, /--image host:5000\/tandem: name a version/],
    [{ dataClaim: "a", dataS3: "s3:b/c" }, { "data.spec": "folder:/data" }, /comes from one of the two/],
    [{ dataS3: "bucket" }, { "data.spec": "folder:/data" }, /--data-s3 bucket: name rclone's remote/],
    [{ dataClaim: "Photos" }, { "data.spec": "folder:/data" }, /--data-claim Photos: Kubernetes takes lower-case/],
    [{ namespace: "a".repeat(64) }, {}, /--namespace a+: Kubernetes takes .* at most 63/],
    [{ queue: "team-a" }, {}, /--queue team-a: use --preset kueue/],
    [{ aggregators: 65 }, {}, /--aggregators 65: at most 64/],
    [{}, { "data.spec": "folder:/data" }, /the image has no data: say with --data-claim or --data-s3/],
    [{ dataClaim: "a" }, { "data.spec": "folder:/mnt" }, /mounted at \/data: write folder:\/data/],
    [{ dataClaim: "a" }, { "data.spec": "folder:/database" }, /mounted at \/data/],
    [{ dataClaim: "a" }, {}, /takes no data set: leave out --data-claim/],
  ];
  it.each(refused)("%j with %j", async (options, keys, message) => {
    await expect(rendered(options, keys)).rejects.toThrow(message);
  });

  it("not what is just possible", async () => {
    const image = `host:5000/tandem@sha256:${"0".repeat(64)}`;
    const edge = { namespace: "a".repeat(63), workers: 2, image, aggregators: 64 };
    expect(await rendered(edge, { "membership.minWorkers": 2 })).not.toHaveLength(0);
    const most = { preset: "multi-gpu", workers: 1, gpusPerWorker: 64 } as const;
    expect(await rendered(most, { "parallel.worldSize": 64, "moco.queueSize": 8192 })).not.toHaveLength(0);
  });
});
