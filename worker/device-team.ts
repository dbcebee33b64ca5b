/**
 * Several devices of one machine that serve a run as one worker: each computes in a process of its own, and what they give is summed here,
 * so that one gradient leaves the machine, whatever their number. Weights and gradients lie in memory that all of them share.
 */
import type { RunConfig } from "../src/config/schema.js";
import type { DeviceChoice } from "../src/engine/environment.js";
import { gradientLength } from "../src/models/exchange.js";
import { BreakdownError, UserError } from "../src/protocol/errors.js";
import type { DeviceCalls, DeviceNotice } from "./device-process.js";
import type { Executor, ExecutorOptions, Origins } from "./executor.js";
import type { Occasion } from "./partial-sums.js";
import { ProcessClient } from "./process-call.js";
import type { HandedOut, Prepared } from "./session-ports.js";
import type { SumsCalls } from "./sums-thread.js";
import { ThreadClient } from "./thread-call.js";
import { checkDeviceMemory, deviceMemory } from "./weight-slots.js";

type Device = ProcessClient<DeviceCalls, DeviceNotice>;

/** See `startExecutor`. @param choices two or more */
export async function startDeviceTeam(
  config: RunConfig,
  origins: Origins,
  choices: readonly DeviceChoice[],
  { warn = () => undefined, log = () => undefined, signal, ...options }: ExecutorOptions,
  onCorrupt: (name: string) => void,
  threads: { close(): Promise<void> }[],
): Promise<Prepared & { readonly executor: Executor }> {
  let { first: origin } = origins;
  const started: Device[] = [];
  origins.onMove((now) => {
    origin = now;
    for (const device of started) device.call("move", now).catch(() => undefined);
  });
  const start = async (device: DeviceChoice, index: number) => {
    const isOne = choices.filter((choice) => choice === device).length === 1;
    const name = isOne ? device : `${device} (${String(index + 1)} of ${String(choices.length)})`;
    const process: Device = new ProcessClient(
      new URL("./device-process.js", import.meta.url),
      (how) => new BreakdownError(`the process that computes on ${name} has ended (${how}): was its memory exhausted?`),
      (notice) => {
        if ("warning" in notice) warn(`${name}: ${notice.warning}`);
        else if ("news" in notice) log(`${name}: ${notice.news}`);
        else onCorrupt(notice.corrupt);
      },
    );
    threads.push(process);
    signal.throwIfAborted();
    started.push(process);
    return { process, found: await process.call("start", { config, origin, options: { ...options, device } }) };
  };
  // What the first has recorded is there for the others.
  const [firstChoice, ...otherChoices] = choices;
  const first = await start(firstChoice, 0);
  const { layout, ...found } = first.found;
  checkDeviceMemory(layout, choices.length);
  const team = [first, ...(await Promise.all(otherChoices.map((choice, index) => start(choice, index + 1))))];
  for (const [index, { found: own }] of team.entries()) expectSame(found, own, [firstChoice, choices[index]], config);
  // The run may be over by now: what is made after the others were closed would keep the process.
  signal.throwIfAborted();
  const sums = new ThreadClient<SumsCalls>(new URL("./sums-thread.js", import.meta.url));
  threads.push(sums);
  const { worldSize, gradients } = config.parallel;
  await sums.call("start", { layout, worldSize, gradients });
  const devices = team.map(({ process }) => new TeamDevice(process, sums, gradientLength(layout)));
  await Promise.all(devices.map((device) => device.share()));
  const toAll = <Answer>(call: (process: Device) => Promise<Answer>) =>
    Promise.all(team.map(({ process }) => call(process)));
  const executor: Executor = {
    layout,
    devices: team.length,
    setWeights: async ({ version, shards }) => {
      const places = shards.map(({ place }) => {
        if (place === null) throw new Error("weights that devices do not see");
        return place;
      });
      const areThere = await toAll((process) => process.call("weights", { version, places }));
      return areThere.every((isThere) => isThere);
    },
    setQueue: (position, frames) => toAll((process) => process.call("queue", { position, frames })),
    appendKeys: (frames) => toAll((process) => process.call("keys", { frames })),
    queueDigest: () => first.process.call("queueDigest", null),
    embed: (device, step, rank, round) => team[device].process.call("embed", { step, rank, round }),
    setEmbeddings: (step, round, frames) => toAll((process) => process.call("embeddings", { step, round, frames })),
    run: (device, { link, step, rank, flush }) => devices[device].run({ link, step }, rank, flush),
    flush: async (request) => {
      await Promise.all(devices.map((device) => device.flush(request)));
      return sums.call("flush", request);
    },
    prefetch: (device, step, ranks, use) => {
      team[device].process.call("prefetch", { step, ranks, use }).catch(() => undefined);
    },
    features: (device, slice) => team[device].process.call("features", { slice }),
  };
  return { ...found, executor, device: team.map(({ found: own }) => own.device).join(", "), devices: team.length };
}

/** One of the devices, and what it gives. */
class TeamDevice {
  private readonly memory;
  /** of the sum that lies in its memory */
  private lying: Occasion = { link: -1, step: -1 };
  /** whether it has sums that are not among the team's */
  private holds = false;

  constructor(
    private readonly process: Device,
    private readonly sums: ThreadClient<SumsCalls>,
    length: number,
  ) {
    this.memory = deviceMemory(length);
  }

  share(): Promise<unknown> {
    return this.process.call("memory", this.memory.address);
  }

  async run(occasion: Occasion, rank: number, flush: boolean): ReturnType<Executor["run"]> {
    this.holds = true;
    const toMemory = flush && this.claim(occasion);
    const report = await this.process.call("run", { ...occasion, rank, flush, toMemory });
    if (report === null) return null;
    if (flush) await this.add(occasion, report.nodes);
    return { ...report, nodes: [] };
  }

  /** Sums that it was to keep for a rank which is not to come. */
  async flush({ link, step }: Occasion): Promise<void> {
    if (!this.holds) return;
    const toMemory = this.claim({ link, step });
    await this.add({ link, step }, await this.process.call("flush", { link, step, toMemory }));
  }

  private async add(occasion: Occasion, nodes: readonly HandedOut[]): Promise<void> {
    this.holds = false;
    const { file: memory } = this.memory;
    await Promise.all(
      nodes.map(({ node, slices: [values] }) => this.sums.call("add", { ...occasion, node, values, memory })),
    );
  }

  /** @returns false where another sum of the same step lies in the memory */
  private claim({ link, step }: Occasion): boolean {
    if (link === this.lying.link && step === this.lying.step) return false;
    this.lying = { link, step };
    return true;
  }
}

/** @throws UserError `DEVICES_DIFFER` */
function expectSame(
  one: Prepared,
  other: Prepared,
  [name, otherName]: readonly DeviceChoice[],
  { membership }: RunConfig,
): void {
  if (one.engineFingerprint === other.engineFingerprint || membership.allowMixedHardware) return;
  throw new UserError(
    "DEVICES_DIFFER",
    `${name} and ${otherName} compute other bits: give --devices those of one kind, or give up reproducibility with membership.allowMixedHardware`,
  );
}
