/** `tandem train`: a whole run on one machine, one coordinator and N workers, each a process. */
import type { ChildProcess } from "node:child_process";
import { defaultRunDirectory, logFile } from "../checkpoint/index.js";
import { printConfig } from "../config/index.js";
import { UserError } from "../protocol/errors.js";
import {
  configOf,
  KEY_FLAGS,
  once,
  pathOf,
  stopAfterOf,
  withRunDirectory,
  withRunOptions,
  type RunArguments,
} from "./run-options.js";
import {
  AGGREGATORS_OPTION,
  aggregatorsOf,
  TENSORBOARD_OPTION,
  TRACE_OPTION,
  WIRE_OPTIONS,
  wireFlags,
  DELIVERY_OPTION,
  type DeliveryArguments,
  type WireArguments,
} from "./coordinator-options.js";
import { stopSignal } from "./stop-signal.js";
import { DEVICE_OPTIONS, devicesOf, type Devices } from "./device-choice.js";
import {
  ended,
  endWithin,
  SAYS_WHAT,
  startCoordinator,
  startMember,
  type FromParent,
  type Role,
  type ToParent,
} from "./train/children.js";
import { UI_OPTION, uiPlace } from "./ui-option.js";
import type { CommandBody } from "./commands.js";

interface TrainArguments extends RunArguments, WireArguments, DeliveryArguments {
  readonly out: string | undefined;
  readonly resume: boolean;
  readonly init: string | undefined;
  readonly device: string | undefined;
  readonly devices: string | undefined;
  readonly aggregators: string;
  readonly trace: string | undefined;
  readonly tensorboard: boolean;
  readonly ui: string | undefined;
  readonly "stop-after": number | undefined;
  readonly "max-restarts": number;
}

const ROLES: readonly Role[] = ["aggregator", "worker"];
/** How long a worker may take to leave once the run is over, in ms. */
const FAREWELL_MS = 10_000;

export const trainCommand: CommandBody<TrainArguments> = {
  builder: (yargs) =>
    withRunDirectory(withRunOptions(yargs))
      .option("max-restarts", {
        type: "number",
        default: 3,
        requiresArg: true,
        describe: "How often the coordinator and each worker are started again when they are killed",
      })
      .option("aggregators", AGGREGATORS_OPTION)
      .options(WIRE_OPTIONS)
      .option("data-delivery", DELIVERY_OPTION)
      .option("trace", TRACE_OPTION)
      .option("tensorboard", TENSORBOARD_OPTION)
      .option("ui", UI_OPTION)
      .options(DEVICE_OPTIONS)
      .example("$0 train", "The quickstart: a synthetic data set, two workers, two to four minutes on two cores")
      .example("$0 train --preset cifar10 --data cifar10:cifar-10-batches-bin --workers 4", "MoCo v2 on CIFAR-10")
      .example("$0 train --data folder:photos --encoder resnet18 --set data.imageSize=64", "Your own pictures")
      .example("$0 train --resume --out runs/a", "Go on with a run that was stopped"),
  handler: async (given) => {
    const asked = pathOf("--out", given.out);
    if (given.resume && asked === undefined) {
      throw new UserError("USAGE", "--resume needs --out: name the run directory to go on with");
    }
    const devices = devicesOf(once("device", given.device), once("devices", given.devices));
    // Several devices of this machine are one worker, unless more are asked for.
    const workersGiven = given.workers ?? (devices.length > 1 && !given.resume ? 1 : undefined);
    const config = await configOf({ ...given, workers: workersGiven }, given.resume ? (asked ?? null) : null);
    const { minWorkers } = config.membership;
    if (config.parallel.workers < minWorkers) {
      throw new UserError(
        "TOO_FEW_WORKERS",
        `the run waits for membership.minWorkers = ${minWorkers}, and only ${config.parallel.workers} are to be started: raise --workers`,
      );
    }
    const source = given.config === undefined || given.config === "-" ? (given.preset ?? "quickstart") : given.config;
    const out = asked ?? (await defaultRunDirectory(source, new Date()));
    const stopAfter = stopAfterOf(given);
    const { workers } = config.parallel;
    if (devices.length > 1 && workers > 1 && devices.some((device) => device !== "cpu")) {
      throw new UserError(
        "DEVICES_SHARED",
        `each of ${String(workers)} workers would compute on ${devices.join(",")}: give --workers 1, which has all of them`,
      );
    }
    const aggregators = aggregatorsOf(given.aggregators, workers);
    const sharded = [...(aggregators === null ? [] : ["--aggregators", String(aggregators)]), ...wireFlags(given)];
    uiPlace(given.ui);
    const shown = given.ui === undefined ? [] : ["--ui", given.ui];
    const common = [
      "--out",
      out,
      ...sharded,
      ...shown,
      ...(once("tensorboard", given.tensorboard) ? [] : ["--no-tensorboard"]),
      ...(stopAfter === undefined ? [] : ["--stop-after", String(stopAfter)]),
    ];
    const init = pathOf("--init", given.init);
    const trace = pathOf("--trace", given.trace);
    const initially = [
      ...(init === undefined ? [] : ["--init", init]),
      ...(trace === undefined ? [] : ["--trace", trace]),
    ];
    // A resumed run's config lies in its directory; what may change of it goes along as flags.
    const again = [...common, "--resume", ...(given.resume ? freeKeys(given) : [])];
    const own = devices.length > 1 ? `--devices ${devices.join(",")}` : `--device ${devices[0]}`;
    const family = new Family(
      {
        out,
        counts: { worker: workers, aggregator: aggregators ?? 0 },
        devices,
        maxRestarts: restartsOf(given["max-restarts"]),
      },
      given.resume
        ? { args: [...again, ...initially], config: null }
        : { args: [...common, ...initially, "--config", "-"], config: printConfig(config) },
      again,
      given.device === undefined && given.devices === undefined ? "" : own,
    );
    process.exitCode = await family.run();
  },
};

