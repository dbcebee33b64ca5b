/** One rank's numbers, as its worker reports them, and their means over the ranks of a step. Times in ms. */
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
  /** since the result before, what was not spent on loading, forward and backward: sending, receiving, waiting */
  readonly exchangeMs: number;
  /** of forward and backward, what was spent within TensorFlow's graph; 0 when running eagerly */
  readonly graphMs: number;
}
