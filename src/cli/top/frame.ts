/** One picture of a run as lines of text, for a terminal of any size. Pure. */
import type { WorkerView } from "../../dashboard/index.js";
import { duration, STAGES, type Shares, type Stage } from "../../telemetry/index.js";
import { percent } from "../run-display.js";
import type { TopReport } from "./report.js";

export interface Size {
  readonly columns: number;
  /** Infinity: as many as there are */
  readonly rows: number;
}

/** ECMA-48 SGR. */
const STYLES = { plain: 0, bold: 1, dim: 2, red: 31, green: 32, yellow: 33, blue: 34, magenta: 35, cyan: 36 } as const;
type Style = keyof typeof STYLES;
/** A piece of a line in one style. */
type Span = readonly [style: Style, text: string];
type Line = readonly Span[];

/** Computing in capitals. */
const LETTERS: Readonly<Record<Stage, readonly [letter: string, style: Style]>> = {
  load: ["L", "yellow"],
  forward: ["F", "green"],
  backward: ["B", "blue"],
  wait: ["w", "red"],
  send: ["s", "magenta"],
  aggregate: ["a", "cyan"],
  broadcast: ["b", "magenta"],
};
const STATES: Readonly<Record<WorkerView["state"], Style>> = { "at work": "green", slow: "yellow", gone: "red" };
const BARS = "▁▂▃▄▅▆▇█";
/** Lines of events that are there however many workers there are. */
const LEAST_EVENTS = 3;
/** Fewer leave no room for what changes least. */
const FEW_ROWS = 16;
/** Less is no bar. */
const LEAST_BAR = 16;

/** @param note what is to be said beside; null: nothing @returns lines that fit, without line breaks */
export function frame(report: TopReport, { columns, rows }: Size, note: string | null, isColoured: boolean): string[] {
  const figures = figuresOf(report, columns);
  const head = [...headOf(report, columns), ...(rows < FEW_ROWS ? figures.slice(0, -1) : figures)];
  const notes = [report.lacks, note].flatMap((text): Line[] => (text === null ? [] : [[["yellow", text]]]));
  // Two headings with a blank line before each, and the letters' meaning.
  const room = rows - head.length - notes.length - 5;
  const table = workersOf(report, columns, Math.max(1, room - Math.min(LEAST_EVENTS, report.marks.length)));
  const events = eventsOf(report, Math.max(0, room - table.length + 1));
  const lines = [...head, ...notes, [], ...table, LEGEND, [], ...events];
  return lines.slice(0, rows).map((line) => drawn(line, columns, isColoured));
}

function headOf({ title, method, encoder, now, etaMs }: TopReport, columns: number): Line[] {
  const { phase, step, totalSteps, epoch } = now;
  const share = totalSteps === null ? 0 : step / totalSteps;
  const width = Math.min(columns - 2, 78);
  const full = Math.round(share * width);
  return [
    [["bold", title], ["plain", `  ${method} · ${encoder} · Tandem ${now.version}  `], [phase === "running" ? "green" : "yellow", phase]], // prettier-ignore
    [
      ["green", "━".repeat(Math.max(0, full))],
      ["dim", "─".repeat(Math.max(0, width - full))],
    ],
    row("step", [
      totalSteps === null ? String(step) : `${String(step)} of ${String(totalSteps)} (${percent(share)})`,
      ...(epoch === null ? [] : [`epoch ${String(epoch + 1)}`]),
      `ETA ${etaMs === null ? "?" : duration(etaMs)}`,
    ]),
  ];
}

function figuresOf({ now, last, recent, evaluations }: TopReport, columns: number): Line[] {
  const { efficiency, queue, checkpoint, time } = now;
  const width = Math.min(40, columns - 50);
  const known = evaluations.at(-1);
  const curve = (values: readonly number[]) => sparkline(values, width);
  return [
    ...(last === null
      ? []
      : [
          row("loss", [last.loss.toFixed(4), `lr ${last.learningRate.toPrecision(3)}`], curve(recent.loss)),
          row("similarity", [`positive ${last.positiveSimilarity.toFixed(3)}`, `negative ${last.negativeSimilarity.toFixed(3)}`]), // prettier-ignore
        ]),
    known === undefined
      ? row("kNN", ["not measured"])
      : row("kNN", [percent(known.accuracy), `at step ${String(known.step)}`], curve(evaluations.map(({ accuracy }) => accuracy))), // prettier-ignore
    ...(last === null
      ? []
      : [
          row("samples/s", [last.imagesPerSecond.toFixed(1)], curve(recent.imagesPerSecond)),
          row("step time", [`${last.stepMs.toFixed(1)} ms`, ...(efficiency === null ? [] : [`devices compute ${percent(efficiency)}`])], curve(recent.stepMs)), // prettier-ignore
        ]),
    row("state", [
      ...(queue === null ? [] : [`queue ${String(queue.filled)} of ${String(queue.size)} keys, the oldest of ${String(queue.oldestSteps)} steps ago`]), // prettier-ignore
      checkpoint === null ? "no checkpoint yet" : `checkpoint of step ${String(checkpoint.step)}, ${duration(1000 * (time - checkpoint.time))} ago`, // prettier-ignore
    ]),
  ];
}

function row(name: string, parts: readonly string[], curve = ""): Line {
  const text = parts.join(", ");
  return [
    ["dim", name.padEnd(11)],
    ["plain", curve === "" ? text : text.padEnd(32)],
    ["cyan", curve],
  ];
}

