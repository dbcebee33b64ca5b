/** The objects of a run on Kubernetes: an overlay of `k8s/overlays`, with what a user chooses put in, and refused where it cannot be. */
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { isOwnFile } from "../config/own-file.js";
import type { RunConfig } from "../config/index.js";
import { UserError } from "../protocol/errors.js";
import { MOST_DEVICES } from "../protocol/wire.js";
import { PACKAGE_ROOT } from "../protocol/version.js";
import { containersOf, kustomized, type Manifest } from "./kustomization.js";

/** Overlays, with the GPUs of a worker: what they are written for, and what else they may be given. */
export const OVERLAYS = {
  quickstart: { gpus: 0, least: 0, most: 0, summary: "two workers on processors" },
  gpu: { gpus: 1, least: 1, most: 1, summary: "a GPU each" },
  "multi-gpu": { gpus: 8, least: 2, most: MOST_DEVICES, summary: "several GPUs each, whose gradients are added first" },
  spot: { gpus: 1, least: 0, most: MOST_DEVICES, summary: "a Deployment on nodes that may be taken away" },
  jobset: { gpus: 1, least: 0, most: MOST_DEVICES, summary: "the whole run as one JobSet" },
  kueue: { gpus: 1, least: 0, most: MOST_DEVICES, summary: "workers that wait in a queue of Kueue" },
} as const;

export type OverlayName = keyof typeof OVERLAYS;

/** Undefined, each: as the overlay has it. */
export interface RenderOptions {
  readonly preset: OverlayName;
  readonly workers?: number | undefined;
  readonly gpusPerWorker?: number | undefined;
  /** NAME:TAG or NAME@DIGEST */
  readonly image?: string | undefined;
  readonly namespace?: string | undefined;
  /** the run's config, as it is mounted; and as it is read */
  readonly run: { readonly text: string; readonly config: RunConfig };
  /** a process each, in place of the coordinator's own */
  readonly aggregators?: number | undefined;
  /** a claim with the data set, at /data of the coordinator */
  readonly dataClaim?: string | undefined;
  /** REMOTE:BUCKET/PATH, which rclone copies there */
  readonly dataS3?: string | undefined;
  /** of Kueue */
  readonly queue?: string | undefined;
  /** objects for Prometheus' operator too */
  readonly monitoring?: boolean;
}

/** The config of the run that an overlay has by itself. */
export function ownRunFile(preset: OverlayName): string {
  const own = pathIn(`overlays/${preset}/run.yaml`);
  return existsSync(own) ? own : pathIn("base/run.yaml");
}

/** @param path below `k8s/` */
function pathIn(path: string): string {
  return fileURLToPath(new URL(`k8s/${path}`, PACKAGE_ROOT));
}

/** @throws UserError `USAGE` where what is asked for cannot be, with the reason and a remedy */
export function render(options: RenderOptions): Manifest[] {
  const { preset, aggregators, dataClaim, dataS3, queue, monitoring } = options;
  const gpus = checked(options);
  const parts = {
    aggregators: aggregators !== undefined,
    "data-claim": dataClaim !== undefined,
    "data-s3": dataS3 !== undefined,
    monitoring: monitoring === true,
  };
  const components = Object.entries(parts).flatMap(([name, isAskedFor]) => (isAskedFor ? [name] : []));
  const objects = kustomized(
    pathIn(`overlays/${preset}`),
    components.map((name) => pathIn(`components/${name}`)),
  );

  const { workers, image, namespace, run } = options;
  if (workers !== undefined) setCount(objects, "worker", workers);
  if (workers === 1) {
    const budget = objects.find(({ kind }) => kind === "PodDisruptionBudget")?.["spec"] as Budget | undefined;
    // One of one may be moved too.
    if (budget?.minAvailable !== undefined) budget.minAvailable = 0;
  }
  if (gpus !== OVERLAYS[preset].gpus) setGpus(objects, gpus);
  if (aggregators !== undefined) {
    setCount(objects, "aggregator", aggregators);
    setArgument(objects, "coordinator", "--aggregators", String(aggregators));
  }
  if (dataClaim !== undefined)
    for (const { spec } of podsOf(objects, "coordinator"))
      for (const { persistentVolumeClaim: claim } of spec.volumes)
        if (claim?.claimName === "tandem-data") claim.claimName = dataClaim;
  if (dataS3 !== undefined)
    for (const { spec } of podsOf(objects, "coordinator"))
      for (const container of spec.initContainers ?? [])
        container.args = container.args.map((arg) => (arg === "$(SOURCE)" ? dataS3 : arg));
  if (queue !== undefined)
    for (const { metadata } of objects) if (metadata.labels?.[QUEUE] !== undefined) metadata.labels[QUEUE] = queue;
  if (image !== undefined)
    for (const container of containersOf(objects)) if (/^tandem:/.test(container.image)) container.image = image;
  for (const object of objects) {
    if (namespace !== undefined) object.metadata.namespace = namespace;
    if (object.kind === "ConfigMap" && object.metadata.name === "tandem-run") object["data"] = { "run.yaml": run.text };
  }
  return objects;
}

