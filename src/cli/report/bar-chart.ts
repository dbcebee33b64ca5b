/** Stacked bars, as SVG for a report: what adds up goes up from 0, what takes away goes down. */
import { roundTicks } from "./axis.js";
import { COLOURS, shown } from "./line-chart.js";
import { text, type Html } from "./html.js";

export interface Bar {
  readonly label: string;
  /** one of each part */
  readonly values: readonly number[];
}

export interface BarChart {
  readonly title: string;
  readonly xLabel: string;
  readonly yLabel: string;
  readonly parts: readonly string[];
  readonly bars: readonly Bar[];
}

/** In pixels. */
const [WIDTH, HEIGHT] = [760, 360];
const [LEFT, RIGHT, TOP, BOTTOM] = [64, 190, 16, 52];
/** Of the room of a bar. */
const BAR_SHARE = 0.6;
const WIDEST = 90;

export function barChart({ title, xLabel, yLabel, parts, bars }: BarChart): Html {
  const sum = (values: readonly number[]) => values.reduce((total, value) => total + value, 0);
  const top = Math.max(...bars.map(({ values }) => sum(values.filter((value) => value > 0))), 0);
  const bottom = Math.min(...bars.map(({ values }) => sum(values.filter((value) => value < 0))), 0);
  const right = WIDTH - RIGHT;
  const range = top - bottom || 1;
  const up = (value: number) => Number((TOP + ((top - value) / range) * (HEIGHT - BOTTOM - TOP)).toFixed(1));
  const room = (right - LEFT) / Math.max(1, bars.length);
  const width = Math.min(WIDEST, room * BAR_SHARE);
  const grid = roundTicks(bottom, bottom + range).flatMap((value) => [
    `<line x1="${LEFT}" x2="${right}" y1="${up(value)}" y2="${up(value)}" stroke="currentColor" opacity="${value === 0 ? 0.6 : 0.15}"/>`,
    `<text x="${LEFT - 8}" y="${up(value) + 4}" text-anchor="end">${shown(value)}</text>`,
  ]);
  const drawn = bars.flatMap(({ label, values }, index) => {
    const middle = LEFT + room * (index + 0.5);
    let [above, below] = [0, 0];
    const pieces = values.map((value, part) => {
      const from = value > 0 ? above : below;
      if (value > 0) above += value;
      else below += value;
      const [high, low] = [Math.max(from, from + value), Math.min(from, from + value)];
      const name = text(`${label}, ${parts[part]}: ${shown(value)}`);
      return `<rect x="${(middle - width / 2).toFixed(1)}" width="${width.toFixed(1)}" y="${up(high)}" height="${(up(low) - up(high)).toFixed(1)}" fill="${colour(part)}"><title>${name}</title></rect>`;
    });
    return [...pieces, `<text x="${middle}" y="${HEIGHT - BOTTOM + 20}" text-anchor="middle">${text(label)}</text>`];
  });
  const legend = parts.flatMap((name, index) => {
    const y = TOP + 20 * index;
    return [
      `<rect x="${right + 14}" width="14" y="${y}" height="14" fill="${colour(index)}"/>`,
      `<text x="${right + 36}" y="${y + 12}">${text(name)}</text>`,
    ];
  });
  const centre = (TOP + HEIGHT - BOTTOM) / 2;
  return [
    `<figure><svg role="img" aria-label="${text(title)}" viewBox="0 0 ${WIDTH} ${HEIGHT}" font-family="system-ui, sans-serif" font-size="13" fill="currentColor">`,
    `<title>${text(title)}</title>`,
    ...drawn,
    ...grid,
    `<text x="${(LEFT + right) / 2}" y="${HEIGHT - 10}" text-anchor="middle">${text(xLabel)}</text>`,
    `<text transform="translate(14 ${centre}) rotate(-90)" text-anchor="middle">${text(yLabel)}</text>`,
    ...legend,
    "</svg></figure>",
  ].join("\n") as Html;
}

const colour = (index: number) => COLOURS[index % COLOURS.length];
