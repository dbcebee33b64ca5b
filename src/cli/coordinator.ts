/** `tandem coordinator`: owns one run and serves its workers until the run ends. */
import { existsSync } from "node:fs";
import { basename } from "node:path";
import { runCoordinator, type CoordinatorResult } from "../../coordinator/main.js";
import { toAll } from "../../coordinator/observers.js";
import { holdsRun, logFile, runFiles } from "../checkpoint/index.js";
import type { RunConfig } from "../config/index.js";
import { UserError } from "../protocol/errors.js";
import { readServerKeys, type ServerKeys } from "../transport/index.js";
import { EventFile, openLogger, readEvents, Progress, Timeline } from "../telemetry/index.js";
import { percent, RunDisplay } from "./run-display.js";
import { RunMetrics } from "./run-metrics.js";
import { RunTensorBoard } from "./run-tensorboard.js";
import { StageLog } from "./stage-log.js";
import {
  AGGREGATORS_OPTION,
  aggregatorsOf,
  DELIVERY_OPTION,
  streamsData,
  TENSORBOARD_OPTION,
  TRACE_OPTION,
  WIRE_OPTIONS,
  wireFlags,
  wireOf,
  type DeliveryArguments,
  type WireArguments,
} from "./coordinator-options.js";
import {
  configOf,
  once,
  pathOf,
  stopAfterOf,
  withRunDirectory,
  withRunOptions,
  type RunArguments,
} from "./run-options.js";
import type { Dashboard, RunView } from "../dashboard/index.js";
import type { Wire } from "../models/exchange.js";
import { drainedCode, EXIT_WHEN_DRAINED_OPTION } from "./exit-when-drained.js";
import { HEALTH_OPTION, healthAt } from "./health-option.js";
import { requireKeysOrInsecure } from "./require-keys.js";
import { shellWord } from "../config/shell-word.js";
import { stopSignal } from "./stop-signal.js";
import { ownFlags, type FromParent, type ToParent } from "./train/children.js";
import { openDashboard, UI_OPTION, uiPlace } from "./ui-option.js";
import { tcpEndpoint } from "./tcp-endpoint.js";
import type { CommandBody } from "./commands.js";

interface CoordinatorArguments extends RunArguments, WireArguments, DeliveryArguments {
  readonly listen: string;
  readonly out: string | undefined;
  readonly resume: boolean;
  readonly supervised: boolean;
  readonly init: string | undefined;
  readonly keys: string | undefined;
  readonly insecure: boolean;
  readonly aggregators: string;
  readonly trace: string | undefined;
  readonly tensorboard: boolean;
  readonly health: string | undefined;
  readonly ui: string | undefined;
  readonly "exit-when-drained": number;
  readonly "stop-after": number | undefined;
}

export const coordinatorCommand: CommandBody<CoordinatorArguments> = {
  builder: (yargs) =>
    withRunDirectory(withRunOptions(yargs))
      .option("listen", {
        type: "string",
        default: "tcp://127.0.0.1:5555",
        requiresArg: true,
        describe:
          "Address of the control plane; gradients, or aggregators, use the next port, streamed samples the one after",
      })
      .option("aggregators", AGGREGATORS_OPTION)
      .options(WIRE_OPTIONS)
      .option("data-delivery", DELIVERY_OPTION)
      .option("trace", TRACE_OPTION)
      .option("tensorboard", TENSORBOARD_OPTION)
      .option("supervised", {
        type: "boolean",
        default: false,
        describe:
          "For a supervisor that starts it again, always the same way: begin the run or take it up, leave workers waiting on SIGTERM, stay after the run's end for those who come late",
      })
      .option("exit-when-drained", EXIT_WHEN_DRAINED_OPTION)
      .option("health", HEALTH_OPTION)
      .option("ui", UI_OPTION)
      .option("keys", {
        type: "string",
        requiresArg: true,
        describe: "Folder with the coordinator's keys, as tandem keys new makes them; only workers known there get in",
      })
      .option("insecure", {
        type: "boolean",
        default: false,
        describe: "Listen beyond this machine without keys: whoever reaches the ports can read and change the run",
      })
      .example(
        "$0 coordinator --config run.yaml --listen tcp://10.0.0.5:5555 --keys keys/coordinator --out runs/a",
        "Serve a network",
      )
      .example("$0 coordinator --resume --out runs/a", "Take the run up again, at the default address"),
  handler: async (given) => {
    const out = pathOf("--out", given.out);
    if (out === undefined) throw new UserError("USAGE", "--out is missing: name the run directory, e.g. --out runs/a");
    const listen = tcpEndpoint(once("listen", given.listen), "listen");
    const keys = await keysOf(given, listen);
    // What is asked for is compared with the run that is there, as where it is resumed.
    const resume = given.resume || (given.supervised && (await holdsRun(out)));
    const config = await configOf(given, given.resume ? out : null);
    const aggregators = aggregatorsOf(given.aggregators, config.membership.minWorkers);
    const init = pathOf("--init", given.init) ?? null;
    await serveRun({
      config,
      listen,
      aggregators,
      wire: wireOf(given),
      overlaps: given.overlap,
      streamsData: streamsData(given),
      isSupervised: given.supervised,
      drained: drainedCode(given["exit-when-drained"]),
      trace: pathOf("--trace", given.trace) ?? null,
      tensorboard: once("tensorboard", given.tensorboard),
      health: given.health,
      ui: uiPlace(given.ui),
      keys,
      out,
      resume,
      init,
      stopAfter: stopAfterOf(given),
      again: againOf(given, out),
    });
  },
};