const QUEUE = "kueue.x-k8s.io/queue-name";
/** Of a label's value, and of most names. */
const NAME = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/;
const MOST_AGGREGATORS = 64;

/** @returns how many GPUs each worker is to have */
function checked({ preset, run: { config }, ...options }: RenderOptions): number {
  const refuse = (reason: string) => new UserError("USAGE", reason);
  const { gpus: usual, least, most } = OVERLAYS[preset];
  const { gpusPerWorker: gpus = usual, workers = 2, image, dataClaim, dataS3, queue, aggregators } = options;
  if (gpus < least || gpus > most) {
    const other = gpus === 0 ? "quickstart" : gpus === 1 ? "gpu" : "multi-gpu";
    const has = least === most ? String(least) : `${String(least)} to ${String(most)}`;
    const remedy = gpus > MOST_DEVICES ? "take more workers" : `use --preset ${other}`;
    throw refuse(`--gpus-per-worker ${String(gpus)}: a worker of --preset ${preset} has ${has}: ${remedy}`);
  }
  const { worldSize } = config.parallel;
  const devices = workers * Math.max(1, gpus);
  if (devices > worldSize)
    throw refuse(
      `${String(workers)} workers with ${String(Math.max(1, gpus))} devices each: a step has ${String(worldSize)} ranks (parallel.worldSize), so that ` +
        `${String(devices - worldSize)} devices would never have work: ask for fewer, or set parallel.worldSize to a multiple of ${String(devices)}`,
    );
  if (workers < config.membership.minWorkers)
    throw refuse(
      `--workers ${String(workers)}: the run waits for ${String(config.membership.minWorkers)} (membership.minWorkers): ask for as many, or lower it`,
    );
  if (image !== undefined && !/^[^\s:@]\S*(:(?!latest$)[\w.-]+|@sha256:[0-9a-f]{64})$/.test(image))
    throw refuse(
      `--image ${image}: name a version, as registry.example/tandem:0.1.0: a tag that moves gives one run two programs`,
    );
  if (dataClaim !== undefined && dataS3 !== undefined)
    throw refuse("--data-claim and --data-s3: the data set comes from one of the two");
  if (dataS3 !== undefined && !/^[\w-]+:[^\s:/][^\s:]*$/.test(dataS3))
    throw refuse(`--data-s3 ${dataS3}: name rclone's remote and the place in it, e.g. s3:bucket/photos`);
  for (const [flag, name] of [
    ["data-claim", dataClaim],
    ["queue", queue],
    ["namespace", options.namespace],
  ] as const)
    // prettier-ignore
    if (name !== undefined && !NAME.test(name))
      throw refuse(`--${flag} ${name}: Kubernetes takes lower-case letters, digits and -, at most 63`);
  if (queue !== undefined && preset !== "kueue") throw refuse(`--queue ${queue}: use --preset kueue`);
  if (aggregators !== undefined && aggregators > MOST_AGGREGATORS)
    throw refuse(`--aggregators ${String(aggregators)}: at most ${String(MOST_AGGREGATORS)}`);
  checkFiles(config, dataClaim !== undefined || dataS3 !== undefined);
  return gpus;
}

