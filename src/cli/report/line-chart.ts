/** Lines over numbers of workers, as SVG for a report. */
import { roundTicks } from "./axis.js";
import { text, type Html } from "./html.js";

export interface Point {
  readonly x: number;
  readonly y: number;
  /** spread, where there is one */
  readonly low?: number;
  readonly high?: number;
}

export interface Series {
  readonly name: string;
  readonly points: readonly Point[];
  /** drawn dashed and without marks: what a model says, not what was measured */
  readonly isModel?: boolean;
}

export interface LineChart {
  readonly title: string;
  readonly xLabel: string;
  readonly yLabel: string;
  readonly series: readonly Series[];
  /** of the vertical axis, which begins at 0; undefined: the largest value */
  readonly most?: number;
}

/** In pixels. */
const [WIDTH, HEIGHT] = [760, 360];
const [LEFT, RIGHT, TOP, BOTTOM] = [64, 190, 16, 52];
/** Okabe and Ito 2008, which the colour-blind tell apart; those that show on light and on dark. */
export const COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8a8f98"];
/** Powers of two stand as far apart as they are doubled. */
const doublings = (x: number) => Math.log2(x);

/** @param chart with at least one point; x is positive, on a logarithmic axis */
export function lineChart({ title, xLabel, yLabel, series, most }: LineChart): Html {
  const points = series.flatMap((own) => own.points);
  const xs = [...new Set(points.map(({ x }) => x))].sort((a, b) => a - b);
  const [first, last] = [doublings(xs[0] ?? 1), doublings(xs.at(-1) ?? 1)];
  const top = most ?? Math.max(...points.map(({ y, high }) => high ?? y));
  const right = WIDTH - RIGHT;
  const across = (x: number) =>
    Number(
      (last === first ? (LEFT + right) / 2 : LEFT + ((doublings(x) - first) / (last - first)) * (right - LEFT)).toFixed(
        1,
      ),
    );
  const up = (y: number) => Number((HEIGHT - BOTTOM - (y / (top || 1)) * (HEIGHT - BOTTOM - TOP)).toFixed(1));
  const grid = roundTicks(0, top || 1).flatMap((value) => [
    `<line x1="${LEFT}" x2="${right}" y1="${up(value)}" y2="${up(value)}" stroke="currentColor" opacity="0.15"/>`,
    `<text x="${LEFT - 8}" y="${up(value) + 4}" text-anchor="end">${text(shown(value))}</text>`,
  ]);
  const labels = xs.map(
    (x) => `<text x="${across(x)}" y="${HEIGHT - BOTTOM + 20}" text-anchor="middle">${shown(x)}</text>`,
  );
  const lines = series.flatMap(({ points: own, isModel = false, name }, index) => {
    const colour = COLOURS[index % COLOURS.length];
    const path = own.map(({ x, y }) => `${across(x)},${up(y)}`).join(" ");
    const y = TOP + 20 * index;
    const spread = own.flatMap(({ x, low, high }) =>
      low === undefined || high === undefined
        ? []
        : [
            `<line x1="${across(x)}" x2="${across(x)}" y1="${up(low)}" y2="${up(high)}" stroke="${colour}" stroke-width="1.5"/>`,
          ],
    );
    const marks = own.map(
      ({ x, y: value }) =>
        `<circle cx="${across(x)}" cy="${up(value)}" r="3.5" fill="${colour}"><title>${text(`${name}, ${shown(x)}: ${shown(value)}`)}</title></circle>`,
    );
    const dash = isModel ? ' stroke-dasharray="6 4"' : "";
    return [
      `<polyline points="${path}" fill="none" stroke="${colour}" stroke-width="2"${dash}/>`,
      ...(isModel ? [] : [...spread, ...marks]),
      `<line x1="${right + 14}" x2="${right + 38}" y1="${y + 6}" y2="${y + 6}" stroke="${colour}" stroke-width="2"${dash}/>`,
      `<text x="${right + 44}" y="${y + 10}">${text(name)}</text>`,
    ];
  });
  const middle = (TOP + HEIGHT - BOTTOM) / 2;
  return [
    `<figure><svg role="img" aria-label="${text(title)}" viewBox="0 0 ${WIDTH} ${HEIGHT}" font-family="system-ui, sans-serif" font-size="13" fill="currentColor">`,
    `<title>${text(title)}</title>`,
    ...grid,
    ...labels,
    `<text x="${(LEFT + right) / 2}" y="${HEIGHT - 10}" text-anchor="middle">${text(xLabel)}</text>`,
    `<text transform="translate(14 ${middle}) rotate(-90)" text-anchor="middle">${text(yLabel)}</text>`,
    ...lines,
    "</svg></figure>",
  ].join("\n") as Html;
}

/** Three digits that count. */
export function shown(value: number): string {
  if (Number.isInteger(value)) return String(value);
  return value.toFixed(Math.max(0, 2 - Math.floor(Math.log10(Math.abs(value) || 1))));
}
