/** What a run's time goes into beside its steps: starts, crashes, lost workers, evaluations, checkpoints, steps that were left out. */
import type { RunConfig } from "../config/index.js";
import { count, key, percent, time, WORTH, type Finding } from "./finding.js";
import { mean, quantile, wallMs, type RunSummary } from "./summary.js";

/** A name is not said more often than this. */
const MOST_NAMED = 3;

const shareOf = (summary: RunSummary, ms: number) => ms / Math.max(1, wallMs(summary));
const usualStep = ({ steps }: RunSummary) => quantile(steps.stepMs, 0.5);

/** What comes on top of a step's usual time in those that are given, in ms. */
function excess(summary: RunSummary, times: readonly (number | null)[]): number {
  const usual = usualStep(summary);
  return times.reduce<number>((sum, ms) => sum + (ms === null ? 0 : Math.max(0, ms - usual)), 0) || 0;
}

export function starts(summary: RunSummary): Finding | null {
  const { start } = summary.clock;
  const gain = shareOf(summary, start);
  if (gain < WORTH) return null;
  return {
    kind: "starts",
    title: summary.starts === 1 ? "the start takes long" : "the starts take long",
    seen: `${time(start)} in ${count(summary.starts, "start")} from the coordinator's beginning to the first step; ${percent(gain)} of the run's time`,
    why: "workers join, the step is compiled (once on a machine: it is kept) and checked; the shorter the run, the more of it",
    tries: ["workers that are there before the coordinator: they wait for it (--patience)", "one long run rather than several: --stop-after and --resume begin anew each time"], // prettier-ignore
    gain: null,
  };
}

export function crashes(summary: RunSummary, config: RunConfig): Finding | null {
  const { crashes: times, repeatedSteps, clock } = summary;
  if (times === 0 && repeatedSteps === 0) return null;
  const { everySteps } = config.checkpoint;
  const often = key(config, "checkpoint.everySteps");
  return {
    kind: "crashes",
    title: times === 0 ? "steps were made again" : "the coordinator was lost",
    seen: `${times === 0 ? "" : `${count(times, "time")}, ${time(clock.down)} until it was started again; `}${count(repeatedSteps, "step")} made again, ${time(clock.repeated)}`,
    why: "the run goes on from its last checkpoint; what was made since is made again, to the same bits",
    tries: [
      "logs/coordinator.jsonl, and the system's log (a process that is out of memory is killed without a word)",
      ...(repeatedSteps > 0
        ? [
            everySteps === 0
              ? `${often}: 0 is only at the end, and all is made again`
              : `a lower ${often}: less is made again`,
          ]
        : []),
      ...(summary.starts > 1 && clock.down > clock.repeated ? ["npx tandem train starts it again by itself (--max-restarts); --supervised is for a supervisor of your own"] : []), // prettier-ignore
    ],
    gain: shareOf(summary, clock.down + clock.repeated),
  };
}

export function lostWorkers(summary: RunSummary, config: RunConfig): Finding | null {
  const { losses } = summary;
  if (losses.length === 0) return null;
  const lost = excess(
    summary,
    losses.map(({ stepMs }) => stepMs),
  );
  const silent = losses.filter(({ reason }) => reason.startsWith("silent for")).length;
  const named = losses.slice(-MOST_NAMED).map(({ worker, reason }) => `${worker} (${reason})`);
  const more = losses.length > MOST_NAMED ? `, the last ${named.join(", ")}` : `: ${named.join(", ")}`;
  return {
    kind: "lost-workers",
    title: "workers were lost",
    seen: `${count(losses.length, "time")}${more}; the steps in which it happened took ${time(lost)} longer than usual`,
    why: "the others compute a lost worker's ranks again, in the same step; until one comes back there are fewer of them",
    tries: [
      "logs/worker-N.jsonl of the run, or the log of whoever has started them, and the system's log",
      ...(silent > 0 ? [`${count(silent, "time")} by silence: a lower ${key(config, "membership.deadAfterMs")} notices sooner`] : []), // prettier-ignore
    ],
    gain: shareOf(summary, lost),
  };
}

export function tooFewWorkers(summary: RunSummary, config: RunConfig): Finding | null {
  const gain = shareOf(summary, summary.clock.waiting);
  if (gain < WORTH) return null;
  const { minWorkers } = config.membership;
  return {
    kind: "too-few-workers",
    title: "the run waits for workers",
    seen: `${time(summary.clock.waiting)} between steps with fewer than ${count(minWorkers, "worker")}; ${percent(gain)} of the run's time`,
    why: "membership.minWorkers says that it does",
    tries: [`a lower ${key(config, "membership.minWorkers")}`, "more workers than that, so that one may leave"], // prettier-ignore
    gain,
  };
}