/** What a config names must be where the coordinator is. @throws UserError `USAGE` */
function checkFiles({ data, model, method }: RunConfig, hasData: boolean): void {
  const refuse = (reason: string) => new UserError("USAGE", reason);
  const [, kind = data.spec, place = ""] = /^([^:]*):(.*)$/s.exec(data.spec) ?? [];
  const isMade = kind === "synthetic";
  const remedy = `write ${kind}:/data, or a path below it`;
  if (isMade && hasData)
    throw refuse(`data.spec ${data.spec} takes no data set: leave out --data-claim and --data-s3, or change data.spec`);
  if (!isMade && !hasData)
    throw refuse(`data.spec ${data.spec}: the image has no data: say with --data-claim or --data-s3 where they are`);
  if (!isMade && !/^\/data(\/|,|$)/.test(place))
    throw refuse(`data.spec ${data.spec}: the data are mounted at /data: ${remedy}`);
  const files = { "model.encoder": model.encoder, method, "data.tokenizer": data.tokenizer ?? "/" };
  for (const [key, name] of Object.entries(files))
    if (isOwnFile(name) && !name.startsWith("/"))
      throw refuse(
        `${key} ${name}: it is not in the image: build one FROM it that has the file, and give its path there`,
      );
}

interface Budget {
  minAvailable?: number;
}

interface OwnContainer {
  readonly name: string;
  args: string[];
  resources: { requests: Record<string, string | number>; limits?: Record<string, string | number> };
}

interface Pod {
  readonly spec: {
    readonly containers: readonly OwnContainer[];
    readonly initContainers?: readonly OwnContainer[];
    readonly volumes: readonly { readonly persistentVolumeClaim?: { claimName: string } }[];
    tolerations?: { key: string }[];
  };
}

/** What makes pods of a template: a Job's spec, a Deployment's, or a StatefulSet's. */
interface Maker {
  completions?: number;
  parallelism?: number;
  replicas?: number;
  readonly template: Pod;
}

/** Every maker of pods with a container of that name, however deep in an object. */
function makersOf(value: unknown, container: string): Maker[] {
  if (typeof value !== "object" || value === null) return [];
  const { template } = value as Partial<Maker>;
  const isMaker = template?.spec.containers?.some(({ name }) => name === container) === true;
  return isMaker ? [value as Maker] : Object.values(value).flatMap((inner) => makersOf(inner, container));
}

function podsOf(objects: readonly Manifest[], container: string): Pod[] {
  return makersOf(objects, container).map(({ template }) => template);
}

function ownContainers(objects: readonly Manifest[], container: string): OwnContainer[] {
  return podsOf(objects, container).flatMap(({ spec }) => spec.containers.filter(({ name }) => name === container));
}

function setCount(objects: readonly Manifest[], container: string, count: number): void {
  for (const maker of makersOf(objects, container)) {
    if (maker.completions === undefined) maker.replicas = count;
    else maker.completions = maker.parallelism = count;
  }
}

/** In place of what it was, where it was. */
function setArgument(objects: readonly Manifest[], container: string, flag: string, value: string | null): void {
  for (const own of ownContainers(objects, container))
    own.args = own.args.flatMap((arg) =>
      !arg.startsWith(`${flag}=`) ? [arg] : value === null ? [] : [`${flag}=${value}`],
    );
}

/** What a GPU takes beside it, for loading and augmentation. */
const CORES_PER_GPU = 4;
const GIB_PER_GPU = 12;

function setGpus(objects: readonly Manifest[], gpus: number): void {
  const devices = Array.from({ length: gpus }, (_, index) => `gpu:${String(index)}`).join();
  setArgument(objects, "worker", "--devices", gpus === 0 ? null : devices);
  for (const own of ownContainers(objects, "worker"))
    own.resources =
      gpus === 0
        ? { requests: { cpu: "1", memory: "2Gi" } }
        : {
            requests: { cpu: String(CORES_PER_GPU * gpus), memory: `${String(GIB_PER_GPU * gpus)}Gi`, [GPU]: gpus },
            limits: { [GPU]: gpus },
          };
  if (gpus > 0) return;
  for (const { spec } of podsOf(objects, "worker"))
    spec.tolerations = (spec.tolerations ?? []).filter(({ key }) => key !== GPU);
  for (const container of containersOf(objects)) container.image = container.image.replace(/^(tandem:.*)-gpu$/, "$1");
}

const GPU = "nvidia.com/gpu";
