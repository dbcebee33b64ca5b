/** One run of real processes to which everything happens: kills, stops, drains, joins, a coordinator that dies, a bad network. */
import { createServer, type AddressInfo } from "node:net";
import { join } from "node:path";
import { once } from "node:events";
import { vi } from "vitest";
import { random } from "../../src/cli/simulate/random.js";
import { Proxy } from "./proxy.js";
import { checkpointOf, eventsOf, SMALL_RUN, start, tandem, type Running } from "./tandem.js";

/** Of a run, and troubles after which the rest of it is left alone: `npm run chaos` makes longer ones than `npm test`. */
const [STEPS, TROUBLES] = process.env["CHAOS_RUNS"] === undefined ? [60, 5] : [400, 24];
const CHAOS_RUN = [
  ...[...SMALL_RUN, "--steps", String(STEPS), "--set", "checkpoint.everySteps=10"],
  ...["--set", "membership.heartbeatMs=200", "--set", "membership.deadAfterMs=1500"],
] as const;

/** Runs that differ in what workers tell each other. */
export const CHAOS_KINDS = 3;

/** By the seed's remainder: batch norm of the global batch, MoCo v2 in bf16, or with an exchange of embeddings in every step. */
export function chaosRun(seed: number): readonly string[] {
  const more = [
    ["model.syncBatchNorm=true", "moco.shuffle=none"],
    ["engine.precision=bf16"],
    ["moco.shuffle=across-ranks"],
  ][seed % CHAOS_KINDS];
  return [...CHAOS_RUN, ...(more ?? []).flatMap((setting) => ["--set", setting])];
}

/** How its weights and samples reach the workers. */
const deliveryOf = (seed: number) => [
  ...(seed % 2 === 1 ? ["--no-shared-memory", "--wire-weights", "delta"] : []),
  ...(seed % 4 >= 2 ? ["--data-delivery", "stream"] : []),
];

/** Whether the run of a seed has two aggregators in processes of their own. */
export const isSharded = (seed: number) => seed % 2 === 0;

/** How long a worker may take to end, once it was asked: longer than its time to drain, in ms. */
const MOST_TO_END_MS = 40_000;

async function hangs({ process: { pid }, stderr }: Running): Promise<never> {
  await new Promise((resolve) => setTimeout(resolve, MOST_TO_END_MS).unref());
  throw new Error(`worker ${String(pid)} does not end: ${stderr().slice(-3000)}`);
}

/** How long the whole may take before it counts as stuck, in ms. */
const MOST_MS = 280_000;
/** Workers that a run has at most. */
const MOST_WORKERS = 4;

/** From a kill to the next finished step. */
export interface Recovery {
  readonly ms: number;
  /** whether nothing else happened in between */
  readonly alone: boolean;
}

export type Victim = "worker" | "coordinator" | "aggregator";

export interface ChaosReport {
  readonly sha256: Readonly<Record<string, string>>;
  readonly troubles: Readonly<Record<string, number>>;
  /** steps that were computed again because a coordinator died after its last checkpoint */
  readonly stepsRepeated: number;
  /** from a kill to the next finished step, in ms */
  readonly recoveries: Readonly<Record<Victim, readonly Recovery[]>>;
  readonly stepMs: number;
}

/** @returns a port of which the next two are free too */
export async function freePorts(): Promise<number> {
  for (;;) {
    const server = createServer().listen(0, "127.0.0.1");
    await once(server, "listening");
    const { port } = server.address() as AddressInfo;
    const others = [port + 1, port + 2].map((at) => createServer().listen(at, "127.0.0.1"));
    const isFree = await Promise.all(others.map((other) => once(other, "listening"))).then(
      () => true,
      () => false,
    );
    for (const one of [server, ...others]) one.close();
    if (isFree) return port;
  }
}

