/** The result as one HTML file: plots, tables, the machine, and what repeats it. */
import { writeFile } from "node:fs/promises";
import { printConfig, type RunConfig } from "../../config/index.js";
import { barChart } from "../report/bar-chart.js";
import { listing, page, paragraph, table, type Html, type Section } from "../report/html.js";
import { lineChart, type Series } from "../report/line-chart.js";
import type { LawFit, Row } from "./curve.js";
import { speedUpBy } from "./laws.js";
import type { Machine } from "./machine.js";
import type { Scaling, ScalingBenchmark } from "./result.js";
import { PARTS } from "./step-account.js";
import {
  headingOf,
  lawNotes,
  lawTable,
  lostTable,
  others,
  peerTable,
  predictionTable,
  speedTable,
  titleOf,
  type Table,
} from "./wording.js";

export async function reportOf(result: ScalingBenchmark, config: RunConfig, path: string): Promise<void> {
  const { scaling, notes, rounds, steps, warmup, command } = result;
  const method =
    `Rounds of runs (${rounds}), all in turn and every other round backwards; of each run ${steps} steps count, after ${warmup} to warm up. ` +
    "A run's step is the mean of the middle half of its steps. Figures are medians over the rounds, with the lowest and the highest.";
  const sections: Section[] = [
    {
      heading: "What was measured",
      content: [paragraph(method), ...notes.map(paragraph), machineTable(result.machine)],
    },
    ...besidePeer(result),
    ...scaling.map((one) => sectionOf(one, result.samples)),
    {
      heading: "To repeat it",
      content: [listing([command]), paragraph("The config that the flags resolve to:"), listing([printConfig(config)])],
    },
  ];
  await writeFile(path, page(titleOf(result), sections));
}

function sectionOf(scaling: Scaling, samples: string): Section {
  const { kind, rows, laws } = scaling;
  const content = [shownTable(speedTable(scaling, samples)), speedUpChart(kind, [["measured", rows, laws]])];
  if (rows.length > 1) {
    const predictions = predictionTable(scaling, samples);
    content.push(
      efficiencyChart(kind, [["measured", rows]]),
      paragraph(
        "Where the time goes that a step takes longer than one worker's (in strong scaling: than its N-th part), in ms, means over workers and rounds; the parts add up.",
      ),
      shownTable(lostTable(scaling)),
      barChart({
        title: `Lost time, ${kind} scaling`,
        ...{ xLabel: "workers", yLabel: "ms of a step", parts: PARTS },
        bars: others(rows).map(({ workers, lost }) => ({
          label: String(workers),
          values: PARTS.map((part) => lost[part]),
        })),
      }),
      paragraph("Laws of speed-up, fitted to the medians, with 95% intervals of a bootstrap over rounds:"),
      shownTable(lawTable(laws)),
      ...lawNotes(scaling).map(paragraph),
      ...(predictions === null
        ? []
        : [
            paragraph(
              "Extrapolation: what the laws foretell beyond what was measured, on cores and memory that nobody has tried.",
            ),
            shownTable(predictions),
          ]),
    );
  }
  return { heading: headingOf(scaling), content };
}

function besidePeer(result: ScalingBenchmark): Section[] {
  const both = peerTable(result);
  const weak = result.scaling.find(({ kind }) => kind === "weak");
  const { peer } = result;
  if (both === null || peer === null || weak === undefined) return [];
  const named: [string, readonly Row[]][] = [
    ["Tandem", weak.rows],
    ["peer", peer.rows],
  ];
  const content = [shownTable(both), efficiencyChart("weak", named), paragraph("The peer:"), listing([peer.command])];
  return [{ heading: "Beside the peer: weak scaling", content }];
}

function speedUpChart(kind: string, sides: readonly (readonly [string, readonly Row[], readonly LawFit[]])[]): Html {
  const [, rows, laws] = sides[0];
  const measured = sides.map(([name, own]): Series => ({
    name,
    points: own.map(({ workers, speedUp: { median: y, lowest, highest } }) => ({
      ...{ x: workers, y, low: lowest, high: highest },
    })),
  }));
  const counts = [...rows, ...(laws[0]?.predictions.slice(0, 1) ?? [])].map(({ workers }) => workers);
  const model = (name: string, of: (workers: number) => number): Series => ({
    ...{ name, isModel: true },
    points: counts.map((x) => ({ x, y: of(x) })),
  });
  const fits = laws.map(({ law, serial, crosstalk }) =>
    model(law, (workers) => speedUpBy({ serial: serial.value, crosstalk: crosstalk?.value ?? 0 }, workers)),
  );
  return lineChart({
    title: `Speed-up, ${kind} scaling`,
    ...{ xLabel: "workers", yLabel: "speed-up over one worker" },
    series: [...measured, ...fits, model("ideal", (workers) => workers)],
  });
}

function efficiencyChart(kind: string, sides: readonly (readonly [string, readonly Row[]])[]): Html {
  const series = sides.map(([name, rows]): Series => ({
    name,
    points: rows.map(({ workers: x, efficiency: { median, lowest, highest } }) => ({
      ...{ x, y: 100 * median, low: 100 * lowest, high: 100 * highest },
    })),
  }));
  return lineChart({
    title: `Efficiency, ${kind} scaling`,
    ...{ xLabel: "workers", yLabel: "efficiency, %", series },
  });
}

function shownTable({ head, rows }: Table): Html {
  return table(head, rows);
}

function machineTable({ processor, cores, memoryBytes, system, node, tandem, load }: Machine): Html {
  return table(
    ["machine", ""],
    [
      ["processor", processor],
      ["cores", String(cores)],
      ["memory", `${(memoryBytes / 2 ** 30).toFixed(1)} GiB`],
      ["system", system],
      ["Node.js", node],
      ["Tandem", tandem],
      ["load in the minute before", load.toFixed(2)],
    ],
  );
}
