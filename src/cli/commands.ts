/** The commands of `tandem`: name and summary here, the rest in a module of its own that is read when the command is given. */
import type { Argv, ArgumentsCamelCase, CommandModule } from "yargs";

/** Options and action of a command. */
export interface CommandBody<Arguments = object> {
  readonly builder: (yargs: Argv) => Argv<Arguments>;
  readonly handler: (given: ArgumentsCamelCase<Arguments>) => void | Promise<void>;
}

/** Reading the module costs time that `tandem --help`, a slip of the pen and the other commands need not wait for. */
function command<Arguments>(
  name: string,
  describe: string,
  load: () => Promise<CommandBody<Arguments>>,
): CommandModule {
  const module: CommandModule<object, Arguments> = {
    command: name,
    describe,
    builder: async (yargs) => (await load()).builder(yargs),
    handler: async (given) => (await load()).handler(given),
  };
  return module as CommandModule;
}

export const COMMANDS: CommandModule[] = [
  command(
    "train",
    "Train on this machine: starts a coordinator and N workers as processes",
    async () => (await import("./train.js")).trainCommand,
  ),
  command(
    "coordinator",
    "Own a run: wait for workers at --listen, train, evaluate, write checkpoints",
    async () => (await import("./coordinator.js")).coordinatorCommand,
  ),
  command(
    "worker",
    "Serve a run with this machine's device, until the coordinator ends it",
    async () => (await import("./worker.js")).workerCommand,
  ),
  command(
    "aggregator",
    "Own a shard of a run's parameters: sum its gradients, update it, send it to workers",
    async () => (await import("./aggregator.js")).aggregatorCommand,
  ),
  command(
    "status <directory>",
    "How a run stands: step, coordinator, workers and who of them is slow, last checkpoint",
    async () => (await import("./status.js")).statusCommand,
  ),
  command(
    "top <run>",
    "Watch a run: progress, speed, workers and where their time goes, once a second",
    async () => (await import("./top.js")).topCommand,
  ),
  command(
    "explain <run>",
    "What limits a run, and what to try: loading, computing, the exchange, stragglers, crashes; and whether it learns",
    async () => (await import("./explain.js")).explainCommand,
  ),
  command(
    "evaluate",
    "Measure a checkpoint: evaluate knn, linear, finetune, geometry, plot",
    async () => (await import("./evaluate.js")).evaluateCommand,
  ),
  command(
    "checkpoint <directory>",
    "Verify a checkpoint; print its step, and a sha256 of θq, θk, optimizer, queue and buffers",
    async () => (await import("./checkpoint.js")).checkpointCommand,
  ),
  command(
    "export",
    "Write a checkpoint's encoder for use elsewhere: safetensors with torchvision's or timm's names, a SavedModel, or a tfjs model",
    async () => (await import("./export.js")).exportCommand,
  ),
  command(
    "embed",
    "Write a data set's features with names and labels: .npy, .jsonl or .parquet",
    async () => (await import("./embed.js")).embedCommand,
  ),
  command(
    "config",
    "Print the resolved config as YAML, every key behind a comment that says what it means",
    async () => (await import("./config.js")).configCommand,
  ),
  command(
    "data",
    "Get a data set, look at it, write shards: data fetch, data inspect, data shard",
    async () => (await import("./data.js")).dataCommand,
  ),
  command(
    "bench",
    "Measure speed: bench step, bench loader, bench exchange, bench scaling",
    async () => (await import("./bench.js")).benchCommand,
  ),
  command(
    "simulate [run]",
    "How a run would scale on machines that are not there: step time, efficiency and price over numbers of devices",
    async () => (await import("./simulate.js")).simulateCommand,
  ),
  command(
    "doctor",
    "Examine this machine: engine, devices, threads, ports, disk; with a remedy for whatever is wrong",
    async () => (await import("./doctor.js")).doctorCommand,
  ),
  command("k8s", "Objects of a run on Kubernetes: k8s render", async () => (await import("./k8s.js")).k8sCommand),
  command("keys", "Keys that close a run to strangers: keys new", async () => (await import("./keys.js")).keysCommand),
];
