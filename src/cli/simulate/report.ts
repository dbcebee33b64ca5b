/** The simulation as a report: curves, tables, assumptions, and the command to repeat it. */
import { duration } from "../../telemetry/index.js";
import { listing, page, paragraph, table, type Html } from "../report/html.js";
import { lineChart, shown, type Series } from "../report/line-chart.js";
import { idealImagesPerSecond, type CurvePoint, type Plan } from "./curves.js";
import { meanRankMs } from "./profile.js";
import type { Recommendation } from "./recommendation.js";

export interface SimulationReport {
  readonly plan: Plan;
  readonly points: readonly CurvePoint[];
  readonly recommendation: Recommendation;
  /** what is simulated, e.g. "resnet50, batch 32" */
  readonly subject: string;
  readonly command: string;
}

export function reportPage({ plan, points, recommendation, subject, command }: SimulationReport): string {
  const { scenario } = plan;
  return page(`Simulated scaling: ${subject}`, [
    { heading: "Recommendation", content: recommendation.words.map(paragraph) },
    {
      heading: "Curves",
      content: [
        lineChart({
          ...{ title: "Images per second by number of devices", xLabel: "devices", yLabel: "images/s" },
          series: [
            ...seriesOf(points, ({ imagesPerSecond }) => imagesPerSecond),
            {
              name: "without any waiting",
              isModel: true,
              points: plan.devices.map((x) => ({ x, y: idealImagesPerSecond(plan, x) })),
            },
          ],
          most: Math.max(...points.map(({ imagesPerSecond }) => imagesPerSecond)) * 1.1,
        }),
        lineChart({
          ...{ title: "Efficiency by number of devices", xLabel: "devices", yLabel: "efficiency", most: 1 },
          series: seriesOf(points, ({ efficiency }) => Math.min(1, efficiency)),
        }),
        ...(points.some(({ epochCost }) => epochCost !== null)
          ? [
              lineChart({
                ...{ title: "Price of an epoch by number of devices", xLabel: "devices", yLabel: "price" },
                series: seriesOf(points, ({ epochCost }) => epochCost ?? 0),
              }),
            ]
          : []),
        pointTable(points),
      ],
    },
    {
      heading: "Assumptions",
      content: [
        table(
          ["what", "value"],
          [
            ["parameters", String(scenario.payload.tensors.reduce((sum, size) => sum + size, 0))],
            ["time of a rank, mean", `${shown(meanRankMs(scenario.rankTimes))} ms`],
            ["gradients, weights", `${scenario.payload.gradients}, ${scenario.payload.weights}`],
            ["keys of a rank", `${String(scenario.payload.keyBytesPerRank)} bytes`],
            [
              "link of a machine",
              `${shown(scenario.network.gbits)} Gbit/s each way, ${shown(scenario.network.latencyMs)} ms`,
            ],
            ["oversubscription of the switch", shown(scenario.network.oversubscription)],
            ["devices of a machine", String(scenario.devicesPerMachine)],
            [
              "stragglers",
              `${shown(100 * scenario.stragglers.share)}% take ${shown(scenario.stragglers.factor)} times as long`,
            ],
            [
              "failures, interruptions",
              `${shown(plan.failures.failuresPerDay)}, ${shown(plan.failures.interruptionsPerDay)} of a machine a day, replaced after ${shown(plan.failures.replaceSeconds)} s`,
            ],
            [
              "a sum, an update",
              `${shown(scenario.costs.sumMs)}, ${shown(scenario.costs.updateMs)} ms for a million parameters`,
            ],
            [
              "a message",
              `${shown(scenario.costs.hopMs)} ms on its way, ${shown(scenario.costs.messageMs)} ms of a thread at either end`,
            ],
            ["a process's network thread", `${shown(scenario.costs.ioGbytes)} GB/s`],
          ],
        ),
        paragraph(
          "Not simulated: the loading of samples, evaluations and checkpoints. Messages of a link follow each other; TCP would share it between them.",
        ),
      ],
    },
    { heading: "Again", content: [listing([command])] },
  ]);
}

function seriesOf(points: readonly CurvePoint[], y: (point: CurvePoint) => number): readonly Series[] {
  return [...new Set(points.map(({ arrangement }) => arrangement))].map((name) => ({
    name,
    points: points
      .filter(({ arrangement }) => arrangement === name)
      .map((point) => ({ x: point.devices, y: y(point) })),
  }));
}

export const POINT_COLUMNS = ["devices", "step", "images/s", "efficiency", "epoch", "price", "busiest"] as const;

/** A point as the table has it. */
export function cellsOf(point: CurvePoint): readonly string[] {
  const { devices, effectiveStepMs, imagesPerSecond, efficiency, epochSeconds, epochCost, busy } = point;
  const [first] = busy;
  return [
    String(devices),
    `${effectiveStepMs.toFixed(effectiveStepMs < 100 ? 1 : 0)} ms`,
    imagesPerSecond.toFixed(0),
    `${(100 * efficiency).toFixed(0)}%`,
    epochSeconds === null ? "–" : duration(1000 * epochSeconds),
    epochCost === null ? "–" : epochCost.toFixed(2),
    first === undefined ? "–" : `${first.what} ${(100 * first.share).toFixed(0)}%`,
  ];
}

function pointTable(points: readonly CurvePoint[]): Html {
  return table(
    ["aggregation", ...POINT_COLUMNS],
    points.map((point) => [`${point.arrangement} (${String(point.aggregators)})`, ...cellsOf(point)]),
  );
}
