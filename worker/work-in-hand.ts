/** What a worker has been given to do in the present step or evaluation, and what its devices are at. Nothing outside is touched. */
import { MOST_DEVICES, type FeatureRequest } from "../src/protocol/wire.js";
import { WireError } from "../src/protocol/wire-error.js";

/** Feature requests that may wait; a coordinator gives one to each device at a time. */
const MOST_REQUESTS = MOST_DEVICES;

/** A unit of work, for a link that may be over by now. */
export interface Unit {
  readonly link: number;
  readonly kind: "rank" | "embeddings" | "chunk";
  readonly number: number;
}

/** One of the worker's devices. */
interface Device {
  /** ranks that are still to show something in the present round */
  toShow: number[];
  /** ranks still to execute */
  ranks: number[];
  /** what it is at */
  unit: Unit | null;
}

type Queue = "toShow" | "ranks";

export type Piece = (
  | { readonly kind: "features"; readonly request: FeatureRequest }
  | { readonly kind: "embeddings"; readonly rank: number; readonly round: number }
  /** `isLast`: nothing else of the step is known to come to the device, so its sums are handed out with it */
  | { readonly kind: "rank"; readonly rank: number; readonly isLast: boolean }
) & { readonly device: number };

export class WorkInHand {
  /** of the ranks below; −1: none was assigned */
  step = -1;
  /** of what is shown */
  private round = 0;
  private devices: readonly Device[] = [idleDevice()];
  /** which device has begun or done a rank of the step: it goes on with what it has */
  private readonly homes = new Map<number, number>();
  /** ranks that have begun to show something in the round, and to be executed */
  private shown: number[] = [];
  private begun: number[] = [];
  /** ranks executed whose gradients have not left the worker */
  private unflushed: number[] = [];
  private isFlushing = false;
  private requests: FeatureRequest[] = [];

  /** So many compute at once. Before anything is assigned. */
  setDevices(count: number): void {
    this.devices = Array.from({ length: count }, idleDevice);
  }

  /** Ranks of each device that are still to execute. */
  get due(): readonly (readonly number[])[] {
    return this.devices.map(({ ranks }) => ranks);
  }

  get embeddingsDue(): readonly (readonly number[])[] {
    return this.devices.map(({ toShow }) => toShow);
  }

  /** Ranks that a device has begun or executed. */
  executedBy(device: number): readonly number[] {
    return this.begun.filter((rank) => this.homes.get(rank) === device);
  }

  get isIdle(): boolean {
    return !this.isFlushing && this.devices.every(({ unit }) => unit === null);
  }

  /** A rank that it has already had changes nothing. */
  assign(step: number, ranks: readonly number[]): void {
    if (step !== this.step) this.open(step);
    this.deal("ranks", ranks, this.begun);
  }

  /** Ranks of which is wanted what they show in a round; one that it has already had changes nothing. */
  assignEmbeddings(step: number, round: number, ranks: readonly number[]): void {
    if (step !== this.step) this.open(step);
    if (round !== this.round) {
      this.round = round;
      this.clearQueues("toShow");
      this.shown = [];
    }
    this.deal("toShow", ranks, this.shown);
  }

  /** Neighbours share subtrees of the sum, so each device gets a run of them; one that stands still on a device goes on there. */
  private deal(queue: Queue, ranks: readonly number[], had: readonly number[]): void {
    const known = new Set([...had, ...this.devices.flatMap((device) => device[queue])]);
    const fresh = [...new Set(ranks)].filter((rank) => !known.has(rank));
    const homeless = fresh.filter((rank) => !this.homes.has(rank));
    for (const [index, rank] of homeless.entries())
      this.homes.set(rank, Math.floor((index * this.devices.length) / homeless.length));
    for (const rank of fresh) this.devices[this.homes.get(rank) ?? 0][queue].push(rank);
  }

  /** Everything of a round is there: whatever of it has not begun here, others have shown. */
  roundOver(step: number, round: number): void {
    if (step === this.step && round === this.round) this.clearQueues("toShow");
  }

  /** @throws WireError where too many wait */
  request(request: FeatureRequest): void {
    if (this.requests.length >= MOST_REQUESTS) throw new WireError("more feature requests than one worker gets");
    this.requests.push(request);
  }

