/** `tandem status`: how a run stands, from its directory: while it trains, and after. */
import { runHolder, type RunHolder } from "../checkpoint/index.js";
import { duration, runStatus, type RunStatus, type WorkerStatus } from "../telemetry/index.js";
import { eventsIn, existingRun } from "./existing-run.js";
import { percent, reproducibility } from "./run-display.js";
import type { CommandBody } from "./commands.js";

interface StatusArguments {
  readonly directory: string;
  readonly json: boolean;
}

export const statusCommand: CommandBody<StatusArguments> = {
  builder: (yargs) =>
    yargs
      .positional("directory", { type: "string", demandOption: true, describe: "The run directory" })
      .option("json", { type: "boolean", default: false, describe: "Print one JSON object" })
      .example("$0 status runs/a", "Also where another machine trains into a shared directory")
      .example("$0 status runs/a --json", "For a script"),
  handler: async ({ directory: given, json }) => {
    const directory = await existingRun(given);
    const status = await runStatus(eventsIn(directory));
    const coordinator = await runHolder(directory);
    process.stdout.write(
      json ? `${JSON.stringify({ ...status, coordinator })}\n` : told(directory, status, coordinator),
    );
  },
};

function told(directory: string, status: RunStatus, coordinator: RunHolder | null): string {
  const { evaluated, checkpoint, skippedSteps, lastEventAt } = status;
  const wasLeft = status.phase === "running" && coordinator === null;
  const served = coordinator === null ? [] : [...workerRows(status.workers), ...saidRows(status)];
  const rows: readonly Row[] = [
    ["step", progressOf(status, wasLeft)],
    ["coordinator", coordinator === null ? absent(directory, status, wasLeft) : present(coordinator, status)],
    ...served,
    ["kNN", evaluated === null ? "not measured" : `${percent(evaluated.accuracy)} at step ${String(evaluated.step)}`],
    ...(evaluated === null || evaluated.linear === null
      ? []
      : [["linear probe", `${percent(evaluated.linear)} top-1`] as const]),
    ["checkpoint", checkpoint === null ? "none" : `step ${String(checkpoint.step)}: ${checkpoint.directory}`],
    ...(skippedSteps === 0
      ? []
      : [["skipped", `${String(skippedSteps)} steps, whose loss or gradients were not finite`] as const]),
    ["bits", reproducibility(status.reproducible)],
    ["last event", lastEventAt === null ? "none" : `${duration(Date.now() - Date.parse(lastEventAt))} ago`],
  ];
  const title = `${directory}: ${wasLeft ? "left in the middle" : status.phase}`;
  return `${[title, ...rows.map(([name, value]) => `${name.padEnd(12)} ${value}`)].join("\n")}\n`;
}

type Row = readonly [name: string, value: string];

function progressOf({ phase, step, totalSteps, loss, imagesPerSecond }: RunStatus, wasLeft: boolean): string {
  const parts = [totalSteps === null ? String(step) : `${String(step)} of ${String(totalSteps)}`];
  if (loss !== null) parts.push(`loss ${loss.toFixed(3)}`);
  if (imagesPerSecond !== null && phase === "running" && !wasLeft)
    parts.push(`${imagesPerSecond.toFixed(0)} samples/s`);
  return parts.join(", ");
}

function present({ pid, host, since }: RunHolder, { control }: RunStatus): string {
  return `process ${String(pid)} on ${host}, at ${control ?? "?"}, since ${since}`;
}

function absent(directory: string, { again }: RunStatus, wasLeft: boolean): string {
  if (!wasLeft) return "none";
  return `none: the last one has died; go on with npx tandem ${again ?? `train --resume --out ${directory}`}`;
}

function saidRows({ waiting }: RunStatus): readonly Row[] {
  return waiting === null ? [] : [["last said", waiting]];
}

function workerRows(workers: readonly WorkerStatus[]): readonly Row[] {
  if (workers.length === 0) return [["workers", "none is here"]];
  const byName = workers.toSorted((a, b) => a.worker.localeCompare(b.worker, undefined, { numeric: true }));
  return byName.map(({ worker, joinedAt, slow }, index) => {
    const pace =
      slow === null ? "" : `, slow: ${slow.paceMs.toFixed(0)} ms a rank, the others ${slow.medianMs.toFixed(0)} ms`;
    return [index === 0 ? "workers" : "", `${worker}, since ${joinedAt}${pace}`];
  });
}
