/** TensorBoard's own loader reads what runs leave: the numbers of events.jsonl, and each step once where steps were made again. */
import { execFileSync, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { beforeAll, describe, expect, it, vi } from "vitest";
import { cacheFolder } from "../../scripts/setup/libtensorflow.mjs";
import { RunTensorBoard } from "../../src/cli/run-tensorboard.js";
import { readRunConfig } from "../../src/checkpoint/index.js";
import { eventsIn } from "../unit/telemetry/tensorboard/event-file.js";
import { kill, ownProcesses, eventsOf, SMALL_RUN, start, stepsOf, tandem, temporaryFolder } from "./tandem.js";

const LOADER = fileURLToPath(new URL("../python/tensorboard_events.py", import.meta.url));
/** The loader, and what of its requirements it imports. */
const PACKAGES = ["tensorboard==2.21.0", "numpy", "protobuf", "absl-py"];

/** Python packages of these, in the cache that set-up uses: fetched once. @returns null where they cannot be had */
function loaderPackages(): string | null {
  const target = join(cacheFolder(process.env), "tensorboard-2.21.0");
  if (existsSync(target)) return target;
  mkdirSync(dirname(target), { recursive: true });
  const temporary = mkdtempSync(`${target}.`);
  const pip = ["-m", "pip", "install", "--quiet", "--no-deps", "--only-binary=:all:", "--disable-pip-version-check"];
  const { status, stderr } = spawnSync("python3", [...pip, "--target", temporary, ...PACKAGES], { encoding: "utf8" });
  if (status === 0 && !existsSync(target)) renameSync(temporary, target);
  else rmSync(temporary, { recursive: true });
  if (existsSync(target)) return target;
  process.stderr.write(`TensorBoard's own loader is left out: pip cannot fetch it\n${stderr}\n`);
  return null;
}

const packages = loaderPackages();
const folder = temporaryFolder();

interface Loaded {
  /** `[step, value]` by tag */
  readonly scalars: Readonly<Record<string, readonly (readonly [number, number])[]>>;
  /** `[step, number of values, values of each bucket]` by tag */
  readonly histograms: Readonly<Record<string, readonly (readonly [number, number, readonly number[]])[]>>;
  /** `[step, width, height, hex]` */
  readonly images: Readonly<Record<string, readonly (readonly [number, number, number, string])[]>>;
  /** `[step, text]` */
  readonly texts: Readonly<Record<string, readonly (readonly [number, string])[]>>;
}

function load(run: string): Loaded {
  const env = { ...process.env, PYTHONPATH: packages ?? "" };
  const output = execFileSync("python3", [LOADER, join(run, "tensorboard")], {
    env,
    encoding: "utf8",
    // It warns of the steps that it forgets.
    stdio: ["ignore", "pipe", "pipe"],
    maxBuffer: 2 ** 26,
  });
  return JSON.parse(output) as Loaded;
}

/** What the events say of a number, of each step what came last, as the float32 that an event file holds. */
function told(run: string, kind: string, name: string): (readonly [number, number])[] {
  const events = eventsOf(run).filter((event) => event.kind === kind) as unknown as Record<string, number>[];
  const latest = new Map<number, number>();
  for (const event of events) latest.set(event["step"], Math.fround(event[name]));
  return [...latest];
}

function filesOf(run: string): string[] {
  const directory = join(run, "tensorboard");
  return existsSync(directory) ? readdirSync(directory).map((name) => join(directory, name)) : [];
}

/** The last step in a run's first file so far; 0: none. */
function lastWritten(run: string): number {
  const [file] = filesOf(run);
  return file === undefined ? 0 : (eventsIn(readFileSync(file)).at(-1)?.step ?? 0);
}

const TAGS = {
  "train/loss": "loss",
  "train/learning_rate": "learningRate",
  "train/positive_similarity": "positiveSimilarity",
  "train/negative_similarity": "negativeSimilarity",
  "train/contrast_accuracy": "accuracy",
  "throughput/samples_per_second": "imagesPerSecond",
  "throughput/step_ms": "stepMs",
  "throughput/workers": "workers",
} as const;

describe.runIf(packages !== null)("TensorBoard", { timeout: 120_000 }, () => {
  const run = join(folder, "run");
  const flags = [
    "--workers",
    "1",
    "--ui",
    "127.0.0.1:0",
    "--set",
    "evaluation.everyEpochs=1",
    "--set",
    "evaluation.linear=true",
  ];
  beforeAll(async () => {
    const every = ["--set", "checkpoint.everySteps=10"];
    const { code, stderr } = await tandem(["train", ...SMALL_RUN, ...flags, ...every, "--steps", "26", "--out", run]);
    expect(code, stderr).toBe(0);
  }, 90_000);

  it("has the numbers of every step and evaluation", () => {
    const { scalars } = load(run);
    for (const [tag, name] of Object.entries(TAGS)) expect([tag, scalars[tag]]).toEqual([tag, told(run, "step", name)]);
    expect(scalars["train/loss"]).toHaveLength(26);
    expect(scalars["eval/knn_top1"]).toEqual(told(run, "evaluated", "accuracy"));
    expect(scalars["eval/linear_top1"]).toEqual(told(run, "evaluated", "linear").slice(-1));
  });

  it("has histograms of each checkpoint's parameters and queue, and the config", () => {
    const { histograms, texts } = load(run);
    const steps = eventsOf(run).flatMap(({ kind, step }) => (kind === "checkpointed" ? [step] : []));
    expect(steps).toEqual([10, 20, 26]);
    for (const tag of ["parameters/conv1.weight", "parameters/layer1.0.bn1.bias", "queue/similarity"])
      expect([tag, histograms[tag]?.map(([step]) => step)]).toEqual([tag, steps]);
    for (const [, values, buckets] of Object.values(histograms).flat())
      expect(buckets.reduce((sum, count) => sum + count, 0)).toBe(values);
    expect(histograms["queue/similarity"]?.[0]?.[1]).toBe(50);
    const config = readFileSync(join(run, "config.yaml"), "utf8");
    expect(texts["config"]).toEqual([[0, `\`\`\`yaml\n${config}\`\`\``]]);
  });

  it("has the pictures that the dashboard shows", () => {
    const { images } = load(run);
    for (const kind of ["pairs", "neighbours"]) {
      const [step, width, height, hex] = images[`pictures/${kind}`]?.at(-1) ?? [];
      expect(step).toBe(26);
      const encoded = readFileSync(join(run, `pictures/${kind}.png`));
      expect(hex).toBe(encoded.toString("hex"));
      // A PNG begins with its size.
      expect([width, height]).toEqual([encoded.readUInt32BE(16), encoded.readUInt32BE(20)]);
    }
  });

  it("has each step once where the run went back", async () => {
    const out = join(folder, "back");
    const board = await boardOf(out);
    for (const step of [10, 20, 30, 40]) board.evaluated(step, { knn: 0.5, linear: null, nearest: [] });
    board.wentBack(20);
    for (const step of [30, 40]) board.evaluated(step, { knn: 0.25, linear: null, nearest: [] });
    await board.close();
    expect(load(out).scalars["eval/knn_top1"]).toEqual([[10, 0.5], [20, 0.5], [30, 0.25], [40, 0.25]]); // prettier-ignore
  });

  it("has each step once where a coordinator was killed and the steps since its checkpoint were made again", async () => {
    const out = join(folder, "killed");
    const killed = ["--workers", "1", "--ui", "off", "--max-restarts", "1", "--set", "checkpoint.everySteps=60"];
    const running = start(["train", ...SMALL_RUN, ...killed, "--steps", "300", "--out", out]);
    const options = { timeout: 60_000, interval: 10 };
    // The file may be read in the middle of a record.
    await vi.waitFor(() => expect(lastWritten(out)).toBeGreaterThan(60), options);
    kill(ownProcesses(running.process.pid, "coordinator"));
    const { code, stderr } = await running.ended;
    expect(code, stderr).toBe(0);
    expect(stepsOf(out)).toBeGreaterThan(300);
    expect(filesOf(out)).toHaveLength(2);
    const { scalars, texts } = load(out);
    expect(scalars["train/loss"]).toEqual(told(out, "step", "loss"));
    const begun = eventsOf(out).flatMap(({ kind, step }) => (kind === "run-started" ? [step] : []));
    expect(begun).toHaveLength(2);
    expect(texts["config"]?.map(([step]) => step)).toEqual(begun);
  });

  async function boardOf(out: string): Promise<RunTensorBoard> {
    const board = new RunTensorBoard(await readRunConfig(run), join(out, "tensorboard"), (message) => {
      throw new Error(message);
    });
    board.begin(0);
    return board;
  }
});

it("--no-tensorboard writes none, and stays so where the run is taken up", { timeout: 60_000 }, async () => {
  const out = join(folder, "none");
  const flags = ["--workers", "1", "--ui", "off", "--no-tensorboard", "--steps", "2"];
  const { code, stderr } = await tandem(["train", ...SMALL_RUN, ...flags, "--out", out]);
  expect(code, stderr).toBe(0);
  expect(existsSync(join(out, "tensorboard"))).toBe(false);
  expect(eventsOf(out)[0]).toMatchObject({ kind: "run-started", again: expect.stringMatching(/ --no-tensorboard$/) });
});
