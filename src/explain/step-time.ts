/** Where the time of a step goes: loading, computing, the exchange, waiting for others. */
import type { RunConfig } from "../config/index.js";
import { shellWord } from "../config/shell-word.js";
import type { Stage, StageTotals } from "../telemetry/index.js";
import { bytes, key, percent, time, WORTH, type Finding } from "./finding.js";
import { mean, quantile, stageShares, wallMs, type RunSummary, type WorkerTime } from "./summary.js";

/** A worker whose ranks take this many times the others' median is what they wait for. */
const SLOW = 1.25;
/** Of what a slow worker takes longer, so much is its loading where that is the reason. */
const MOSTLY = 0.5;
/** The last quarter of the steps against the first. */
const DRIFT = 1.15;
const LEAST_STEPS_TO_DRIFT = 100;

/** @returns what share of the run's time goes into a stage of its steps; null: not known, or not worth a line */
function shareOfRun(summary: RunSummary, ...stages: readonly Stage[]): number | null {
  const shares = stageShares(summary);
  if (shares === null) return null;
  const { steps, repeated } = summary.clock;
  const share = stages.reduce((sum, stage) => sum + shares[stage], 0) * ((steps + repeated) / wallMs(summary));
  return share < WORTH ? null : share;
}

const ranksOf = ({ workers }: RunSummary) => workers.reduce((sum, { totals }) => sum + totals.ranks, 0);
const sumOf = ({ workers }: RunSummary, name: keyof StageTotals) => workers.reduce((sum, { totals }) => sum + totals[name], 0); // prettier-ignore

export function loading(summary: RunSummary, config: RunConfig): Finding | null {
  const gain = shareOfRun(summary, "load");
  if (gain === null) return null;
  const { spec, cacheMiB, decodeSize, imageSize, tokenizer } = config.data;
  const { batchSize } = config.parallel;
  const perRank = sumOf(summary, "load") / ranksOf(summary);
  const held = Math.floor((cacheMiB * 2 ** 20) / (3 * decodeSize * decodeSize));
  const { samples } = summary;
  const source = shellWord(spec);
  const cache = `a higher ${key(config, "data.cacheMiB")}`;
  const images = [
    ...(samples === null || samples > held
      ? [`${cache}: it holds ${String(held)} decoded images in each worker, ${samples === null ? "and how many there are the events do not say yet" : `of ${String(samples)}`}`] // prettier-ignore
      : []),
    ...(decodeSize > imageSize ? [`a ${key(config, "data.decodeSize")} nearer to data.imageSize (${String(imageSize)}): smaller squares are decoded and kept`] : []), // prettier-ignore
    `npx tandem bench loader --data ${source} --set data.decodeSize=${String(decodeSize)} --set data.imageSize=${String(imageSize)}: what this machine decodes a second, to compare`,
    ...(spec.startsWith("folder:") ? [`npx tandem data shard ${source} --out shards, and --data webdataset:shards: few large files instead of many small ones`] : []), // prettier-ignore
  ];
  const streamed = (summary.status.again ?? "").includes("--data-delivery stream");
  return {
    kind: "loading",
    title: "workers wait for samples",
    seen: `${time(perRank)} for each batch of ${String(batchSize)} that was not there when its turn came; ${percent(gain)} of the run's time`,
    why: "the next batch is loaded while this one is computed: what is seen here is only what loading takes longer than computing",
    tries: [
      ...(streamed ? ["samples are sent by the coordinator (--data-delivery stream): give workers a copy, and --data"] : []), // prettier-ignore
      ...(tokenizer === null ? images : [`${cache}, so that tokens are kept`]),
      "more workers, on machines with idle cores: each loads its own samples",
    ],
    gain,
  };
}

