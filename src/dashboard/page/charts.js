/** Charts over time, with the run's events on their time axis. */

/** @typedef {{ time: number, kind: string, text: string }} Mark */
/** @typedef {{ id: string, title: string, unit?: string, columns: readonly { name: string, label: string, color: string }[], digits?: number, range?: readonly [number, number] }} Chart */

/** Events that explain a kink, and how they are drawn. */
const DRAWN = {
  joined: "--good",
  left: "--bad",
  straggler: "--warn",
  checkpoint: "--line",
  started: "--a",
  skipped: "--warn",
};

/** A line of few points is easily none. */
const POINTS = { show: (plot) => plot.data[0].length < 40 };

/** Values beside an axis, with as many digits as tell them apart. @param {number} increment from one to the next */
function tickLabels(_plot, splits, _axis, _space, increment) {
  const maximumFractionDigits = Math.min(12, Math.max(0, 1 - Math.floor(Math.log10(increment))));
  return splits.map((value) => value.toLocaleString("en", { maximumFractionDigits }));
}

/** A line that changes by less than this share of itself is drawn flat. */
const LEAST_SPAN = 0.02;

/** What a chart without limits of its own shows of its values. @param {number | null} min of them @param {number | null} max */
function spanOf(_plot, min, max) {
  if (min === null || max === null) return [null, null];
  const missing = Math.max(0, LEAST_SPAN * Math.max(Math.abs(min), Math.abs(max)) - (max - min));
  return uPlot.rangeNum(min - missing / 2, max + missing / 2, 0.1, true);
}

/** @param {string} name of a custom property @returns its colour as it is now, in light or dark */
function colour(name) {
  const probe = document.createElement("i");
  probe.style.color = `var(${name})`;
  document.body.append(probe);
  const { color } = getComputedStyle(probe);
  probe.remove();
  return color;
}

/** A chart in a figure, with its last value in words, which those hear who see no chart. */
export class TimeChart {
  /** @param {Chart} chart @param {() => readonly Mark[]} marks */
  constructor(chart, marks) {
    this.chart = chart;
    this.marks = marks;
    const figure = /** @type {HTMLElement} */ (document.getElementById(chart.id));
    const caption = document.createElement("figcaption");
    caption.textContent = chart.title;
    this.said = document.createElement("p");
    this.place = document.createElement("div");
    this.place.setAttribute("role", "img");
    figure.replaceChildren(caption, this.said, this.place);
    this.data = [[], ...chart.columns.map(() => [])];
    this.draw();
    new ResizeObserver(() => this.plot.setSize(this.size())).observe(this.place);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
  }

  size() {
    return { width: Math.max(200, this.place.clientWidth), height: 180 };
  }

  draw() {
    this.plot?.destroy();
    const faint = colour("--faint");
    const axis = { stroke: faint, grid: { stroke: colour("--line"), width: 1 }, ticks: { stroke: colour("--line") } };
    const { columns, range } = this.chart;
    const hooks = { draw: [(plot) => this.drawMarks(plot)] };
    this.plot = new uPlot(
      {
        ...this.size(),
        scales: { y: { range: range === undefined ? spanOf : [...range] } },
        axes: [axis, { ...axis, size: 56, values: tickLabels }],
        legend: { show: false },
        cursor: { y: false },
        series: [
          {},
          ...columns.map(({ label, color }) => ({ label, stroke: colour(color), width: 1.5, points: POINTS })),
        ],
        hooks,
      },
      this.data,
      this.place,
    );
  }

  /** @param {readonly (readonly number[])[]} data times, then each column's values */
  show(data) {
    this.data = data;
    this.plot.setData(data);
    const last = this.chart.columns.map(({ label }, index) => {
      const value = data[index + 1].at(-1);
      const number = value === undefined || value === null ? "–" : this.format(value);
      return this.chart.columns.length === 1 ? number : `${label} ${number}`;
    });
    this.said.textContent = last.join(" · ");
    this.place.setAttribute("aria-label", `${this.chart.title} over time; last: ${last.join(", ")}`);
  }

  format(value) {
    const { digits = 3, unit = "" } = this.chart;
    return `${Number(value.toPrecision(digits)).toLocaleString("en", { maximumSignificantDigits: digits })}${unit}`;
  }

  drawMarks(plot) {
    const { ctx } = plot;
    const { left, top, width, height } = plot.bbox;
    ctx.save();
    ctx.setLineDash([4, 4]);
    for (const { time, kind } of this.marks()) {
      if (DRAWN[kind] === undefined) continue;
      const x = plot.valToPos(time, "x", true);
      if (x < left || x > left + width) continue;
      ctx.strokeStyle = colour(DRAWN[kind]);
      ctx.beginPath();
      ctx.moveTo(x, top);
      ctx.lineTo(x, top + height);
      ctx.stroke();
    }
    ctx.restore();
  }
}
