import { expect, it } from "vitest";
import { ordered, shapeName, shapesOf } from "../../../src/cli/scaling-bench/plan.js";

it("measures what is of both kinds of scaling once", () => {
  expect(shapesOf(["weak", "strong"], [1, 2, 4], 4).map(shapeName)).toEqual([
    ...["W=1 N=1", "W=2 N=2", "W=4 N=4"],
    ...["W=4 N=1", "W=4 N=2"],
  ]);
  expect(shapesOf(["strong"], [1, 2], 6).map(shapeName)).toEqual(["W=6 N=1", "W=6 N=2"]);
});

it("goes through them backwards in every other round", () => {
  expect([0, 1, 2].map((round) => ordered("abc".split(""), round).join(""))).toEqual(["abc", "cba", "abc"]);
});
