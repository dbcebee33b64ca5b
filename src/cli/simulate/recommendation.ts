/** What the curves say, in words. */
import { duration } from "../../telemetry/index.js";
import { pointOf, type CurvePoint, type Plan } from "./curves.js";
import { DEVICES } from "./run.js";
import { type Arrangement, type WeightsWire } from "./scenario.js";
import type { GradientType } from "../../models/exchange.js";

/** A gain that is worth a change. */
const WORTH_IT = 1.05;

export interface Recommendation {
  readonly point: CurvePoint;
  readonly gradients: GradientType;
  readonly weights: WeightsWire;
  readonly words: readonly string[];
}

const HOW: Readonly<Record<Arrangement, string>> = {
  embedded: "the coordinator's own aggregator",
  sharded: "aggregators beside the workers",
  hierarchical: "one worker a machine, whose devices give one sum, and aggregators beside them",
};

/** @param leastEfficiency below which more devices are not worth their price */
export function recommend(plan: Plan, points: readonly CurvePoint[], leastEfficiency: number): Recommendation {
  const efficient = points.filter(({ efficiency }) => efficiency >= leastEfficiency);
  const fastest = (among: readonly CurvePoint[]) =>
    among.reduce((best, next) => (next.imagesPerSecond > best.imagesPerSecond ? next : best));
  const found =
    efficient.length > 0 ? fastest(efficient) : points.reduce((a, b) => (b.efficiency > a.efficiency ? b : a));
  const { arrangement, devices } = found;
  const alone = found.imagesPerSecond / (found.efficiency * devices);
  const { gradients, weights } = plan.scenario.payload;
  const others = otherWires(gradients, weights).map((wire) => {
    const payload = { ...plan.scenario.payload, ...wire };
    return { wire, point: pointOf({ ...plan, scenario: { ...plan.scenario, payload } }, arrangement, devices, alone) };
  });
  const options = [{ wire: { gradients, weights }, point: found }, ...others];
  // What changes least comes first, and is only left for what is clearly faster.
  const best = options.reduce((a, b) => (b.point.imagesPerSecond > WORTH_IT * a.point.imagesPerSecond ? b : a));
  const percent = (share: number) => `${(100 * share).toFixed(0)}%`;
  const words = [
    `Take ${devices === 1 ? "one device" : `${String(devices)} devices`} with ${HOW[arrangement]}` +
      (arrangement === "embedded" ? "" : ` (--aggregators ${String(found.aggregators)})`) +
      `: ${found.imagesPerSecond.toFixed(0)} images/s, ${percent(found.efficiency)} efficiency` +
      (found.epochSeconds === null ? "" : `, ${duration(1000 * found.epochSeconds)} an epoch`) +
      (found.epochCost === null ? "." : `, at a price of ${found.epochCost.toFixed(2)}.`),
    efficient.length > 0
      ? beyond(points, found, leastEfficiency)
      : `No number of devices reaches ${percent(leastEfficiency)}: ${limit(found)}.`,
    best === options[0]
      ? `What travels may stay as it is (gradients ${gradients}, weights ${weights}): nothing else gains 5% there.`
      : `${wireWords(best.wire)}: ${percent(best.point.imagesPerSecond / found.imagesPerSecond - 1)} more images/s there (${percent(best.point.efficiency)} efficiency).`,
  ];
  return { point: found, ...best.wire, words };
}

interface WireChoice {
  readonly gradients: GradientType;
  readonly weights: WeightsWire;
}

/** Weights are rounded only where steps round them anyway; gradients at a price that the user may pay. */
function otherWires(gradients: GradientType, weights: WeightsWire): readonly WireChoice[] {
  const ways = weights === "fp32" ? [weights] : ([weights, "delta"] as const);
  const sums = gradients === "bf16" ? [gradients] : ([gradients, "bf16"] as const);
  return ways.flatMap((way) => sums.map((sum) => ({ gradients: sum, weights: way }))).slice(1);
}

function wireWords({ gradients, weights }: WireChoice): string {
  const parts = [
    ...(gradients === "bf16"
      ? ["gradients in bf16 (--set parallel.gradients=bf16, which rounds at each node of the sum)"]
      : []),
    ...(weights === "delta" ? ["weights as differences (--wire-weights delta)"] : []),
  ];
  const sentence = parts.join(" and ");
  return sentence.slice(0, 1).toUpperCase() + sentence.slice(1);
}

/** The next number of devices, aggregated as it is best there. */
function beyond(points: readonly CurvePoint[], found: CurvePoint, leastEfficiency: number): string {
  const more = points.filter(({ devices }) => devices > found.devices);
  const fewest = Math.min(...more.map(({ devices }) => devices));
  const [next] = more.filter(({ devices }) => devices === fewest).sort((a, b) => b.efficiency - a.efficiency);
  if (next === undefined)
    return `That is the most devices asked for: efficiency is still above ${(100 * leastEfficiency).toFixed(0)}%.`;
  return (
    `With ${String(next.devices)} devices efficiency falls to ${(100 * next.efficiency).toFixed(0)}% ` +
    `(${next.arrangement}): ${limit(next)}.`
  );
}

/** Of the time; something that is less busy holds nobody up by itself. */
const BUSY = 0.5;

/** What stands in the way. Devices that are busy do not. */
function limit({ busy }: CurvePoint): string {
  const shareOf = (share: number) => `${(100 * share).toFixed(0)}% of the time`;
  const devices = busy.find(({ what }) => what === DEVICES);
  const rest = busy.find(({ what }) => what !== DEVICES);
  const computing = devices === undefined ? "" : `devices compute ${shareOf(devices.share)}, and `;
  if (rest === undefined) return `${computing}nothing else is busy`;
  return rest.share < BUSY
    ? `${computing}nothing else is busy for more than ${shareOf(rest.share)} (${rest.what}): the parts of a step wait for each other`
    : `${computing}what is busiest beside them is the ${rest.what} (${shareOf(rest.share)})`;
}