export function evaluations(summary: RunSummary, config: RunConfig): Finding | null {
  const ms = summary.clock.evaluations;
  const share = shareOf(summary, ms);
  if (share < WORTH) return null;
  const times = summary.evaluations.length;
  const { everyEpochs } = config.evaluation;
  // Every second one; those of the first and the last step are made in any case.
  const { step, totalSteps } = summary.status;
  const inner = times - (step === totalSteps ? 2 : 1);
  const saved = Math.max(0, Math.ceil(inner / 2));
  const won = (share * saved) / times;
  return {
    kind: "evaluations",
    title: "evaluations take their time",
    seen: `${count(times, "evaluation")} of ${time(ms / times)}${times === 1 ? "" : " each"}; ${percent(share)} of the run's time`,
    why: "workers compute the features of the bank and of the test split, and no step meanwhile",
    tries: [
      ...(saved > 0 ? [`${String(2 * everyEpochs)} for ${key(config, "evaluation.everyEpochs")}: ${count(saved, "evaluation")} less, ${percent(won)} of the run's time`] : []), // prettier-ignore
      `a lower ${key(config, "evaluation.maxTrain")}: features of the bank are most of what is computed`,
    ],
    gain: saved > 0 ? won : null,
  };
}

export function checkpoints(summary: RunSummary, config: RunConfig): Finding | null {
  const { written, leftOut, beside } = summary.checkpoints;
  const slower = excess(summary, beside);
  const gain = shareOf(summary, slower);
  if (leftOut === 0 && gain < WORTH) return null;
  return {
    kind: "checkpoints",
    title: leftOut > 0 ? "the disk does not keep up with checkpoints" : "checkpoints slow the steps beside them",
    seen:
      `${count(written, "checkpoint")} written, ${String(leftOut)} left out; ${count(beside.length, "step")} beside them, ` +
      `of ${time(mean(beside))} in the mean, the usual one ${time(usualStep(summary))}`,
    why: "a thread writes them, one at a time, and steps go on; what is shared is the disk, the memory and the cores",
    tries: [`a higher ${key(config, "checkpoint.everySteps")}`, "a run directory on a faster disk"],
    gain,
  };
}

export function skippedSteps(summary: RunSummary, config: RunConfig): Finding | null {
  const { skippedSteps: skipped } = summary;
  if (skipped === 0) return null;
  const { clipNorm } = config.optimizer;
  return {
    kind: "skipped-steps",
    title: "steps were left out",
    seen: `${count(skipped, "step")}, whose loss or gradient was not finite`,
    why: "numerics.nonFinite is skip; a rate that is too high for the moment is the usual cause",
    tries: [
      `a lower ${key(config, "optimizer.learningRate")}, or a longer ${key(config, "optimizer.warmupEpochs")}`,
      ...(clipNorm === null
        ? [`${key(config, "optimizer.clipNorm")}, e.g. 1: a gradient that is longer is scaled down`]
        : []),
      ...(config.engine.precision === "bf16" ? ["--precision fp32, to see whether it is rounding"] : []),
    ],
    gain: shareOf(summary, skipped * usualStep(summary)) || 0,
  };
}

export function otherBits({ mixed, status }: RunSummary): Finding | null {
  if (mixed.length === 0 && status.reproducible) return null;
  const names = mixed.slice(0, MOST_NAMED).join(", ") + (mixed.length > MOST_NAMED ? ", …" : "");
  return {
    kind: "other-bits",
    title: "the run cannot be repeated bit for bit",
    seen: mixed.length === 0 ? "it goes on from a checkpoint of which that is so" : `${names} computed other bits`,
    why: "membership.allowMixedHardware lets workers of several kinds take part",
    tries: ["processors or GPUs of one kind, and membership.allowMixedHardware=false"],
    gain: null,
  };
}

export function refusals({ refused, eventsLost }: RunSummary): Finding | null {
  if (refused === 0 && eventsLost === 0) return null;
  return {
    kind: "refusals",
    title: "something was turned away",
    seen: `${count(refused, "peer or message")} refused, ${count(eventsLost, "event")} lost to the disk`,
    why: "another version, other data, no key, or a message that does not fit; where the disk refuses, what is said here lacks it",
    tries: ["the reasons are in events.jsonl (dropped) and logs/coordinator.jsonl"],
    gain: null,
  };
}
