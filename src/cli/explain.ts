/** `tandem explain`: what limits a run, or has limited it, and what to try; from what its directory holds. */
import { readRunConfig, runHolder } from "../checkpoint/index.js";
import { modalityOf } from "../config/index.js";
import { UserError } from "../protocol/errors.js";
import { STAGES } from "../telemetry/index.js";
import { explain, percent, time, wallMs, type Explanation, type Finding } from "../explain/index.js";
import { eventsIn, existingRun } from "./existing-run.js";
import type { CommandBody } from "./commands.js";

interface ExplainArguments {
  readonly run: string;
  readonly json: boolean;
}

export const explainCommand: CommandBody<ExplainArguments> = {
  builder: (yargs) =>
    yargs
      .positional("run", { type: "string", demandOption: true, describe: "The run directory; the run may go on" })
      .option("json", { type: "boolean", default: false, describe: "Print one JSON object" })
      .example("$0 explain runs/a", "Findings, by the time that could be won")
      .example("$0 explain runs/a --json", "For a script"),
  handler: async ({ run, json }) => {
    const directory = await existingRun(run);
    const config = await readRunConfig(directory);
    const explanation = await explain(eventsIn(directory), config);
    if (explanation.summary.starts === 0)
      throw new UserError("RUN_EMPTY", `${directory} has no events yet: nothing has happened that could be explained`);
    const wasLeft = explanation.summary.status.phase === "running" && (await runHolder(directory)) === null;
    const phase = wasLeft ? "left in the middle" : explanation.summary.status.phase;
    const samples = modalityOf(config) === "text" ? "texts" : "images";
    process.stdout.write(
      json
        ? `${JSON.stringify({ phase, ...forScripts(explanation) })}\n`
        : told(directory, { phase, samples }, explanation),
    );
  },
};

/** Without what events.jsonl has, step by step. */
function forScripts({ summary, ...rest }: Explanation): object {
  const { status, starts, crashes, repeatedSteps, skippedSteps, workers, checkpoints, evaluations } = summary;
  const { written, leftOut } = checkpoints;
  return {
    ...{ step: status.step, totalSteps: status.totalSteps, starts, crashes, repeatedSteps },
    ...{ skippedSteps, checkpoints: { written, leftOut }, evaluations, workers },
    ...rest,
  };
}

function told(
  directory: string,
  { phase, samples }: { phase: string; samples: string },
  explanation: Explanation,
): string {
  const { summary, speed, stages, clock, limit, findings } = explanation;
  const { step, totalSteps } = summary.status;
  const parts = Object.entries(clock).filter(([, share]) => share >= 0.001);
  const head: readonly (readonly [name: string, text: string])[] = [
    ["run", `${directory}: ${phase} at step ${String(step)}${totalSteps === null ? "" : ` of ${String(totalSteps)}`}, ${time(wallMs(summary))} by the clock`], // prettier-ignore
    ["speed", speed === null ? "no step yet" : `${speed.samplesPerSecond.toFixed(1)} ${samples}/s in the median step, of ${time(speed.stepMs.median)}; 95% of steps take at most ${time(speed.stepMs.p95)}`], // prettier-ignore
    ["a step", stages === null ? "the events do not say where its time goes" : STAGES.map((stage) => `${stage} ${percent(stages[stage])}`).join(", ")], // prettier-ignore
    ["the clock", parts.map(([piece, share]) => `${piece} ${percent(share)}`).join(", ")],
    ["limit", limit ?? "the events do not say"],
  ];
  return [
    ...head.map(([name, text]) => `${name.padEnd(10)} ${text}`),
    ...findings.flatMap((finding, index) => ["", ...paragraph(finding, index + 1)]),
    "",
  ].join("\n");
}

function paragraph({ title, gain, seen, why, tries }: Finding, number: number): string[] {
  return [
    `${String(number)}. ${title}${gain === null ? "" : ` (up to ${percent(gain)} of the time)`}`,
    `   seen  ${seen}`,
    `   why   ${why}`,
    ...tries.map((text, index) => `   ${index === 0 ? "try " : "    "}  ${text}`),
  ];
}
