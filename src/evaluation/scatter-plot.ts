/** A scatter plot coloured by class, as SVG. */
import { escaped } from "./markup.js";

export interface ScatterPlot {
  readonly title: string;
  /** what the axes show */
  readonly axes: readonly [string, string];
  /** `[N, 2]` */
  readonly points: Float64Array;
  /** `[N]`; −1: no class */
  readonly labels: Int32Array;
  readonly classes: readonly string[];
}

/** Sizes in pixels. */
const SIDE = 640;
const MARGIN = 48;
const LEGEND_WIDTH = 200;
const LEGEND_LINE = 20;
/** Classes that the legend names; more would not be told apart. */
const MOST_NAMED = 28;
const GRAY = "#888";

/** Tol's "muted" scheme first, which the colour-blind tell apart; behind it hues at the golden angle. */
const MUTED = [
  "#332288",
  "#88ccee",
  "#44aa99",
  "#117733",
  "#999933",
  "#ddcc77",
  "#cc6677",
  "#882255",
  "#aa4499",
] as const;

function colourOf(label: number): string {
  if (label < 0) return GRAY;
  return label < MUTED.length ? MUTED[label] : `hsl(${((label * 137.508) % 360).toFixed(0)} 60% 45%)`;
}

export function scatterPlot({ title, axes, points, labels, classes }: ScatterPlot): string {
  const across = scale(points, 0, MARGIN, SIDE - MARGIN);
  // Upwards.
  const up = scale(points, 1, SIDE - MARGIN, MARGIN);
  const named = classes.slice(0, MOST_NAMED);
  const more = classes.length - named.length;
  const height = Math.max(SIDE, MARGIN + LEGEND_LINE * (named.length + 2));
  const circles = Array.from(labels, (label, i) => {
    return `<circle r="3" cx="${across(points[2 * i])}" cy="${up(points[2 * i + 1])}" fill="${colourOf(label)}"/>`;
  });
  const legend = named.flatMap((name, label) => {
    const y = MARGIN + LEGEND_LINE * label;
    return [
      `<circle cx="${SIDE + 8}" cy="${y}" r="5" fill="${colourOf(label)}"/>`,
      `<text x="${SIDE + 20}" y="${y + 4}">${escaped(name)}</text>`,
    ];
  });
  if (more > 0)
    legend.push(`<text x="${SIDE + 20}" y="${MARGIN + LEGEND_LINE * named.length + 4}">and ${more} more</text>`);
  const middle = SIDE / 2;
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${SIDE + LEGEND_WIDTH} ${height}" font-family="sans-serif" font-size="13">`,
    `<title>${escaped(title)}</title>`,
    `<rect width="100%" height="100%" fill="#fff"/>`,
    `<rect x="${MARGIN}" y="${MARGIN}" width="${SIDE - 2 * MARGIN}" height="${SIDE - 2 * MARGIN}" fill="none" stroke="#ccc"/>`,
    `<text x="${middle}" y="${MARGIN - 16}" text-anchor="middle" font-size="15">${escaped(title)}</text>`,
    `<text x="${middle}" y="${SIDE - MARGIN + 24}" text-anchor="middle">${escaped(axes[0])}</text>`,
    `<text transform="translate(${MARGIN - 16} ${middle}) rotate(-90)" text-anchor="middle">${escaped(axes[1])}</text>`,
    `<g fill-opacity="0.7" class="points">`,
    ...circles,
    `</g>`,
    `<g class="legend">`,
    ...legend,
    `</g>`,
    `</svg>`,
    "",
  ].join("\n");
}

/** From the coordinate's range to pixels, with a tenth of a pixel. */
function scale(points: Float64Array, axis: 0 | 1, from: number, to: number): (value: number) => string {
  let [least, most] = [Infinity, -Infinity];
  for (let i = axis; i < points.length; i += 2) {
    least = Math.min(least, points[i]);
    most = Math.max(most, points[i]);
  }
  const range = most - least || 1;
  // A little room, so that no point lies on the frame.
  const inset = 0.03 * (to - from);
  return (value) => (from + inset + ((value - least) / range) * (to - from - 2 * inset)).toFixed(1);
}