export function exchange(summary: RunSummary, config: RunConfig): Finding | null {
  const gain = shareOfRun(summary, "send", "aggregate", "broadcast");
  const shares = stageShares(summary);
  if (gain === null || shares === null) return null;
  const { send, aggregate, broadcast } = shares;
  const [sent, received] = [sumOf(summary, "sentBytes"), sumOf(summary, "receivedBytes")];
  const perRank = (name: keyof StageTotals) => sumOf(summary, name) / ranksOf(summary);
  const { gradients } = config.parallel;
  const again = summary.status.again ?? "";
  const hosts = new Set(summary.workers.map(({ host }) => host));
  const travels = sent + received > 0;
  const rate = (total: number, ms: number) => (ms === 0 ? "" : ` (${bytes((1000 * total) / ms)}/s while it lasts)`);
  return {
    kind: "exchange",
    title: "gradients and weights are on their way",
    seen:
      `send ${percent(send)}, aggregate ${percent(aggregate)}, broadcast ${percent(broadcast)} of workers' time in steps; ` +
      (travels
        ? `a rank sends ${bytes(perRank("sentBytes"))}, and receives ${bytes(perRank("receivedBytes"))}${rate(received, sumOf(summary, "broadcast"))}; how fast the network is the events do not say`
        : "all of it through shared memory"),
    why:
      aggregate > send + broadcast
        ? "mostly the sum and the optimizer's update"
        : "mostly the way of gradients and weights, and their reading",
    tries: [
      ...(again.includes("--no-shared-memory") && hosts.size === 1 ? ["leave out --no-shared-memory: all workers are on one machine"] : []), // prettier-ignore
      ...(travels && gradients === "fp32" && hosts.size > 1 ? [`bf16 for ${key(config, "parallel.gradients")}: gradients weigh half`] : []), // prettier-ignore
      ...(travels && config.engine.precision === "bf16" && again.includes("--wire-weights fp32") ? ["--wire-weights auto: weights travel as the step rounds them, and only what has changed"] : []), // prettier-ignore
      ...(again.includes("--aggregators") || hosts.size === 1 ? [] : ["--aggregators per-worker spreads sums, updates and bytes over the machines"]), // prettier-ignore
      `a higher ${key(config, "parallel.batchSize")}, with a learning rate for it: as much is exchanged for more samples`,
    ],
    gain,
  };
}

/** Mean time of a rank in ms, of a worker that has made some. */
const paceOf = ({ totals }: WorkerTime) => (totals.load + totals.forward + totals.backward) / totals.ranks;
const loadOf = ({ totals }: WorkerTime) => totals.load / totals.ranks;

export function waiting(summary: RunSummary, config: RunConfig): Finding | null {
  const gain = shareOfRun(summary, "wait");
  const workers = summary.workers.filter(({ totals }) => totals.ranks > 0);
  if (gain === null || workers.length < 2) return null;
  const [slowest] = workers.toSorted((one, other) => paceOf(other) - paceOf(one));
  if (slowest === undefined) return null;
  const rest = workers.filter((worker) => worker !== slowest);
  const othersIn = (part: (worker: WorkerTime) => number) => quantile(rest.map(part), 0.5);
  const others = othersIn(paceOf);
  const { worldSize } = config.parallel;
  const { devices, stragglers } = summary;
  const rounds = Math.ceil(worldSize / Math.max(1, devices));
  const idle = 1 - worldSize / (rounds * Math.max(1, devices));
  const finer = `a higher ${key(config, "parallel.worldSize")} with a lower parallel.batchSize: smaller ranks can be shared out more evenly`; // prettier-ignore
  const common = { kind: "waiting", gain } as const;
  if (paceOf(slowest) > SLOW * others) {
    const { worker, host, pid } = slowest;
    const isLoading = loadOf(slowest) - othersIn(loadOf) > MOSTLY * (paceOf(slowest) - others);
    const named = stragglers.some((straggler) => straggler.worker === worker) ? ", and the run calls it slow" : "";
    return {
      ...common,
      kind: "straggler",
      title: `the others wait for ${worker}`,
      seen: `${worker} (process ${String(pid)} on ${host}) takes ${time(paceOf(slowest))} for a rank, the others ${time(others)}${named}; workers wait for ${percent(gain)} of the run's time`,
      why: isLoading
        ? "a step ends when its last rank is in, and that worker is late with its samples"
        : "a step ends when its last rank is in; slow workers get fewer ranks, but a rank is not divided",
      tries: [
        `on ${host}: npx tandem doctor, and look for other processes there`,
        `SIGTERM to process ${String(pid)} there lets the worker go in order; the others take its ranks, with the same result`,
        finer,
      ],
    };
  }
  return {
    ...common,
    title: "workers wait for each other",
    seen: `${percent(gain)} of the run's time; ranks take ${time(others)} in the median and ${time(paceOf(slowest))} at ${slowest.worker}, the slowest`,
    why:
      idle > 0
        ? `${String(worldSize)} ranks on ${String(devices)} devices: in the last of ${String(rounds)} rounds ${percent(idle)} of the devices' time has no rank`
        : "ranks are shared out evenly and workers are alike: what is left is that not every rank takes as long",
    tries: [
      ...(idle > 0 ? [`a number of devices that divides parallel.worldSize (${String(worldSize)})`] : []),
      finer,
      "fewer processes beside the workers on their machines, where there are some",
    ],
  };
}

