import { describe, expect, it } from "vitest";
import type { NamedTensor } from "../../../src/checkpoint/index.js";
import { resnetArchitecture } from "../../../src/models/resnet-architecture.js";
import { importWeights } from "../../../src/models/import-weights.js";
import { initialBuffers, initialParameters } from "../../../src/models/parameters.js";
import { isHead, pytorchState, type EncoderState } from "../../../src/models/pytorch-layout.js";

const { layout } = resnetArchitecture({ encoder: "resnet-tiny", stem: "3x3", head: "mlp", embeddingDim: 8 });

function stateOf(seed: number) {
  const buffers = initialBuffers(layout).map((value, index) => value + (seed * index) / 1000);
  return { parameters: initialParameters(layout, seed), buffers };
}

const given = stateOf(1);
const start = stateOf(2);
const exported = (withHead = false) => pytorchState(layout, given, { withHead, step: 3 });
const renamed = (tensors: readonly NamedTensor[], prefix: string): NamedTensor[] =>
  tensors.map((tensor) => ({ ...tensor, name: prefix + tensor.name }));

/** The backbone of `given` and the head of `start`. */
const expected = (() => {
  const parameters = given.parameters.slice();
  for (const { name, offset, size } of layout.parameters) {
    if (isHead(name)) parameters.set(start.parameters.subarray(offset, offset + size), offset);
  }
  return { parameters, buffers: given.buffers };
})();

/** `toEqual` takes seconds for so many numbers. */
function expectSame(left: EncoderState, right: EncoderState): void {
  for (const group of ["parameters", "buffers"] as const) {
    expect(left[group]).toHaveLength(right[group].length);
    expect(Buffer.from(left[group].buffer).equals(Buffer.from(right[group].buffer)), group).toBe(true);
  }
}

const floats = (name: string, shape: readonly number[]): NamedTensor => ({
  name,
  dtype: "F32",
  shape,
  data: new Float32Array(shape.reduce((product, side) => product * side, 1)),
});

describe("weights from elsewhere", () => {
  it("are an export's, bit for bit, and the head is drawn", () => {
    const { state, report } = importWeights(layout, start, exported(true));
    expectSame(state, expected);
    expect(report).toMatchObject({ prefix: "", missing: [], mismatched: [], elsewhere: 0 });
    expect(report.matched).toHaveLength(layout.parameters.length - 4 + layout.buffers.length);
    expect(report.unexpected).toEqual(["fc.0.weight", "fc.0.bias", "fc.2.weight", "fc.2.bias"]);
  });

  it.each(["module.encoder_q.", "encoder_q.", "module.base_encoder.", "momentum_encoder.", "module.", "backbone."])(
    "are found behind %s",
    (prefix) => {
      const { state, report } = importWeights(layout, start, renamed(exported(), prefix));
      expectSame(state, expected);
      expect(report).toMatchObject({ prefix, missing: [], unexpected: [], elsewhere: 0 });
    },
  );

  it("are the query encoder's where MoCo's checkpoint holds both and a queue", () => {
    const other = pytorchState(layout, stateOf(5), { withHead: true, step: 3 });
    const both = [
      ...renamed(other, "module.encoder_k."),
      ...renamed(exported(true), "module.encoder_q."),
      floats("module.queue", [8, 16]),
    ];
    const { state, report } = importWeights(layout, start, both);
    expectSame(state, expected);
    expect(report.elsewhere).toBe(other.length + 1);
  });

  it("keep what they lack as it was, and say so", () => {
    const some = exported().filter(({ name }) => name !== "bn1.weight" && name !== "bn1.running_var");
    const { state, report } = importWeights(layout, start, [...some, floats("classifier.weight", [2, 2])]);
    expect(report).toMatchObject({ missing: ["bn1.weight", "bn1.running_var"], unexpected: ["classifier.weight"] });
    const { offset, size } = layout.buffers[1] ?? { offset: NaN, size: NaN };
    expect(state.buffers.slice(offset, offset + size)).toEqual(start.buffers.slice(offset, offset + size));
  });

  it("name shapes that differ, in PyTorch's layout", () => {
    const wrong = exported().map((tensor) =>
      tensor.name === "conv1.weight" ? floats("conv1.weight", [32, 3, 7, 7]) : tensor,
    );
    const { report } = importWeights(layout, start, wrong);
    expect(report.mismatched).toEqual([{ name: "conv1.weight", wanted: [32, 3, 3, 3], given: [32, 3, 7, 7] }]);
  });

  it("match nothing where they are of another architecture", () => {
    const { state, report } = importWeights(layout, start, [floats("blocks.0.attn.qkv.weight", [4, 4])]);
    expect(report.matched).toEqual([]);
    expectSame(state, start);
  });
});
