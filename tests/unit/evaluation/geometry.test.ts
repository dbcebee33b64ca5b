/** Against PyTorch and NumPy (tests/fixtures/geometry.py made the numbers). */
import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { alignment, uniformity } from "../../../src/evaluation/geometry.js";
import { principalComponents } from "../../../src/evaluation/principal-components.js";
import { scatterPlot } from "../../../src/evaluation/scatter-plot.js";

interface Fixture {
  readonly dimension: number;
  readonly left: readonly number[];
  readonly right: readonly number[];
  readonly alignment: number;
  readonly uniformity: number;
  readonly features: readonly number[];
  readonly points: readonly number[];
  readonly shares: readonly number[];
}

const fixture = JSON.parse(readFileSync(new URL("../../fixtures/geometry.json", import.meta.url), "utf8")) as Fixture;
const { dimension } = fixture;

describe("geometry of embeddings", () => {
  it("has the paper's alignment and uniformity", () => {
    const [left, right] = [Float32Array.from(fixture.left), Float32Array.from(fixture.right)];
    expect(Math.abs(alignment(left, right, dimension) - fixture.alignment)).toBeLessThan(1e-6);
    expect(Math.abs(uniformity(left, dimension) - fixture.uniformity)).toBeLessThan(1e-5);
  });

  it("is uniform over more rows than are compared at a time: opposite halves give log of the mean of 1 and exp(−8)", () => {
    const count = 1200;
    const halves = Float32Array.from({ length: 2 * count }, (_, i) => (i % 2 === 1 ? 0 : i % 4 === 0 ? 1 : -1));
    const same = (count / 2 - 1) / (count - 1);
    expect(uniformity(halves, 2)).toBeCloseTo(Math.log(same + (1 - same) * Math.exp(-8)), 5);
    expect(() => uniformity(Float32Array.of(1, 0), 2)).toThrow(RangeError);
  });

  it("has NumPy's principal components", () => {
    const { points, shares } = principalComponents(Float32Array.from(fixture.features), dimension);
    fixture.points.forEach((value, i) => expect(Math.abs((points[i] ?? NaN) - value)).toBeLessThan(1e-4));
    fixture.shares.forEach((value, i) => expect(Math.abs((shares[i] ?? NaN) - value)).toBeLessThan(1e-8));
  });

  it("has no components where all features are alike", () => {
    const { points, shares } = principalComponents(new Float32Array(8).fill(3), 2);
    expect([...points]).toEqual([0, 0, 0, 0, 0, 0, 0, 0]);
    expect(shares).toEqual([0, 0]);
  });
});

describe("a scatter plot", () => {
  const svg = scatterPlot({
    title: "a < b",
    axes: ["x", "y"],
    points: Float64Array.of(0, 0, 1, 2, 2, 1),
    labels: Int32Array.of(0, 1, -1),
    classes: ["cats & dogs", "b"],
  });

  it("places points in the frame, up being more, and colours them by class", () => {
    const circles = [...svg.matchAll(/<circle r="3" cx="([\d.]+)" cy="([\d.]+)" fill="([^"]+)"\/>/g)];
    expect(circles.map(([, x, y, colour]) => [x, y, colour])).toEqual([
      ["64.3", "575.7", "#332288"],
      ["320.0", "64.3", "#88ccee"],
      ["575.7", "320.0", "#888"],
    ]);
  });

  it("names the classes in a legend, escaped", () => {
    expect(svg).toContain(">cats &amp; dogs</text>");
    expect(svg).toContain("<title>a &lt; b</title>");
    expect(svg).not.toMatch(/&(?!amp;|lt;)/);
  });
});
