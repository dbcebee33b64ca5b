/** Step time and efficiency over numbers of devices, for each way of aggregating. */
import { meanRankMs } from "./profile.js";
import { simulateRun } from "./run.js";
import type { Arrangement, Scenario, Simulated } from "./scenario.js";

/** What goes wrong, on average, on each machine. */
export interface Failures {
  /** that fail without a word, a day */
  readonly failuresPerDay: number;
  /** that are taken away after a warning, a day */
  readonly interruptionsPerDay: number;
  /** until another machine takes the place, in s */
  readonly replaceSeconds: number;
  /** until the coordinator gives a silent worker up, in ms */
  readonly deadAfterMs: number;
}

export interface Plan {
  readonly scenario: Omit<Scenario, "arrangement" | "devices" | "worldSize" | "missingMachines">;
  readonly arrangements: readonly Arrangement[];
  readonly devices: readonly number[];
  /** weak: each device has a rank; strong: so many ranks whatever their number */
  readonly ranks: { readonly kind: "weak" } | { readonly kind: "strong"; readonly worldSize: number };
  readonly batchSize: number;
  readonly failures: Failures;
  /** samples of an epoch; null: nobody has said */
  readonly samples: number | null;
  /** of one device and hour; null: nobody has said */
  readonly price: number | null;
}

export interface CurvePoint extends Simulated {
  readonly arrangement: Arrangement;
  readonly devices: number;
  readonly worldSize: number;
  /** with failures and interruptions, in ms */
  readonly effectiveStepMs: number;
  readonly imagesPerSecond: number;
  /** images/s over as many times one device's, on which everything is on one machine */
  readonly efficiency: number;
  /** of an epoch; null: its length is not known */
  readonly epochSeconds: number | null;
  readonly epochCost: number | null;
}

const DAY_MS = 86_400_000;

/** @param told hears of each point as soon as it is known */
export function curves(plan: Plan, told: (point: CurvePoint) => void = () => undefined): readonly CurvePoint[] {
  const alone = pointOf(plan, "sharded", 1, null);
  const points: CurvePoint[] = [];
  for (const arrangement of plan.arrangements) {
    for (const devices of plan.devices) {
      const point = pointOf(plan, arrangement, devices, alone.imagesPerSecond);
      points.push(point);
      told(point);
    }
  }
  return points;
}

/** @param alone images/s of one device; null: this is it */
export function pointOf(plan: Plan, arrangement: Arrangement, devices: number, alone: number | null): CurvePoint {
  const worldSize = plan.ranks.kind === "weak" ? devices : plan.ranks.worldSize;
  const scenario = { ...plan.scenario, arrangement, devices, worldSize, missingMachines: 0 };
  const simulated = simulateRun(scenario);
  const effectiveStepMs = withFailures(plan, scenario, simulated.stepMs);
  const globalBatch = worldSize * plan.batchSize;
  const imagesPerSecond = (1000 * globalBatch) / effectiveStepMs;
  const { samples, price } = plan;
  const epochSeconds = samples === null ? null : samples / imagesPerSecond;
  const epochCost = epochSeconds === null || price === null ? null : (epochSeconds / 3600) * devices * price;
  const efficiency = alone === null ? 1 : imagesPerSecond / (devices * alone);
  return {
    ...simulated,
    ...{ arrangement, devices, worldSize, effectiveStepMs, imagesPerSecond, efficiency, epochSeconds, epochCost },
  };
}

/**
 * While a machine is missing the others do its ranks, as slowly as a run with one less does, simulated too; and one that fails without a
 * word is waited for until it is given up. In expectation, for rates so low that two seldom come together.
 */
function withFailures({ failures }: Plan, scenario: Scenario, stepMs: number): number {
  const { failuresPerDay, interruptionsPerDay, replaceSeconds, deadAfterMs } = failures;
  const machines = Math.ceil(scenario.devices / scenario.devicesPerMachine);
  const lossesPerMs = ((failuresPerDay + interruptionsPerDay) * machines) / DAY_MS;
  if (lossesPerMs === 0) return stepMs;
  const missingShare = Math.min(1, lossesPerMs * replaceSeconds * 1000);
  // Nobody is left to do the ranks of the only one: the run stands still.
  if (machines === 1) return stepMs / Math.max(1e-3, 1 - missingShare);
  const without = simulateRun({ ...scenario, missingMachines: 1 }).stepMs;
  const silentShare = Math.min(0.999, ((failuresPerDay * machines) / DAY_MS) * deadAfterMs);
  return (stepMs + missingShare * (without - stepMs)) / (1 - silentShare);
}

/** Images/s of so many devices that never wait for anything. */
export function idealImagesPerSecond({ scenario, batchSize }: Plan, devices: number): number {
  return (1000 * devices * batchSize) / meanRankMs(scenario.rankTimes);
}
