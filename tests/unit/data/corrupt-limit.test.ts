import { describe, expect, it } from "vitest";
import { CorruptLimit } from "../../../src/data/corrupt-limit.js";

describe("the limit of corrupt samples", () => {
  it("counts each name once", () => {
    const limit = new CorruptLimit(2);
    expect([limit.count("a"), limit.count("a"), limit.count("b"), limit.count("a")]).toEqual([
      true,
      false,
      true,
      false,
    ]);
    expect(limit.size).toBe(2);
  });

  it("refuses the first name past it, and every new one after, naming the first few", () => {
    const limit = new CorruptLimit(3);
    for (const name of ["a", "b", "c"]) limit.count(name);
    const refusal = { name: "UserError", code: "DATA_TOO_MANY_CORRUPT" };
    expect(() => limit.count("d")).toThrow(expect.objectContaining(refusal));
    expect(() => limit.count("e")).toThrow(
      'more than 3 images cannot be decoded ("a", "b", "c", …): repair or remove them, or raise data.maxCorrupt',
    );
    expect(limit.size).toBe(4);
  });

  it("refuses the very first where none is allowed", () => {
    expect(() => new CorruptLimit(0).count("a.jpg")).toThrow('("a.jpg"):');
  });
});