/** @throws UserError `KEYS_MISSING` where others could reach the run and nothing keeps them out */
async function keysOf({ keys, insecure }: CoordinatorArguments, listen: string): Promise<ServerKeys | null> {
  const folder = pathOf("--keys", keys);
  if (folder !== undefined) return readServerKeys(folder);
  requireKeysOrInsecure(listen, insecure, `--listen ${listen}`);
  return null;
}

/** The arguments that take a run up which listened at `control`. */
function againOf(
  { keys, insecure, aggregators, ...given }: CoordinatorArguments,
  out: string,
): (control: string) => string {
  const exchange = [
    ...(aggregators === "embedded" ? [] : ["--aggregators", aggregators]),
    ...wireFlags(given),
    ...(given.tensorboard ? [] : ["--no-tensorboard"]),
  ];
  const sharded = exchange.map((word) => ` ${word}`).join("");
  // `tandem train` talks to its children; whoever has started it knows nothing of them.
  if (process.send !== undefined) return () => `train --resume --out ${out}${sharded}${ownFlags() && ` ${ownFlags()}`}`;
  const entry = [
    ...(keys === undefined ? [] : [` --keys ${keys}`]),
    ...(insecure ? [" --insecure"] : []),
    sharded,
  ].join("");
  return (control) => `coordinator --resume --out ${out} --listen ${control}${entry}`;
}

interface Run {
  /** file for a timeline of the steps; null: none */
  readonly trace: string | null;
  /** whether TensorBoard's event files are written */
  readonly tensorboard: boolean;
  readonly aggregators: number | null;
  readonly wire: Wire;
  readonly overlaps: boolean;
  readonly isSupervised: boolean;
  /** exit code where it was asked to stop */
  readonly drained: number;
  /** address to answer probes at; undefined: none */
  readonly health: string | undefined;
  /** null: no dashboard */
  readonly ui: ReturnType<typeof uiPlace>;
  readonly streamsData: boolean;
  readonly keys: ServerKeys | null;
  readonly config: RunConfig;
  readonly listen: string;
  readonly out: string;
  readonly resume: boolean;
  readonly init: string | null;
  readonly stopAfter: number | undefined;
  readonly again: (control: string) => string;
}

