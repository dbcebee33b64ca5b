import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import type { View } from "../../../src/data/draws.js";
import { drawDropout, viewOf, writeRow } from "../../../src/data/text-views.js";

interface Address {
  readonly seed: number;
  readonly epoch: number;
  readonly sample: number;
  readonly view: View;
}

interface Reference {
  readonly first: number;
  readonly views: readonly (Address & {
    readonly tokenDeletion: number;
    readonly probability: number;
    readonly shares: readonly [number, number];
    /** how many */
    readonly tokens: number;
    readonly expected: readonly number[];
  })[];
  /** of 50 factors with p = 0.2 */
  readonly dropout: readonly (Address & { readonly dropped: readonly number[] })[];
}

/** Made by text_views_reference.py, beside it. */
const reference = JSON.parse(
  readFileSync(new URL("../../fixtures/text_views_reference.json", import.meta.url), "utf8"),
) as Reference;

const configOf = (tokenDeletion: number, probability: number, minShare: number, maxShare: number) => ({
  dropout: 0,
  tokenDeletion,
  spanCrop: { probability, minShare, maxShare },
});
const numbered = (count: number) => Int32Array.from({ length: count }, (_, index) => index);

describe("views of texts", () => {
  it("are those of the reference, token by token", () => {
    for (const { seed, tokens, tokenDeletion, probability, shares, expected, ...address } of reference.views) {
      const config = configOf(tokenDeletion, probability, ...shares);
      const text = numbered(tokens).map((index) => reference.first + index);
      expect([...viewOf(config, seed, address, text)]).toEqual(expected);
    }
  });

  it("without crop and deletion are the text", () => {
    const view = viewOf(configOf(0, 0, 0.5, 1), 1, { epoch: 0, sample: 0, view: 0 }, numbered(9));
    expect(view).toEqual(numbered(9));
  });

  it("crop to contiguous shares within their bounds, at every place, and leave at least a token", () => {
    const starts = new Set<number>();
    for (let sample = 0; sample < 1000; sample++) {
      const view = viewOf(configOf(0, 1, 0.3, 0.5), 5, { epoch: 0, sample, view: 1 }, numbered(20));
      expect(view.length).toBeGreaterThanOrEqual(6);
      expect(view.length).toBeLessThanOrEqual(10);
      expect([...view]).toEqual([...numbered(view.length)].map((index) => view[0] + index));
      starts.add(view[0]);
      expect(viewOf(configOf(0.9, 1, 0.01, 0.02), 5, { epoch: 0, sample, view: 1 }, numbered(20))).toHaveLength(1);
    }
    expect(starts.size).toBe(15);
  });

  it("leave out each token with its probability, in order, and never all", () => {
    let left = 0;
    for (let sample = 0; sample < 500; sample++) {
      const view = viewOf(configOf(0.25, 0, 1, 1), 5, { epoch: 2, sample, view: 0 }, numbered(40));
      expect([...view]).toEqual([...view].sort((a, b) => a - b));
      left += view.length;
      expect(viewOf(configOf(0.9, 0, 1, 1), 5, { epoch: 2, sample, view: 0 }, numbered(2)).length).toBeGreaterThan(0);
    }
    // 20,000 tokens: 0.005 is 1.6 deviations.
    expect(left / 20_000).toBeCloseTo(0.75, 2);
  });

  it("have deletions that do not depend on whether crops are on", () => {
    const address = { epoch: 1, sample: 8, view: 0 } as const;
    const deleted = viewOf(configOf(0.3, 0, 0.5, 0.5), 5, address, numbered(30));
    const both = viewOf(configOf(0.3, 1, 0.5, 0.5), 5, address, numbered(30));
    const cropped = viewOf(configOf(0, 1, 0.5, 0.5), 5, address, numbered(30));
    expect([...both]).toEqual([...cropped].filter((token) => deleted.includes(token)));
  });
});

describe("a row", () => {
  const frame = { before: [101], after: [102] };
  it("is the frame around the tokens, then padding", () => {
    const row = new Int32Array(6);
    writeRow(row, frame, Int32Array.of(7, 8));
    expect([...row]).toEqual([101, 7, 8, 102, -1, -1]);
  });

  it("holds the first tokens of a longer text, and the whole frame", () => {
    const row = new Int32Array(4);
    writeRow(row, frame, Int32Array.of(7, 8, 9));
    expect([...row]).toEqual([101, 7, 8, 102]);
  });
});

describe("factors of dropout", () => {
  it("are 0 where the reference drops, and 1/(1 − p) elsewhere", () => {
    for (const { seed, dropped, ...address } of reference.dropout) {
      const factors = new Float32Array(50);
      drawDropout(0.2, seed, address, factors);
      expect([...factors].flatMap((factor, index) => (factor === 0 ? [index] : []))).toEqual(dropped);
      expect(new Set(factors)).toEqual(new Set([0, Math.fround(1.25)]));
    }
  });
});
