/** What a worker has been given to do in the present step or evaluation, and what its engine is at. Nothing outside is touched. */
import type { FeatureRequest } from "../src/protocol/wire.js";
import { WireError } from "../src/protocol/wire-error.js";

/** Feature requests that may wait; a coordinator gives one at a time. */
const MOST_REQUESTS = 8;

/** What the engine is at, for a link that may be over by now. */
interface Busy {
  readonly link: number;
  readonly unit: { readonly kind: "rank" | "embeddings" | "chunk"; readonly number: number };
}

export type Piece =
  | { readonly kind: "features"; readonly request: FeatureRequest }
  | { readonly kind: "embeddings"; readonly rank: number; readonly round: number }
  /** `isLast`: nothing else of the step is known to come, so the sums are handed out with it */
  | { readonly kind: "rank"; readonly rank: number; readonly isLast: boolean };

export class WorkInHand {
  /** of the ranks below; −1: none was assigned */
  step = -1;
  /** of what is shown */
  private round = 0;
  /** ranks that are still to show something in that round, and those of them begun or done */
  private toShow: number[] = [];
  private shown: number[] = [];
  /** ranks still to execute */
  private ranks: number[] = [];
  /** ranks begun or executed, and those of them whose gradients have not been handed out */
  private begun: number[] = [];
  private unflushed: number[] = [];
  private requests: FeatureRequest[] = [];
  private busy: Busy | null = null;

  get due(): readonly number[] {
    return this.ranks;
  }

  get embeddingsDue(): readonly number[] {
    return this.toShow;
  }

  get executed(): readonly number[] {
    return this.begun;
  }

  /** A rank that it has already had changes nothing. */
  assign(step: number, ranks: readonly number[]): void {
    if (step !== this.step) this.open(step);
    addNew(this.ranks, ranks, this.begun);
  }

  /** Ranks of which is wanted what they show in a round; one that it has already had changes nothing. */
  assignEmbeddings(step: number, round: number, ranks: readonly number[]): void {
    if (step !== this.step) this.open(step);
    if (round !== this.round) {
      this.round = round;
      this.toShow = [];
      this.shown = [];
    }
    addNew(this.toShow, ranks, this.shown);
  }

  /** Everything of a round is there: whatever of it has not begun here, others have shown. */
  roundOver(step: number, round: number): void {
    if (step === this.step && round === this.round) this.toShow = [];
  }

  /** @throws WireError where too many wait */
  request(request: FeatureRequest): void {
    if (this.requests.length >= MOST_REQUESTS) throw new WireError("more feature requests than one worker gets");
    this.requests.push(request);
  }

  /** The link is over: nothing that it has brought counts any more. The engine ends what it is at. */
  clear(): void {
    this.open(-1);
    this.requests = [];
  }

  /**
   * What can begin, if anything, which then has.
   * @param weights version of the weights here @param queue version of the queue here
   */
  begin(link: number, weights: number, queue: number): Piece | null {
    if (this.busy !== null) return null;
    // A chunk of an evaluation that is over was somebody else's too.
    this.requests = this.requests.filter(({ step }) => (step ?? 0) >= weights);
    const [request] = this.requests;
    if (request !== undefined && weights === (request.step ?? 0)) {
      this.requests.shift();
      this.busy = { link, unit: { kind: "chunk", number: request.chunk ?? 0 } };
      return { kind: "features", request };
    }
    if (weights !== this.step || queue !== this.step) return null;
    const toShow = this.toShow.shift();
    if (toShow !== undefined) {
      this.busy = { link, unit: { kind: "embeddings", number: toShow } };
      this.shown.push(toShow);
      return { kind: "embeddings", rank: toShow, round: this.round };
    }
    const rank = this.ranks.shift();
    if (rank === undefined) return null;
    this.busy = { link, unit: { kind: "rank", number: rank } };
    this.begun.push(rank);
    return { kind: "rank", rank, isLast: this.ranks.length === 0 };
  }

  /** The engine hands out the sums so far, and is busy with that. */
  beginFlush(link: number, rank: number): void {
    this.busy = { link, unit: { kind: "rank", number: rank } };
  }

  /** The engine is free again. */
  ended(): void {
    this.busy = null;
  }

  /** @param flushed whether its gradients, and those before it, were handed out */
  executedRank(rank: number, flushed: boolean): void {
    this.unflushed = flushed ? [] : [...this.unflushed, rank];
  }

  flushed(): void {
    this.unflushed = [];
  }

  /** Gives up what has not begun. @returns what is still to come: the unit in hand, and ranks whose gradients are still here */
  handBack(link: number): Readonly<Record<"ranks" | "embeddings" | "chunks", number[]>> {
    this.ranks = [];
    this.toShow = [];
    this.requests = [];
    const unit = this.busy?.link === link ? this.busy.unit : null;
    const inHand = (kind: NonNullable<typeof unit>["kind"]) => (unit?.kind === kind ? [unit.number] : []);
    return {
      ranks: [...this.unflushed, ...inHand("rank")],
      embeddings: inHand("embeddings"),
      chunks: inHand("chunk"),
    };
  }

  private open(step: number): void {
    this.step = step;
    this.round = 0;
    this.toShow = [];
    this.shown = [];
    this.ranks = [];
    this.begun = [];
    this.unflushed = [];
  }
}

function addNew(list: number[], more: readonly number[], had: readonly number[]): void {
  const known = new Set([...had, ...list]);
  for (const item of more) {
    if (!known.has(item)) list.push(item);
    known.add(item);
  }
}
