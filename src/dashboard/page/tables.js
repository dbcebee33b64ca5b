/** The tables of workers, the list of events, and the figures of the moment. */

export const STAGES = ["load", "forward", "backward", "wait", "send", "aggregate", "broadcast"];

/** @param {string} tag @param {Record<string, string>} properties @param {...(Node | string)} children */
function element(tag, properties, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

const percent = (share) => `${(100 * share).toFixed(share > 0.995 || share === 0 ? 0 : 1)}%`;
const bytes = (value) => {
  if (value === null) return "–";
  const power = value < 1 ? 0 : Math.min(4, Math.floor(Math.log10(value) / 3));
  return `${(value / 1000 ** power).toPrecision(3)} ${["B", "kB", "MB", "GB", "TB"][power]}/s`;
};
const orDash = (value, text) => (value === null ? "–" : text(value));

const WORKER_COLUMNS = [
  ["Worker", ({ worker }) => worker],
  ["State", ({ state, reason }) => (reason === null ? state : `${state}: ${reason}`), "state"],
  ["Machine", ({ host, pid }) => `${host} / ${pid}`],
  ["Device", ({ device, devices }) => (devices > 1 ? `${devices} × ${device}` : device)],
  ["Ranks", ({ ranks }) => ranks.toLocaleString("en"), "number"],
  ["A rank", ({ rankMs }) => orDash(rankMs, (ms) => `${ms.toPrecision(3)} ms`), "number"],
  ["Heard", ({ silentS }) => orDash(silentS, (s) => `${s.toFixed(1)} s ago`), "number"],
  ["Out", ({ sentPerS }) => bytes(sentPerS), "number"],
  ["In", ({ receivedPerS }) => bytes(receivedPerS), "number"],
  ["Rejoined", ({ rejoined }) => String(rejoined), "number"],
];

function head(table, names) {
  const row = element(
    "tr",
    {},
    ...names.map(([name, , kind = ""]) => element("th", { scope: "col", class: kind }, name)),
  );
  table.querySelector("thead").replaceChildren(row);
}

export function showWorkers(workers) {
  const table = document.getElementById("table");
  head(table, WORKER_COLUMNS);
  const rows = workers.map((worker) =>
    element(
      "tr",
      { class: worker.state.replace(" ", "-"), "data-worker": worker.worker },
      ...WORKER_COLUMNS.map(([, text, kind = ""], index) =>
        element(index === 0 ? "th" : "td", index === 0 ? { scope: "row" } : { class: kind }, text(worker)),
      ),
    ),
  );
  const nobody = element("tr", {}, element("td", { colspan: String(WORKER_COLUMNS.length) }, "Nobody is here."));
  table.querySelector("tbody").replaceChildren(...(rows.length > 0 ? rows : [nobody]));
}

export function showStages(workers) {
  const table = document.getElementById("stages");
  const known = workers.filter(({ shares }) => shares !== null);
  const heads = STAGES.map((stage) => {
    const name = element("th", { scope: "col", class: "number" }, element("span", { class: `key ${stage}` }), stage);
    return name;
  });
  const first = [
    element("th", { scope: "col" }, "Worker"),
    element("th", { scope: "col" }, element("span", { class: "hidden" }, "Bar")),
  ];
  table.querySelector("thead").replaceChildren(element("tr", {}, ...first, ...heads));
  const rows = known.map(({ worker, shares }) => {
    const parts = STAGES.map((stage) => {
      const part = element("span", { class: stage, title: `${stage} ${percent(shares[stage])}` });
      part.style.width = `${100 * shares[stage]}%`;
      return part;
    });
    const bar = element("td", { "aria-hidden": "true" }, element("div", { class: "bar" }, ...parts));
    const cells = STAGES.map((stage) => element("td", { class: "number" }, percent(shares[stage])));
    return element("tr", {}, element("th", { scope: "row" }, worker), bar, ...cells);
  });
  table.querySelector("tbody").replaceChildren(...rows);
}

/** @param {readonly { time: number, kind: string, text: string }[]} marks the oldest first */
export function showEvents(marks) {
  const items = marks
    .slice(-200)
    .reverse()
    .map(({ time, kind, text }) => {
      const at = new Date(1000 * time);
      const clock = element("time", { datetime: at.toISOString() }, at.toLocaleTimeString());
      return element("li", { class: kind }, clock, text);
    });
  document.getElementById("events").replaceChildren(...items);
}

export function showFigures(now, last) {
  const { queue, efficiency, workers, checkpoint, time } = now;
  const here = workers.filter(({ state }) => state !== "gone");
  const figures = [
    [
      "Step",
      now.totalSteps === null
        ? String(now.step)
        : `${now.step.toLocaleString("en")} of ${now.totalSteps.toLocaleString("en")}`,
    ],
    ["Epoch", orDash(now.epoch, String)],
    ["Loss", orDash(last.loss, (loss) => loss.toFixed(3))],
    ["kNN accuracy", orDash(last.accuracy, percent)],
    ["Samples a second", orDash(last.rate, (rate) => Math.round(rate).toLocaleString("en"))],
    ["Workers", String(here.length)],
    [
      "Efficiency",
      orDash(efficiency, percent),
      "Share of devices' time in which they compute: this moment's rate to that of as many workers, each by itself",
    ],
    ["Queue", queue === null ? "none" : `${percent(queue.filled / queue.size)} of ${queue.size.toLocaleString("en")}`],
    ["Oldest key", queue === null ? "–" : `${queue.oldestSteps} steps`],
    ["Checkpoint", orDash(checkpoint, ({ step, time: at }) => `step ${step}, ${ago(time - at)}`)],
  ];
  const list = document.getElementById("figures");
  list.replaceChildren(
    ...figures.map(([name, value, title]) => {
      return element("div", title === undefined ? {} : { title }, element("dt", {}, name), element("dd", {}, value));
    }),
  );
}

function ago(seconds) {
  if (seconds < 90) return `${Math.max(0, Math.round(seconds))} s ago`;
  return seconds < 5400 ? `${Math.round(seconds / 60)} min ago` : `${(seconds / 3600).toFixed(1)} h ago`;
}
