/** What a worker of several devices begins where, and when its sums leave it; what comes of it in bad weather is simulated. */
import { describe, expect, it } from "vitest";
import { WorkInHand, type Piece } from "../../../worker/work-in-hand.js";

const LINK = 1;

function team(devices: number, step = 3): { work: WorkInHand; begun: () => Piece[] } {
  const work = new WorkInHand();
  work.setDevices(devices);
  const begun = () => {
    const pieces: Piece[] = [];
    for (let piece = work.begin(LINK, step, step); piece !== null; piece = work.begin(LINK, step, step))
      pieces.push(piece);
    return pieces;
  };
  return { work, begun };
}

const places = (pieces: readonly Piece[]) =>
  pieces.map((piece) => (piece.kind === "features" ? [] : [piece.device, piece.rank]));
const done = (work: WorkInHand, rank: number, flushed = false) => {
  work.ended({ link: LINK, kind: "rank", number: rank });
  work.executedRank(rank, flushed);
};

describe("several devices", () => {
  it("get runs of neighbours, one rank at a time each", () => {
    const { work, begun } = team(2);
    work.assign(3, [4, 5, 6, 7, 8]);
    expect(work.due).toEqual([
      [4, 5, 6],
      [7, 8],
    ]);
    expect(places(begun())).toEqual([
      [0, 4],
      [1, 7],
    ]);
    done(work, 7);
    expect(begun()).toEqual([{ kind: "rank", rank: 8, device: 1, isLast: true }]);
    expect(work.executedBy(1)).toEqual([7, 8]);
  });

  it("take over from each other what has not begun", () => {
    const { work, begun } = team(2);
    work.assign(3, [0, 1, 2, 3]);
    begun();
    done(work, 2);
    begun();
    done(work, 3, true);
    expect(begun()).toEqual([{ kind: "rank", rank: 1, device: 1, isLast: true }]);
    expect(work.due).toEqual([[], []]);
  });

  it("give their sums once none of them is at a rank, and begin nothing meanwhile", () => {
    const { work, begun } = team(2);
    work.assign(3, [0, 1]);
    begun();
    done(work, 1, true);
    expect(work.mustFlush).toBe(false);
    done(work, 0, true);
    expect(work.mustFlush).toBe(true);
    work.beginFlush();
    expect(work.mustFlush).toBe(false);
    work.assign(3, [2]);
    expect(begun()).toEqual([]);
    // What is still to come, were the worker asked to leave now.
    expect(work.handBack(LINK).ranks).toEqual([1, 0]);
    work.flushEnded(true);
    expect(work.handBack(LINK).ranks).toEqual([]);
  });

  it("go on with a rank where it stands", () => {
    const { work, begun } = team(2);
    work.assignEmbeddings(3, 0, [0, 1]);
    expect(places(begun())).toEqual([
      [0, 0],
      [1, 1],
    ]);
    work.ended({ link: LINK, kind: "embeddings", number: 0 });
    work.ended({ link: LINK, kind: "embeddings", number: 1 });
    work.assign(3, [1]);
    expect(places(begun())).toEqual([[1, 1]]);
  });

  it("compute as many chunks of an evaluation at once", () => {
    const { work, begun } = team(2);
    for (const chunk of [0, 1, 2]) work.request({ step: 3, chunk });
    expect(begun().map(({ device }) => device)).toEqual([0, 1]);
    work.ended({ link: LINK, kind: "chunk", number: 0 });
    expect(begun().map(({ device }) => device)).toEqual([0]);
  });

  it("hear of no unit of an earlier link", () => {
    const { work, begun } = team(1);
    work.assign(3, [0]);
    begun();
    work.clear();
    work.assign(3, [0]);
    work.ended({ link: LINK + 1, kind: "rank", number: 0 });
    expect(begun()).toEqual([]);
    work.ended({ link: LINK, kind: "rank", number: 0 });
    expect(places(begun())).toEqual([[0, 0]]);
  });
});