export function computing(summary: RunSummary, config: RunConfig): Finding | null {
  const share = shareOfRun(summary, "forward", "backward");
  if (share === null) return null;
  const { steps, devices } = summary;
  const inGraph = mean(steps.graphMs) / (mean(steps.forwardMs) + mean(steps.backwardMs));
  const { mode, precision } = config.engine;
  const { worldSize } = config.parallel;
  const rounds = Math.ceil(worldSize / Math.max(1, devices));
  return {
    kind: "computing",
    title: "devices compute",
    seen:
      `forward and backward take ${percent(share)} of the run's time` +
      (mode === "compiled" && Number.isFinite(inGraph) ? `, of which ${percent(inGraph)} within TensorFlow's graph` : ""), // prettier-ignore
    why: "this is what the run is for: less of it only with faster or more devices, or less to compute",
    tries: [
      ...(mode === "eager" ? ["leave out --eager (engine.mode=compiled): a step runs as one graph"] : []),
      ...(mode === "compiled" && precision === "fp32"
        ? [`--precision auto, in another run: bf16 where the processor or GPU has it; npx tandem bench step --precision bf16 --encoder ${config.model.encoder} says what it gives`] // prettier-ignore
        : []),
      ...(rounds > 1
        ? [`up to ${String(worldSize)} devices can compute at once, and ${devices === 1 ? "one does" : `${String(devices)} do`}: with as many, as fast and each with cores of its own, at most ${percent(share * (1 - 1 / rounds))} of the time is won`] // prettier-ignore
        : []),
    ],
    // By how much, the events cannot say: it is a matter of devices that were not there.
    gain: null,
  };
}

export function drift({ steps: { stepMs, step } }: RunSummary): Finding | null {
  if (stepMs.length < LEAST_STEPS_TO_DRIFT) return null;
  const quarter = Math.floor(stepMs.length / 4);
  const [first, last] = [stepMs.slice(0, quarter), stepMs.slice(-quarter)].map((part) => quantile(part, 0.5));
  if (first === undefined || last === undefined || last < DRIFT * first) return null;
  const from = step[stepMs.length - quarter] ?? 0;
  return {
    kind: "drift",
    title: "steps have become slower",
    seen: `${time(first)} in the median of the first quarter of the steps, ${time(last)} of the last (from step ${String(from)} on)`,
    why: "the work of a step does not grow: workers that left, other processes, heat or a full memory are what changes",
    tries: ["npx tandem top RUN shows which worker's stages have grown", "compare the times of worker-left and straggler in events.jsonl"], // prettier-ignore
    gain: (1 - first / last) / 4,
  };
}