/** @param width columns; the last so many values, the lowest as the lowest bar */
export function sparkline(values: readonly number[], width: number): string {
  const shown = values.slice(-Math.max(0, width)).filter(Number.isFinite);
  if (width <= 0 || shown.length < 2) return "";
  const [least, most] = [Math.min(...shown), Math.max(...shown)];
  const level = (value: number) => (most === least ? 0 : Math.round(((value - least) / (most - least)) * (BARS.length - 1))); // prettier-ignore
  return shown.map((value) => BARS[level(value)]).join("");
}

interface Column {
  readonly name: string;
  readonly of: (worker: WorkerView) => string;
  /** narrower terminals go without */
  readonly from: number;
}

const COLUMNS: readonly Column[] = [
  { name: "WORKER", of: ({ worker }) => worker, from: 0 },
  { name: "STATE", of: ({ state }) => state, from: 0 },
  { name: "HOST", of: ({ host, pid }) => `${host}:${String(pid)}`, from: 140 },
  { name: "DEVICE", of: ({ device, devices }) => (devices === 1 ? device : `${device} ×${String(devices)}`), from: 70 },
  { name: "RANKS", of: ({ ranks }) => String(ranks), from: 60 },
  { name: "MS/RANK", of: ({ rankMs }) => rankMs?.toFixed(1) ?? "-", from: 0 },
  { name: "HEARD", of: ({ silentS }) => (silentS === null ? "-" : `${silentS.toFixed(1)} s`), from: 50 },
  { name: "OUT/S", of: ({ sentPerS }) => bytes(sentPerS), from: 110 },
  { name: "IN/S", of: ({ receivedPerS }) => bytes(receivedPerS), from: 110 },
  { name: "CAME BACK", of: ({ rejoined }) => (rejoined === 0 ? "-" : String(rejoined)), from: 140 },
];

/** Those that are here before those that are gone; a bar of where each one's time goes takes the rest of the line. */
function workersOf({ now: { workers } }: TopReport, columns: number, room: number): Line[] {
  if (workers.length === 0) return [[["dim", "no worker is here"]]];
  const order = workers.toSorted(
    (one, other) =>
      Number(one.state === "gone") - Number(other.state === "gone") ||
      one.worker.localeCompare(other.worker, undefined, { numeric: true }),
  );
  const shown = order.slice(0, workers.length > room ? room - 1 : room);
  const chosen = COLUMNS.filter(({ from }) => columns >= from);
  const cells = chosen.map(({ name, of }) => [name, ...shown.map((worker) => printable(of(worker)))]);
  const widths = cells.map((texts) => Math.max(...texts.map(({ length }) => length)) + 2);
  const bar = columns - widths.reduce((sum, width) => sum + width, 0);
  const line = (index: number, style: (name: string) => Style): Span[] =>
    chosen.map(({ name }, column) => [style(name), (cells[column]?.[index] ?? "").padEnd(widths[column] ?? 0)]);
  const hidden = order.length - shown.length;
  return [
    [...line(0, () => "dim"), ["dim", bar < LEAST_BAR ? "" : "WHERE ITS TIME GOES"]],
    ...shown.map((worker, index): Line => [
      ...line(index + 1, (name) => (name === "STATE" ? STATES[worker.state] : "plain")),
      ...(worker.state === "gone" ? [["dim", worker.reason ?? ""] as const] : barOf(worker.shares, bar < LEAST_BAR ? 0 : bar)), // prettier-ignore
    ]),
    ...(hidden === 0 ? [] : [[["dim", `and ${String(hidden)} more`]] as const]),
  ];
}

const LEGEND: Line = STAGES.flatMap((stage): Span[] => {
  const [letter, style] = LETTERS[stage];
  return [[style, letter], ["dim", ` ${stage}  `]]; // prettier-ignore
});

function barOf(shares: Shares | null, width: number): Span[] {
  if (shares === null) return [["dim", "not known yet"]];
  let from = 0;
  let sum = 0;
  return STAGES.map((stage): Span => {
    const [letter, style] = LETTERS[stage];
    sum += shares[stage];
    const to = Math.round(sum * width);
    const span: Span = [style, letter.repeat(Math.max(0, to - from))];
    from = to;
    return span;
  });
}

function eventsOf({ marks }: TopReport, room: number): Line[] {
  return marks.slice(marks.length - Math.min(room, marks.length)).map(({ time, kind, text }): Line => {
    const style = kind === "left" || kind === "refused" || kind === "skipped" ? "red" : kind === "straggler" ? "yellow" : "plain"; // prettier-ignore
    return [
      ["dim", `${new Date(1000 * time).toTimeString().slice(0, 8)}  `],
      [style, text],
    ];
  });
}

function bytes(value: number | null): string {
  if (value === null) return "-";
  const power = Math.min(3, Math.max(0, Math.floor(Math.log10(Math.max(1, value)) / 3)));
  return `${(value / 1000 ** power).toFixed(power === 0 ? 0 : 1)} ${["B", "kB", "MB", "GB"][power] ?? ""}`;
}

/** What comes from elsewhere may not steer the terminal. */
function printable(text: string): string {
  return text.replace(/[\p{Cc}\p{Cf}]/gu, "?");
}

const CHARACTERS = new Intl.Segmenter();

/** Cut where the line ends. */
function drawn(line: Line, columns: number, isColoured: boolean): string {
  let left = columns;
  let text = "";
  for (const [style, part] of line) {
    const shown = Array.from(CHARACTERS.segment(printable(part)), ({ segment }) => segment).slice(0, left);
    const cut = shown.join("");
    left -= shown.length;
    text += isColoured && style !== "plain" && cut !== "" ? `\u001b[${String(STYLES[style])}m${cut}\u001b[0m` : cut;
  }
  return isColoured ? text : text.trimEnd();
}