  /** The link is over: nothing that it has brought counts any more. The devices end what they are at. */
  clear(): void {
    this.open(-1);
    this.requests = [];
  }

  /**
   * What can begin, if anything, which then has.
   * @param weights version of the weights here @param queue version of the queue here
   */
  begin(link: number, weights: number, queue: number): Piece | null {
    // A chunk of an evaluation that is over was somebody else's too.
    this.requests = this.requests.filter(({ step }) => (step ?? 0) >= weights);
    const free = [...this.devices.keys()].filter((index) => this.devices[index].unit === null);
    if (this.isFlushing || free.length === 0) return null;
    const [request] = this.requests;
    if (request !== undefined && weights === (request.step ?? 0)) {
      this.requests.shift();
      const [device] = free;
      this.devices[device].unit = { link, kind: "chunk", number: request.chunk ?? 0 };
      return { kind: "features", request, device };
    }
    if (weights !== this.step || queue !== this.step) return null;
    const toShow = this.next("toShow", free);
    if (toShow !== null) {
      const { rank, device } = toShow;
      this.devices[device].unit = { link, kind: "embeddings", number: rank };
      this.shown.push(rank);
      return { kind: "embeddings", rank, round: this.round, device };
    }
    const toExecute = this.next("ranks", free);
    if (toExecute === null) return null;
    const { rank, device } = toExecute;
    this.devices[device].unit = { link, kind: "rank", number: rank };
    this.begun.push(rank);
    return { kind: "rank", rank, isLast: this.devices[device].ranks.length === 0, device };
  }

  /** A free device begins with its own first, and one that has nothing takes the last of whoever has most. */
  private next(queue: Queue, free: readonly number[]): { readonly rank: number; readonly device: number } | null {
    const own = free.find((index) => this.devices[index][queue].length > 0);
    if (own !== undefined) return { rank: this.devices[own][queue].shift() ?? 0, device: own };
    const most = this.devices.reduce((one, other) => (other[queue].length > one[queue].length ? other : one));
    const rank = most[queue].pop();
    if (rank === undefined) return null;
    const [device] = free;
    this.homes.set(rank, device);
    return { rank, device };
  }

  /** The device that was at it is free again. */
  ended({ link, kind, number }: Unit): void {
    for (const device of this.devices) {
      const { unit } = device;
      if (unit?.link === link && unit.kind === kind && unit.number === number) device.unit = null;
    }
  }

  /** @param flushed whether its gradients, and those before it, have left the worker: several devices' are summed first */
  executedRank(rank: number, flushed: boolean): void {
    this.unflushed = flushed && this.devices.length === 1 ? [] : [...this.unflushed, rank];
  }

  /** Whether sums are here that nothing known to come will be added to. */
  get mustFlush(): boolean {
    const isQuiet = this.devices.every(({ ranks, unit }) => ranks.length === 0 && unit?.kind !== "rank");
    return this.unflushed.length > 0 && !this.isFlushing && isQuiet;
  }

  /** The sums so far are being handed out: nothing begins meanwhile. */
  beginFlush(): void {
    this.isFlushing = true;
  }

  /** @param counts whether it was of the present step */
  flushEnded(counts: boolean): void {
    this.isFlushing = false;
    if (counts) this.unflushed = [];
  }

  /** Gives up what has not begun. @returns what is still to come: the units in hand, and ranks whose gradients are still here */
  handBack(link: number): Readonly<Record<"ranks" | "embeddings" | "chunks", number[]>> {
    this.clearQueues("ranks");
    this.clearQueues("toShow");
    this.requests = [];
    const units = this.devices.flatMap(({ unit }) => (unit?.link === link ? [unit] : []));
    const inHand = (kind: Unit["kind"]) => units.filter((unit) => unit.kind === kind).map(({ number }) => number);
    return {
      ranks: [...this.unflushed, ...inHand("rank")],
      embeddings: inHand("embeddings"),
      chunks: inHand("chunk"),
    };
  }

  private open(step: number): void {
    this.step = step;
    this.round = 0;
    this.clearQueues("ranks");
    this.clearQueues("toShow");
    this.homes.clear();
    this.shown = [];
    this.begun = [];
    this.unflushed = [];
  }

  private clearQueues(queue: Queue): void {
    for (const device of this.devices) device[queue] = [];
  }
}

function idleDevice(): Device {
  return { toShow: [], ranks: [], unit: null };
}
