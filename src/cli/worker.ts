/** `tandem worker`: one device that serves a run. */
import { setTimeout as sleep } from "node:timers/promises";
import { openLogger, WorkerMetrics, type Health } from "../telemetry/index.js";
import { runWorker, type WorkerOptions } from "../../worker/main.js";
import { readClientKeys } from "../transport/index.js";
import { once, pathOf } from "./run-options.js";
import { milliseconds } from "./seconds.js";
import { DEVICE_OPTIONS, devicesOf } from "./device-choice.js";
import { stopSignal } from "./stop-signal.js";
import { tcpEndpoint } from "./tcp-endpoint.js";
import type { CommandBody } from "./commands.js";
import { drainedCode, EXIT_WHEN_DRAINED_OPTION } from "./exit-when-drained.js";
import { HEALTH_OPTION, healthAt } from "./health-option.js";

interface WorkerArguments {
  readonly connect: string;
  readonly device: string | undefined;
  readonly devices: string | undefined;
  readonly threads: number | undefined;
  readonly data: string | undefined;
  readonly encoder: string | undefined;
  readonly tokenizer: string | undefined;
  readonly method: string | undefined;
  readonly log: string | undefined;
  readonly health: string | undefined;
  readonly name: string;
  readonly keys: string | undefined;
  readonly patience: number;
  readonly grace: number;
  readonly "exit-when-drained": number;
  readonly supervised: boolean;
}

export const workerCommand: CommandBody<WorkerArguments> = {
  builder: (yargs) =>
    yargs
      .option("connect", {
        type: "string",
        demandOption: true,
        requiresArg: true,
        describe: "The coordinator's address, tcp://HOST:PORT",
      })
      .options(DEVICE_OPTIONS)
      .option("threads", {
        type: "number",
        requiresArg: true,
        describe: "Check that the run computes with so many threads (parallel.threads); the run decides",
      })
      .option("data", {
        type: "string",
        requiresArg: true,
        describe: "Where this machine keeps the data set; needed for files when the coordinator is on another",
      })
      .option("encoder", {
        type: "string",
        requiresArg: true,
        describe:
          "Where this machine keeps the run's own encoder; needed for a file when the coordinator is on another",
      })
      .option("tokenizer", {
        type: "string",
        requiresArg: true,
        describe: "Where this machine keeps the tokenizer of a run on texts; needed when the coordinator is on another",
      })
      .option("method", {
        type: "string",
        requiresArg: true,
        describe: "Where this machine keeps the run's own method; needed for a file when the coordinator is on another",
      })
      .option("keys", {
        type: "string",
        requiresArg: true,
        describe: "Folder with this worker's keys, as tandem keys new makes them",
      })
      .option("patience", {
        type: "number",
        default: 600,
        requiresArg: true,
        describe: "Seconds for which a coordinator may be away before the worker gives up",
      })
      .option("grace", {
        type: "number",
        default: 25,
        requiresArg: true,
        describe: "Seconds for the rank in hand when SIGTERM or SIGINT asks the worker to leave",
      })
      .option("exit-when-drained", EXIT_WHEN_DRAINED_OPTION)
      .option("supervised", {
        type: "boolean",
        default: false,
        describe: "For a supervisor that starts it again: after a run's end wait for the next one there",
      })
      .option("health", HEALTH_OPTION)
      .option("log", { type: "string", requiresArg: true, describe: "Append JSON logs to this file" })
      .option("name", { type: "string", default: "worker", requiresArg: true, describe: "What to be called in logs" })
      .example("$0 worker --connect tcp://10.0.0.5:5555", "Join the run of a coordinator on another machine")
      .example("$0 worker --connect tcp://10.0.0.5:5555 --device gpu:1", "… with the second GPU")
      .example("$0 worker --connect tcp://10.0.0.5:5555 --devices gpu:0,gpu:1", "… with two GPUs, which give one sum")
      .example("$0 worker --connect tcp://10.0.0.5:5555 --data folder:/mnt/photos", "… and its own copy of the data"),
  handler: async (given) => {
    const { connect, threads, data, encoder, tokenizer, method, log, name, keys, patience, grace } = given;
    const logger = openLogger({
      process: name,
      file: log ?? null,
      show: (line) => process.stderr.write(`${line}\n`),
    });
    const say = (message: string) => {
      logger.info(message);
      // Where nobody keeps a log, the terminal is it.
      if (log === undefined) process.stderr.write(`${name}: ${message}\n`);
    };
    const drained = drainedCode(given["exit-when-drained"]);
    const signal = stopSignal();
    const { health, metrics, close } = await healthAt(given.health, say);
    try {
      const options: WorkerOptions = {
        connect: tcpEndpoint(once("connect", connect), "connect"),
        devices: devicesOf(once("device", given.device), once("devices", given.devices)),
        threads: once("threads", threads),
        data: once("data", data),
        encoder: pathOf("--encoder", encoder),
        tokenizer: pathOf("--tokenizer", tokenizer),
        method: pathOf("--method", method),
        keys: keys === undefined ? null : await readClientKeys(pathOf("--keys", keys) ?? ""),
        patienceMs: milliseconds("patience", patience),
        graceMs: milliseconds("grace", grace),
        signal,
        health,
        metrics: metrics === null ? null : new WorkerMetrics(metrics),
        log: say,
        // Shown also where a log is kept.
        warn: (message) => {
          logger.warn(message);
        },
      };
      let hasLeft = await runWorker(options);
      while (given.supervised && !hasLeft && (await isToGoOn(health, signal))) hasLeft = await runWorker(options);
      say("done");
      if (hasLeft) process.exitCode = drained;
    } catch (error) {
      if (log !== undefined) logger.info({ error: String(error) }, "ended by an error");
      throw error;
    } finally {
      close();
      // An IPC channel to `tandem train` would keep the process.
      if (process.connected) process.disconnect();
    }
  },
};

/** How long a worker that waits for the next run leaves the coordinator of the last in peace, in s. */
const AGAIN_S = 10;

/** A run is over. @returns whether the worker is to ask for another; false: it was asked to leave */
async function isToGoOn(health: Health, signal: AbortSignal): Promise<boolean> {
  for (let second = 0; second < AGAIN_S && !signal.aborted; second++) {
    health.turned("the run is over; waiting for another");
    await sleep(1000, undefined, { signal }).catch(() => undefined);
  }
  return !signal.aborted;
}
