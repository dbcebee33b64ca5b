import { describe, expect, it } from "vitest";
import { resnetArchitecture } from "../../../src/models/resnet-architecture.js";
import { layerSlices, type Treatment } from "../../../src/models/treatment.js";

const { layout } = resnetArchitecture({ encoder: "resnet-tiny", stem: "3x3", head: "mlp", embeddingDim: 16 });

function namesOf(treatment: Partial<Treatment>, what: "decay" | "adapt"): string[] {
  const slices = layerSlices(layout, { decayNormAndBias: false, exclude: [], ...treatment });
  return layout.parameters.filter((_, index) => slices[index][what]).map(({ name }) => name);
}

const all = layout.parameters.map(({ name }) => name);
const isMatrix = (name: string) => /conv\d\.weight$|downsample\.0\.weight$|^fc\.\d\.weight$/.test(name);

describe("weight decay and layer-wise rates", () => {
  it("act on filters and matrices, and decay on the rest where it is asked for", () => {
    expect(namesOf({}, "decay")).toEqual(all.filter(isMatrix));
    expect(namesOf({}, "adapt")).toEqual(all.filter(isMatrix));
    expect(namesOf({ decayNormAndBias: true }, "decay")).toEqual(all);
    expect(namesOf({ decayNormAndBias: true }, "adapt")).toEqual(all.filter(isMatrix));
  });

  it("leave out what a pattern matches from end to end", () => {
    const without = (...exclude: string[]) => namesOf({ decayNormAndBias: true, exclude }, "decay");
    expect(without("*.bias")).toEqual(all.filter((name) => !name.endsWith(".bias")));
    expect(without("bn*", "*.bn*")).toEqual(all.filter((name) => !/(^|\.)bn/.test(name)));
    expect(without("fc.0.weight")).toEqual(all.filter((name) => name !== "fc.0.weight"));
    expect(without("layer1.*conv*")).toEqual(all.filter((name) => !/^layer1\..*conv/.test(name)));
    expect(namesOf({ exclude: ["fc*"] }, "adapt")).toEqual(all.filter((name) => isMatrix(name) && !/^fc/.test(name)));
  });

  it.each(["head.*", "conv", "bn1weight", "fc.0.weigh[t]", "layer(1|2)*"])(
    "refuse the pattern %s, which matches nothing",
    (pattern) => {
      expect(() => namesOf({ exclude: ["*.bias", pattern] }, "decay")).toThrow(
        `optimizer.exclude: no parameter's name is like ${pattern} from end to end`,
      );
    },
  );
});
