/** Does the run learn? Its loss beside that of guessing, kNN accuracy, similarities, and the learning rate. */
import { optimizerDefaults, type RunConfig } from "../config/index.js";
import { shellWord } from "../config/shell-word.js";
import { key, percent, type Finding } from "./finding.js";
import { mean, type RunSummary } from "./summary.js";

/** Fewer steps, once the queue holds real keys, say nothing. */
const LEAST_STEPS = 100;
/** First and last share of the steps that are compared. */
const ENDS = 0.2;
/** A loss that has fallen by less than this share of the chance level has not fallen. */
const FALLEN = 0.02;
/** All embeddings are alike: negatives are as near as positives, and both are at one point. */
const ALIKE = { negative: 0.9, apart: 0.05 };
/** Two shares that differ by less than so many standard deviations do so by chance, and by less than this they hardly differ. */
const DEVIATIONS = 3;
const LEAST_CHANGE = 0.01;
/** A learning rate that differs from its rule's by this factor is worth a word, where learning is in trouble or not. */
const OFF = { inTrouble: 2, always: 8 };

/** What guessing among the candidates gives. */
export interface Chance {
  readonly loss: number;
  /** share of queries whose positive would be the most similar */
  readonly accuracy: number;
  /** how it is made, for people */
  readonly formula: string;
}

/** @returns null where it depends on labels, or on a file of the user's own */
export function chanceOf({ method, moco, parallel }: RunConfig): Chance | null {
  const { queueSize, temperature } = moco;
  const batch = parallel.worldSize * parallel.batchSize;
  switch (method) {
    case "moco-v1":
    case "moco-v2":
      return { loss: Math.log(queueSize + 1), accuracy: 1 / (queueSize + 1), formula: `ln(K + 1), K = ${String(queueSize)}` }; // prettier-ignore
    case "moco-v3":
      // Two halves, each 2τ · InfoNCE over the keys of the global batch.
      return { loss: 4 * temperature * Math.log(batch), accuracy: 1 / batch, formula: `4τ·ln(W·B), W·B = ${String(batch)}` }; // prettier-ignore
    case "simclr":
      return { loss: Math.log(2 * batch - 1), accuracy: 1 / (2 * batch - 1), formula: `ln(2·W·B − 1), W·B = ${String(batch)}` }; // prettier-ignore
    case "supcon":
    case "supcon-queue":
    case "own":
      return null;
  }
}

type Verdict = "learns" | "collapsed" | "stands still" | "falls back" | "too early to say";

export function learning(summary: RunSummary, config: RunConfig): Finding {
  const chance = chanceOf(config);
  const { steps, evaluations } = summary;
  const { queueSize } = config.moco;
  const batch = config.parallel.worldSize * config.parallel.batchSize;
  // Before that the queue holds drawn keys, which no query is near to: the loss begins too low.
  const filled = config.method.startsWith("moco-v3") || config.method === "simclr" ? 0 : Math.ceil(queueSize / batch);
  const begin = steps.step.findIndex((step) => step > filled);
  const made = begin === -1 ? 0 : steps.step.length - begin;
  const width = Math.max(1, Math.floor(ENDS * made));
  const first = (name: "loss" | "accuracy") => mean(steps[name].slice(begin, begin + width));
  const last = (name: "loss" | "accuracy" | "positiveSimilarity" | "negativeSimilarity") => mean(steps[name].slice(-width)); // prettier-ignore
  const [positive, negative] = [last("positiveSimilarity"), last("negativeSimilarity")];
  const knn = evaluations.map(({ accuracy }) => accuracy);
  const best = Math.max(...knn);
  const { maxTest } = config.evaluation;
  const fallen = FALLEN * (chance?.loss ?? first("loss"));
  const changes: readonly Change[] = [
    {
      what: "the loss",
      isBetter: first("loss") - last("loss") > fallen,
      isWorse: last("loss") - first("loss") > fallen,
    },
    { what: "contrast accuracy", ...changeOf(first("accuracy"), last("accuracy"), width * batch) },
    ...(knn.length > 1 ? [{ what: KNN, ...changeOf(knn.at(0) ?? 0, knn.at(-1) ?? 0, maxTest) }] : []),
  ];
  const verdict: Verdict =
    made < LEAST_STEPS
      ? "too early to say"
      : negative > ALIKE.negative && positive - negative < ALIKE.apart
        ? "collapsed"
        : knn.length > 1 && isMore(0.95 * best, knn.at(-1) ?? 0, maxTest)
          ? "falls back"
          : changes.some(({ isBetter }) => isBetter)
            ? "learns"
            : "stands still";
  const ofLoss =
    made === 0
      ? `no step yet with a queue of real keys (from step ${String(filled + 1)} on)`
      : `loss ${first("loss").toFixed(3)} at first${filled === 0 ? "" : ` (from step ${String(filled + 1)} on, when the queue is of real keys)`}, ${last("loss").toFixed(3)} at last` +
        (chance === null ? "" : `; guessing gives ${chance.loss.toFixed(3)} (${chance.formula})`) +
        `; cosine similarity ${positive.toFixed(3)} of positive pairs, ${negative.toFixed(3)} of negative ones; the positive is the most similar for ${percent(last("accuracy"))} of the queries`;
  const ofKnn =
    knn.length === 0
      ? "kNN accuracy is not measured"
      : `kNN accuracy ${percent(knn.at(0) ?? 0)} at step ${String(evaluations.at(0)?.step)}` +
        (knn.length === 1 ? "" : `, ${percent(knn.at(-1) ?? 0)} at step ${String(evaluations.at(-1)?.step)}, best ${percent(best)}`); // prettier-ignore
  return {
    kind: "learning",
    title: TITLES[verdict],
    seen: `${ofLoss}; ${ofKnn}`,
    why: verdict === "learns" ? changed(changes) : WHY[verdict],
    tries: [...remedies(verdict, config), ...(knn.length < 2 && config.evaluation.everyEpochs === 0 ? [`1 for ${key(config, "evaluation.everyEpochs")}: kNN accuracy says more than the loss`] : [])], // prettier-ignore
    gain: null,
  };
}