async function serveRun({
  config,
  listen,
  aggregators,
  wire,
  overlaps,
  streamsData,
  isSupervised,
  drained,
  trace,
  tensorboard,
  health: healthAddress,
  ui,
  keys,
  out,
  resume,
  init,
  stopAfter,
  again,
}: Run): Promise<void> {
  // Before anything is left in the run directory.
  const timeline = trace === null ? null : new Timeline(trace, () => performance.now());
  const progress = new Progress(process.stderr);
  const logger = openLogger({
    process: "coordinator",
    file: logFile(out, "coordinator"),
    show: (line) => progress.note(line),
  });
  const view = ui === null ? null : await viewOf(config, runFiles(out).events);
  const events = new EventFile(
    runFiles(out).events,
    undefined,
    (event) => view?.take(event),
    (message) => {
      logger.warn(message);
    },
  );
  const planned = new AbortController();
  const onStep = (step: number) => {
    if (step === stopAfter) planned.abort();
  };
  const display = new RunDisplay(config, progress, events, logger, onStep, timeline);
  process.on("message", ({ note }: FromParent) => display.note(note));
  const asked = stopSignal(() => progress.end());
  const signal = AbortSignal.any([asked, planned.signal]);
  const onAbort = () => display.note("stopping: writing a checkpoint (once more to exit at once)");
  signal.addEventListener("abort", onAbort, { once: true });
  let began: string | null = null;
  const { health, metrics, close } = await healthAt(healthAddress, (message) => {
    display.note(message);
  });
  const board = tensorboard
    ? new RunTensorBoard(config, runFiles(out).tensorboard, (message) => {
        logger.warn(message);
      })
    : null;
  const stages = new StageLog(events);
  let dashboard: Dashboard | null = null;
  let whereShown: string | null = null;
  try {
    if (ui !== null && view !== null) {
      const shown = { view, pictures: runFiles(out).pictures, title: basename(out), config };
      dashboard = await openDashboard(ui, shown, (message) => {
        whereShown = message;
      });
    }
    const observers = [
      ...(metrics === null ? [] : [new RunMetrics(metrics, config)]),
      ...(view === null ? [] : [{ happened: view.happened.bind(view) }]),
      ...(board === null ? [] : [board]),
    ];
    const result = await runCoordinator({
      config,
      listen,
      aggregators,
      wire,
      overlaps,
      streamsData,
      keys,
      out,
      resume,
      init,
      signal,
      isSupervised,
      pictures: dashboard !== null,
      health,
      histograms: tensorboard,
      onListening: ({ control, step, reproducible, initial }) => {
        began = again(control);
        const shownAt = dashboard?.address ?? null;
        const started = { again: began, control, resumed: resume, step, reproducible, dashboard: shownAt };
        events.append({ kind: "run-started", ...started });
        board?.begin(step);
        display.note(`run directory ${out}; listening at ${control}`);
        // Where a run does not begin there is one line, with the reason.
        if (whereShown !== null) display.note(whereShown);
        if (initial !== null) display.initialised(initial);
        process.send?.({ control } satisfies ToParent);
      },
      observer: toAll(display, stages, ...observers),
    });
    progress.end();
    stages.write();
    events.append({ kind: "run-ended", outcome: result.outcome, step: result.step });
    process.stdout.write(closing(result, out, config, display, began ?? ""));
    if (asked.aborted && result.outcome === "stopped") process.exitCode = drained;
  } catch (error) {
    progress.end();
    if (began !== null) {
      stages.write();
      events.append({ kind: "run-ended", outcome: "failed", step: null });
      logger.info({ error: String(error) }, "ended by an error");
    }
    throw error;
  } finally {
    close();
    dashboard?.close();
    signal.removeEventListener("abort", onAbort);
    events.close();
    await board?.close();
    timeline?.close();
    if (process.connected) process.disconnect();
  }
}

/** What is shown of a run: what it has left so far, to begin with. */
async function viewOf(config: RunConfig, events: string): Promise<RunView> {
  const { RunView } = await import("../dashboard/index.js");
  const view = new RunView(config, Date.now);
  if (existsSync(events)) for await (const event of readEvents(events)) view.take(event);
  return view;
}

/** What a run says at its end: where its files are and what to type next. */
function closing(
  result: CoordinatorResult,
  out: string,
  config: RunConfig,
  { first, last }: RunDisplay,
  again: string,
): string {
  const { outcome, step, totalSteps, checkpoint } = result;
  const gain =
    first === null || last === null || first.step === last.step
      ? ""
      : `, kNN accuracy ${percent(last.accuracy)} (${percent(first.accuracy)} at step ${first.step})`;
  const next =
    outcome === "finished"
      ? [
          // Where nothing was classified, labels or a test split may be missing.
          last === null
            ? `npx tandem export --checkpoint ${out} --out encoder.safetensors`
            : `npx tandem evaluate knn --checkpoint ${out} --data ${shellWord(config.data.spec)}`,
          `npx tandem checkpoint ${out}`,
        ]
      : [`npx tandem ${again}`];
  return [
    `${outcome} at step ${step} of ${totalSteps}${gain}`,
    `checkpoint  ${checkpoint ?? "none"}`,
    `events      ${runFiles(out).events}`,
    `logs        ${runFiles(out).logs}`,
    "next:",
    ...next.map((line) => `  ${line}`),
    "",
  ].join("\n");
}
