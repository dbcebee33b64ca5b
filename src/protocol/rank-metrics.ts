/** One rank's numbers, as its worker reports them, and their means over the ranks of a step. Times in ms, sizes in bytes. */
export interface RankMetrics {
  readonly loss: number;
  /** top-1 within the loss, in [0, 1] */
  readonly accuracy: number;
  /** mean cosine similarity of positive and of negative pairs, in [-1, 1] */
  readonly positiveSimilarity: number;
  readonly negativeSimilarity: number;
  readonly loadMs: number;
  readonly forwardMs: number;
  readonly backwardMs: number;
  /** how long the engine has had nothing to do since the result before: keys, gradients and weights are on their way */
  readonly exchangeMs: number;
  /** of forward and backward, what was spent within TensorFlow's graph; 0 when running eagerly */
  readonly graphMs: number;
  /** payload since the result before; what lies in shared memory is neither sent nor received */
  readonly sentBytes: number;
  readonly receivedBytes: number;
}

export const NO_METRICS: RankMetrics = {
  ...{ loss: 0, accuracy: 0, positiveSimilarity: 0, negativeSimilarity: 0 },
  ...{ loadMs: 0, forwardMs: 0, backwardMs: 0, exchangeMs: 0, graphMs: 0 },
  ...{ sentBytes: 0, receivedBytes: 0 },
};
export const METRICS = Object.keys(NO_METRICS) as readonly (keyof RankMetrics)[];

/** What a worker's time goes into. */
export const RANK_STAGES = ["load", "forward", "backward", "wait"] as const;
export type RankStage = (typeof RANK_STAGES)[number];

/** As a result carries them, in ms; what is not there is 0. */
type RankTimes = { readonly [Name in "loadMs" | "forwardMs" | "backwardMs" | "exchangeMs"]?: number | null };

/** @returns in ms */
export function stagesOf({ loadMs, forwardMs, backwardMs, exchangeMs }: RankTimes): Record<RankStage, number> {
  return { load: loadMs ?? 0, forward: forwardMs ?? 0, backward: backwardMs ?? 0, wait: exchangeMs ?? 0 };
}

/** What is not finite in a rank, where it is neither the loss nor a parameter's gradient. */
export const STATISTIC = "a batch-norm statistic";