function restartsOf(given: number): number {
  const restarts = once("max-restarts", given);
  if (Number.isInteger(restarts) && restarts >= 0) return restarts;
  throw new UserError("USAGE", "--max-restarts wants a whole number, 0 for none");
}

/** Flags as the coordinator takes them, for a resumed run. */
function freeKeys(given: TrainArguments): string[] {
  const flags = KEY_FLAGS.flatMap((name) => (given[name] === undefined ? [] : [`--${name}=${String(given[name])}`]));
  return [...flags, ...(given.set ?? []).flatMap((text) => ["--set", text])];
}

/** One coordinator, its workers and its aggregators; who of them is killed is started again. */
class Family {
  /** by number, from 1 */
  private readonly members: Readonly<Record<Role, Map<number, ChildProcess>>> = {
    worker: new Map(),
    aggregator: new Map(),
  };
  private coordinator: ChildProcess;
  /** where the coordinator listens, once it does */
  private control: string | null = null;
  private isOver = false;
  private failure: string | null = null;

  /** @param first the arguments and the config of the coordinator's first start, `again` the arguments of later ones, `flags` of our own */
  constructor(
    private readonly options: {
      readonly out: string;
      /** how many of each there are to be */
      readonly counts: Readonly<Record<Role, number>>;
      /** of each worker */
      readonly devices: Devices;
      /** of each process */
      readonly maxRestarts: number;
    },
    first: { readonly args: readonly string[]; readonly config: string | null },
    private readonly again: readonly string[],
    private readonly flags: string,
  ) {
    this.coordinator = startCoordinator([...first.args, "--listen", "tcp://127.0.0.1:*"], first.config, flags);
  }

  /** @returns the exit code of the whole */
  async run(): Promise<number> {
    const { out, maxRestarts } = this.options;
    const signal = stopSignal(() => {
      for (const child of [this.coordinator, ...this.everybody()]) child.kill("SIGKILL");
    });
    // Workers stay: the coordinator says when the run is over.
    signal.addEventListener("abort", () => this.coordinator.kill("SIGTERM"), { once: true });
    this.expectControl();
    let end = await ended(this.coordinator);
    for (let left = maxRestarts; left > 0 && isCrash(end) && this.control !== null && !signal.aborted; left--) {
      process.stderr.write(`the coordinator's process has ended with ${end}; it is started again\n`);
      this.coordinator = startCoordinator([...this.again, "--listen", this.control], null, this.flags);
      this.expectControl();
      end = await ended(this.coordinator);
    }
    this.isOver = true;
    // Nobody comes any more whom they could wait for.
    if (isCrash(end)) for (const child of this.everybody()) child.kill("SIGTERM");
    await Promise.all(this.everybody().map((child) => endWithin(child, FAREWELL_MS)));
    if (typeof end === "string") {
      throw new UserError(
        "COORDINATOR_KILLED",
        `the coordinator's process was ended by ${end}: go on from the last checkpoint with --resume --out ${out}`,
      );
    }
    if (this.failure === null || end !== 0) return end;
    throw new UserError("NO_WORKERS", this.failure);
  }

  private everybody(): ChildProcess[] {
    return ROLES.flatMap((role) => [...this.members[role].values()]);
  }

  /** Once the coordinator listens, whoever is not there is started: all, or those to whom one that failed has said farewell. */
  private expectControl(): void {
    const { counts, maxRestarts } = this.options;
    this.coordinator.on("message", ({ control }: ToParent) => {
      this.control = control;
      for (const role of ROLES) {
        for (let number = 1; number <= counts[role]; number++) {
          if (!this.members[role].has(number)) this.start(role, number, control, maxRestarts);
        }
      }
    });
  }

  private start(role: Role, number: number, control: string, restarts: number): void {
    const { out, devices } = this.options;
    const members = this.members[role];
    const name = `${role}-${number}`;
    const log = logFile(out, name);
    let lastLine = "";
    const own = role === "worker" ? [devices.length > 1 ? "--devices" : "--device", devices.join(",")] : [];
    const args = ["--connect", control, ...own, "--name", name, "--log", log];
    const member = startMember(role, args, (line) => {
      if (SAYS_WHAT.test(line)) lastLine = line;
      // A warning comes with the name already.
      this.note(line.startsWith(`${name}: `) ? line : `${name}: ${line}`);
    });
    members.set(number, member);
    void ended(member).then((end) => {
      members.delete(number);
      if (end === 0) return;
      if (this.isOver && end === "SIGKILL") {
        this.note(`${name}: killed, since it had not ended when the run was over`);
        return;
      }
      const isAgain = isCrash(end) && restarts > 0 && !this.isOver;
      this.note(`${name}: its process has ended with ${end}${isAgain ? "; it is started again" : `; its log: ${log}`}`);
      if (isAgain) {
        this.start(role, number, control, restarts - 1);
        return;
      }
      if (members.size > 0 || this.isOver) return;
      this.failure ??= `all ${role}s have ended, the last with ${end}${lastLine === "" ? "" : `: ${lastLine}`}`;
      this.coordinator.kill("SIGTERM");
    });
  }

  private note(line: string): void {
    if (this.coordinator.connected) this.coordinator.send({ note: line } satisfies FromParent, () => undefined);
    else process.stderr.write(`${line}\n`);
  }
}

/** Killed, or ended by a bug; a mistake of the user's would be made again. */
function isCrash(end: number | string): boolean {
  return typeof end === "string" || end === 1;
}
