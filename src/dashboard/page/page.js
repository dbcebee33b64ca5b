/** The page: all of the run once, then what changes, as the coordinator sends it. */
import { TimeChart } from "./charts.js";
import { showPictures } from "./pictures.js";
import { showEvents, showFigures, showStages, showWorkers } from "./tables.js";

const state = {
  history: {},
  evaluations: [],
  marks: [],
  counts: { points: 0, revision: -1, evaluations: 0, marks: 0, pictures: 0 },
};
const marks = () => state.marks;

const charts = [
  { id: "loss", title: "Loss", columns: [{ name: "loss", label: "loss", color: "--a" }], digits: 4 },
  {
    id: "similarity",
    title: "Cosine similarity of pairs",
    columns: [
      { name: "positiveSimilarity", label: "positive", color: "--a" },
      { name: "negativeSimilarity", label: "negative", color: "--b" },
    ],
  },
  { id: "rate", title: "Learning rate", columns: [{ name: "learningRate", label: "learning rate", color: "--a" }] },
  {
    id: "samples",
    title: "Samples a second",
    columns: [{ name: "imagesPerSecond", label: "samples a second", color: "--a" }],
  },
  { id: "step", title: "Step time", unit: " ms", columns: [{ name: "stepMs", label: "step time", color: "--a" }] },
].map((chart) => new TimeChart(chart, marks));
const knn = new TimeChart({ id: "knn", title: "kNN accuracy", unit: "%", columns: [{ name: "accuracy", label: "kNN", color: "--a" }] }, marks); // prettier-ignore

/** The coordinator may have been started again meanwhile: another has another history. */
async function refresh() {
  const { points, revision } = state.counts;
  const response = await fetch(`api/run?points=${points}&revision=${revision}`);
  if (!response.ok) throw new Error(await response.text());
  const run = await response.json();
  for (const [name, values] of Object.entries(run.history))
    state.history[name] = [...(state.history[name] ?? []).slice(0, run.from), ...values];
  Object.assign(state, { counts: run.counts, evaluations: run.evaluations, marks: run.marks });
  document.title = `${run.title} – Tandem`;
  document.getElementById("title").textContent = run.title;
  document.getElementById("what").textContent = `${run.method} · ${run.encoder} · Tandem ${run.now.version}`;
  for (const chart of charts)
    chart.show([state.history.time, ...chart.chart.columns.map(({ name }) => state.history[name])]);
  knn.show([state.evaluations.map(({ time }) => time), state.evaluations.map(({ accuracy }) => 100 * accuracy)]);
  showPictures(run.pictures);
  showEvents(state.marks);
  show(run.now);
}

function show(now) {
  const made = now.totalSteps === null ? 0 : now.step / now.totalSteps;
  say(now.phase === "running" || now.phase === "waiting" ? now.phase : `the run has ${now.phase}`);
  document.getElementById("progress").value = made;
  const last = (name) => state.history[name]?.at(-1) ?? null;
  showFigures(now, {
    loss: last("loss"),
    rate: last("imagesPerSecond"),
    accuracy: state.evaluations.at(-1)?.accuracy ?? null,
  });
  showWorkers(now.workers);
  showStages(now.workers);
}

/** @param {string} phase is read out where it changes */
function say(phase) {
  const place = document.getElementById("phase");
  if (place.textContent !== phase) place.textContent = phase;
}

let isRefreshing = false;
async function take({ now, counts }) {
  show(now);
  const isSame = Object.keys(counts).every((name) => counts[name] === state.counts[name]);
  if (isSame || isRefreshing) return;
  isRefreshing = true;
  try {
    await refresh();
  } finally {
    isRefreshing = false;
  }
}

const stream = new EventSource("api/stream");
stream.onmessage = ({ data }) => void take(JSON.parse(data)).catch(() => say("the coordinator does not answer"));
stream.onerror = () => say("the coordinator does not answer; looking for it");
