/** `tandem train`: a whole run on one machine, one coordinator and N workers, each a process. */
import type { ChildProcess } from "node:child_process";
import type { CommandModule } from "yargs";
import { defaultRunDirectory, logFile } from "../checkpoint/index.js";
import { printConfig } from "../config/index.js";
import { UserError } from "../protocol/errors.js";
import { stopAfterOf, withRunDirectory } from "./coordinator.js";
import { configOf, KEY_FLAGS, once, pathOf, withRunOptions, type RunArguments } from "./run-options.js";
import { stopSignal } from "./stop-signal.js";
import { deviceChoice } from "./worker.js";
import { ended, endWithin, startCoordinator, startWorker, type FromParent, type ToParent } from "./train/children.js";

interface TrainArguments extends RunArguments {
  readonly out: string | undefined;
  readonly resume: boolean;
  readonly device: string;
  readonly "stop-after": number | undefined;
}

/** How long a worker may take to leave once the run is over, in ms. */
const FAREWELL_MS = 10_000;

export const trainCommand: CommandModule<object, TrainArguments> = {
  command: "train",
  describe: "Train on this machine: starts a coordinator and N workers as processes",
  builder: (yargs) =>
    withRunDirectory(withRunOptions(yargs))
      .option("device", { type: "string", default: "auto", requiresArg: true, describe: "Device of every worker" })
      .example("$0 train", "The quickstart: a synthetic data set, two workers, about two minutes on two cores")
      .example("$0 train --preset cifar10 --data cifar10:cifar-10-batches-bin --workers 4", "MoCo v2 on CIFAR-10")
      .example("$0 train --data folder:photos --encoder resnet18 --set data.imageSize=64", "Your own pictures")
      .example("$0 train --resume --out runs/a", "Go on with a run that was stopped"),
  handler: async (given) => {
    const asked = pathOf("--out", given.out);
    if (given.resume && asked === undefined) {
      throw new UserError("USAGE", "--resume needs --out: name the run directory to go on with");
    }
    const device = deviceChoice(once("device", given.device));
    const config = await configOf(given, given.resume ? (asked ?? null) : null);
    const source = given.config === undefined || given.config === "-" ? (given.preset ?? "quickstart") : given.config;
    const out = asked ?? (await defaultRunDirectory(source, new Date()));
    const stopAfter = stopAfterOf(given);
    const args = ["--listen", "tcp://127.0.0.1:*", "--out", out];
    if (stopAfter !== undefined) args.push("--stop-after", String(stopAfter));
    // A resumed run's config lies in its directory; what may change of it goes along as flags.
    if (given.resume) args.push("--resume", ...freeKeys(given));
    else args.push("--config", "-");
    const family = new Family(out, config.parallel.workers, device);
    process.exitCode = await family.run(startCoordinator(args, given.resume ? null : printConfig(config)));
  },
};

/** Flags as the coordinator takes them, for a resumed run. */
function freeKeys(given: TrainArguments): string[] {
  const flags = KEY_FLAGS.flatMap((name) => (given[name] === undefined ? [] : [`--${name}=${String(given[name])}`]));
  return [...flags, ...(given.set ?? []).flatMap((text) => ["--set", text])];
}

/** One coordinator and its workers. */
class Family {
  private readonly workers = new Set<ChildProcess>();
  private failure: string | null = null;

  constructor(
    private readonly out: string,
    private readonly count: number,
    private readonly device: string,
  ) {}

  /** @returns the exit code of the whole */
  async run(coordinator: ChildProcess): Promise<number> {
    const killAll = () => {
      for (const child of [coordinator, ...this.workers]) child.kill("SIGKILL");
    };
    const signal = stopSignal(killAll);
    // Workers stay: the coordinator says when the run is over.
    signal.addEventListener("abort", () => coordinator.kill("SIGTERM"), { once: true });
    coordinator.on("message", ({ control }: ToParent) => {
      for (let number = 1; number <= this.count; number++) this.start(number, control, coordinator);
    });
    const end = await ended(coordinator);
    await Promise.all([...this.workers].map((worker) => endWithin(worker, FAREWELL_MS)));
    if (typeof end === "string") {
      throw new UserError(
        "COORDINATOR_KILLED",
        `the coordinator's process was ended by ${end}: go on from the last checkpoint with --resume --out ${this.out}`,
      );
    }
    if (this.failure === null || end !== 0) return end;
    throw new UserError("NO_WORKERS", this.failure);
  }

  private start(number: number, control: string, coordinator: ChildProcess): void {
    const name = `worker-${number}`;
    const log = logFile(this.out, name);
    let lastLine = "";
    const note = (line: string) => {
      if (coordinator.connected) coordinator.send({ note: line } satisfies FromParent, () => undefined);
      else process.stderr.write(`${line}\n`);
    };
    const args = ["--connect", control, "--device", this.device, "--name", name, "--log", log];
    const worker = startWorker(args, (line) => {
      // Of a stack, the line that says what happened.
      if (/^tandem: |Error\b.*: /.test(line)) lastLine = line;
      note(`${name}: ${line}`);
    });
    this.workers.add(worker);
    void ended(worker).then((end) => {
      this.workers.delete(worker);
      if (end === 0) return;
      note(`${name}: its process has ended with ${end}; its log: ${log}`);
      if (this.workers.size > 0 || coordinator.exitCode !== null) return;
      this.failure = `all workers have ended, the last with ${end}${lastLine === "" ? "" : `: ${lastLine}`}`;
      coordinator.kill("SIGTERM");
    });
  }
}