/** @param folder the run goes to its subfolder `run` */
export async function chaos(folder: string, seed: number): Promise<ChaosReport> {
  const draw = random(seed);
  const out = join(folder, "run");
  const keys = join(folder, "keys");
  const made = await tandem(["keys", "new", "--out", keys, "--worker", "worker", "aggregator"]);
  if (made.code !== 0) throw new Error(made.stderr);
  const port = await freePorts();
  const coordinatorOf = (more: readonly string[]) =>
    start([
      "coordinator",
      "--listen",
      `tcp://127.0.0.1:${port}`,
      "--keys",
      join(keys, "coordinator"),
      "--out",
      out,
      ...(isSharded(seed) ? ["--aggregators", "2"] : []),
      ...deliveryOf(seed),
      ...more,
    ]);
  let coordinator = coordinatorOf(chaosRun(seed));
  let finished: { code: number | null; stderr: string } | null = null;
  const proxies = await Promise.all(
    [port, port + 1, port + 2].map((at) =>
      Proxy.listen({ host: "127.0.0.2", port: at }, { host: "127.0.0.1", port: at }),
    ),
  );
  const workers = new Set<Running>();
  const aggregators = new Set<Running>();
  const failures: string[] = [];
  let joins = 0;
  const join_ = () => {
    const worker = start([
      "worker",
      "--connect",
      `tcp://127.0.0.2:${port}`,
      "--keys",
      join(keys, "worker"),
      "--grace",
      "5",
      ...(++joins % 3 === 2 ? ["--devices", "cpu,cpu"] : []),
    ]);
    workers.add(worker);
    void worker.ended.then(({ code, stderr }) => {
      workers.delete(worker);
      if (code !== 0 && code !== null) failures.push(`a worker ended with ${code}: ${stderr.slice(-2000)}`);
    });
  };
  const aggregate = () => {
    const own = ["--keys", join(keys, "aggregator"), "--grace", "5"];
    const aggregator = start(["aggregator", "--connect", `tcp://127.0.0.1:${port}`, ...own]);
    aggregators.add(aggregator);
    void aggregator.ended.then(({ code, stderr }) => {
      aggregators.delete(aggregator);
      if (code !== 0 && code !== null) failures.push(`an aggregator ended with ${code}: ${stderr.slice(-2000)}`);
    });
  };
  const watch = (running: Running) => {
    void running.ended.then((ended) => {
      if (running.process.signalCode === null) finished = ended;
    });
  };
  /** troubles made so far */
  let count = 0;
  const stepsDone = () => eventsOf(out).filter(({ kind }) => kind === "step");
  const troubles: Record<string, number> = {};
  const recoveries: Record<Victim, Recovery[]> = { worker: [], coordinator: [], aggregator: [] };
  const recovering: { since: number; kind: Victim; steps: number; troubles: number }[] = [];
  const trouble = () => {
    const kind = draw.pick([
      "kill",
      "kill",
      "stop",
      "drain",
      "join",
      "coordinator",
      "cut",
      "delay",
      "corrupt",
      ...(isSharded(seed) ? (["aggregator", "aggregator", "aggregator stops", "aggregator leaves"] as const) : []),
    ] as const);
    troubles[kind] = (troubles[kind] ?? 0) + 1;
    const victim = draw.pick([...workers]) as Running | undefined;
    const steps = stepsDone().length;
    switch (kind) {
      case "kill":
        victim?.process.kill("SIGKILL");
        recovering.push({ since: Date.now(), kind: "worker", steps, troubles: count });
        join_();
        return;
      case "stop":
        victim?.process.kill("SIGSTOP");
        setTimeout(() => victim?.process.kill("SIGCONT"), 300 + draw.below(2500));
        return;
      case "drain":
        if (victim !== undefined) askToLeave(victim);
        join_();
        return;
      case "join":
        if (workers.size < MOST_WORKERS) join_();
        return;
      case "coordinator":
        coordinator.process.kill("SIGKILL");
        recovering.push({ since: Date.now(), kind: "coordinator", steps, troubles: count });
        void coordinator.ended.then(() => {
          coordinator = coordinatorOf(["--resume"]);
          watch(coordinator);
        });
        return;
      case "aggregator":
      case "aggregator stops":
      case "aggregator leaves": {
        const [chosen] = aggregators;
        if (kind === "aggregator stops") {
          chosen?.process.kill("SIGSTOP");
          setTimeout(() => chosen?.process.kill("SIGCONT"), 300 + draw.below(2500));
          return;
        }
        if (kind === "aggregator") recovering.push({ since: Date.now(), kind, steps, troubles: count });
        if (kind === "aggregator") chosen?.process.kill("SIGKILL");
        else if (chosen !== undefined) askToLeave(chosen);
        aggregate();
        return;
      }
      case "cut":
        draw.pick(proxies).cut();
        return;
      case "delay":
        draw.pick(proxies).delay(100 + draw.below(800));
        return;
      case "corrupt":
        draw.pick(proxies).corrupt(1 + draw.below(3));
        return;
    }
  };
  const asked = new Set<Running>();
  // Once: whoever is asked twice leaves at once, with another exit code.
  const askToLeave = (member: Running) => {
    if (!asked.has(member)) member.process.kill("SIGTERM");
    asked.add(member);
  };
  try {
    watch(coordinator);
    for (let i = 0; i < 3; i++) join_();
    for (let i = 0; i < 2 && isSharded(seed); i++) aggregate();
    await vi.waitUntil(() => stepsDone().length > 0 || finished !== null, { timeout: 60_000 });
    const begun = Date.now();
    let next = begun;
    while (finished === null) {
      if (Date.now() - begun > MOST_MS) throw new Error(`not over in time; ${coordinator.stderr().slice(-3000)}`);
      if (failures.length > 0) throw new Error(failures[0]);
      if (Date.now() >= next && count < TROUBLES) {
        trouble();
        count++;
        next = Date.now() + 200 + draw.below(700);
      }
      const steps = stepsDone().length;
      for (const [index, pending] of [...recovering.entries()].reverse()) {
        if (steps <= pending.steps) continue;
        // The trouble that it recovers from is counted after it was begun.
        recoveries[pending.kind].push({ ms: Date.now() - pending.since, alone: count === pending.troubles + 1 });
        recovering.splice(index, 1);
      }
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    const { code, stderr } = finished as { code: number | null; stderr: string };
    if (code !== 0) throw new Error(`the coordinator ended with ${String(code)}: ${stderr.slice(-3000)}`);
    // A worker whose connection was down at the end does not know that it is over, and looks for a coordinator in vain.
    await Promise.all(
      [...workers, ...aggregators].map((worker) => {
        worker.process.kill("SIGCONT");
        askToLeave(worker);
        return Promise.race([worker.ended, hangs(worker)]);
      }),
    );
    if (failures.length > 0) throw new Error(failures[0]);
    const { step, sha256 } = await checkpointOf(out);
    if (step !== STEPS) throw new Error(`the last checkpoint is of step ${step}`);
    const times = stepsDone().map((event) => (event as unknown as { stepMs: number }).stepMs);
    const stepMs = times.sort((a, b) => a - b)[times.length >> 1] ?? 0;
    return { sha256, troubles, stepsRepeated: times.length - STEPS, recoveries, stepMs };
  } finally {
    coordinator.process.kill("SIGKILL");
    for (const member of [...workers, ...aggregators]) member.process.kill("SIGKILL");
    for (const proxy of proxies) proxy.close();
  }
}
