/** The result as text for the terminal. */
import type { ScalingBenchmark } from "./result.js";
import {
  headingOf,
  lawNotes,
  lawTable,
  lostTable,
  peerTable,
  predictionTable,
  speedTable,
  titleOf,
  type Table,
} from "./wording.js";

export function asText(result: ScalingBenchmark): string {
  const { rounds, scaling, notes, samples } = result;
  const sections = scaling.flatMap((one) => [
    `${headingOf(one)}; medians over rounds, ${rounds} in all (lowest–highest)`,
    aligned(speedTable(one, samples)),
    ...(one.rows.length < 2
      ? []
      : [
          "Lost to one worker, ms of a step, means",
          aligned(lostTable(one)),
          "Laws of speed-up [95% interval over rounds]",
          aligned(lawTable(one.laws)),
          ...lawNotes(one),
          ...extrapolated(predictionTable(one, samples)),
        ]),
  ]);
  const peer = peerTable(result);
  const beside = peer === null ? [] : ["Beside the peer, weak scaling", aligned(peer)];
  return `${[titleOf(result), ...sections, ...beside, ...notes].join("\n\n")}\n`;
}

function extrapolated(predictions: Table | null): string[] {
  return predictions === null ? [] : ["Extrapolated, not measured", aligned(predictions)];
}

function aligned({ head, rows }: Table): string {
  const all = [head, ...rows];
  const widths = head.map((_, column) => Math.max(...all.map((row) => row[column].length)));
  return all.map((row) => row.map((cell, column) => cell.padStart(widths[column])).join("  ")).join("\n");
}