const KNN = "kNN accuracy";

/** What has changed by more than noise. */
interface Change {
  readonly what: string;
  readonly isBetter: boolean;
  readonly isWorse: boolean;
}

/** Of a share. @param of how many each is */
function changeOf(before: number, after: number, of: number): Pick<Change, "isBetter" | "isWorse"> {
  return { isBetter: isMore(after, before, of), isWorse: isMore(before, after, of) };
}

function changed(changes: readonly Change[]): string {
  const named = (those: readonly Change[]) => those.map(({ what }) => what).join(" and ");
  const better = changes.filter(({ isBetter }) => isBetter);
  const worse = changes.filter(({ isWorse }) => isWorse);
  const has = (those: readonly Change[]) => (those.length === 1 ? "has" : "have");
  const good = `${named(better)} ${has(better)} become better by more than noise`;
  if (worse.length === 0) return good;
  const hint = better.some(({ what }) => what === KNN) ? ", in a comparison with negatives that change too" : "";
  return `${good}; ${named(worse)} ${has(worse)} become worse${hint}`;
}

/** @param of how many each share is */
function isMore(share: number, before: number, of: number): boolean {
  const deviation = Math.sqrt((share * (1 - share) + before * (1 - before)) / of);
  return share - before > Math.max(LEAST_CHANGE, DEVIATIONS * deviation);
}

const TITLES: Readonly<Record<Verdict, string>> = {
  learns: "the run learns",
  collapsed: "the embeddings have collapsed",
  "stands still": "no sign that the run learns",
  "falls back": "kNN accuracy falls again",
  "too early to say": "too early to say whether it learns",
};

const WHY: Readonly<Record<Exclude<Verdict, "learns">, string>> = {
  collapsed: "negative pairs are as similar as positive ones: all samples are put at about one point",
  "stands still": "neither loss, nor contrast accuracy, nor kNN accuracy have become better by more than noise",
  "falls back":
    "it was better by more than noise: the views teach by now what tells the classes apart no better, or the rate is too high",
  "too early to say": `fewer than ${String(LEAST_STEPS)} steps with negatives that are of real samples`,
};

function remedies(verdict: Verdict, config: RunConfig): string[] {
  const [rate, temperature] = [key(config, "optimizer.learningRate"), key(config, "moco.temperature")];
  const sheet = `npx tandem data inspect ${shellWord(config.data.spec)} --sheet views.png: are the two views of a sample recognisably of one?`;
  switch (verdict) {
    case "learns":
    case "too early to say":
      return [];
    case "collapsed":
      return [
        `a lower ${rate}, a longer ${key(config, "optimizer.warmupEpochs")}`,
        `a ${key(config, "moco.keyMomentum")} nearer to 1, another ${temperature}`,
        sheet,
      ];
    case "stands still":
      return [sheet, `another ${rate}, or ${temperature}`]; // prettier-ignore
    case "falls back":
      return ["the checkpoint of the best evaluation, if it is kept (checkpoint.keep)", `a lower ${rate}, or fewer ${key(config, "schedule.epochs")}`]; // prettier-ignore
  }
}

/** @param isInTrouble whether the run does not learn as it should */
export function learningRate(config: RunConfig, isInTrouble: boolean): Finding | null {
  const { kind, learningRate: rate } = config.optimizer;
  const globalBatch = config.parallel.worldSize * config.parallel.batchSize;
  const rule = Number(optimizerDefaults(kind, { globalBatch, epochs: config.schedule.epochs })["optimizer.learningRate"]); // prettier-ignore
  const factor = rate / rule;
  const off = isInTrouble ? OFF.inTrouble : OFF.always;
  if (factor < off && factor > 1 / off) return null;
  return {
    kind: "learning-rate",
    title: `the learning rate is ${factor > 1 ? "high" : "low"} for the batch`,
    seen: `optimizer.learningRate is ${String(rate)} at a global batch of ${String(globalBatch)}; the linear rule gives ${String(rule)} for ${kind}`,
    why: "rates are published for a batch of 256, and grow with the batch (docs/optimizers.md); it is a rule, not a law",
    tries: [`${String(rule)} for ${key(config, "optimizer.learningRate")}`],
    gain: null,
  };
}
