/** Layouts against torchvision and safetensors' own library (tests/fixtures/torchvision_block.py made the file). */
import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { decodeSafetensors, encodeSafetensors, type NamedTensor } from "../../../src/checkpoint/index.js";
import { conv2d, tf, type Tensor, type Tensor1D, type Tensor4D } from "../../../src/engine/index.js";
import { evaluationNorm } from "../../../src/models/index.js";
import { LayoutBuilder } from "../../../src/models/parameters.js";
import { fromPytorch, pytorchShape, pytorchState } from "../../../src/models/pytorch-layout.js";

const fixture = new Map(
  decodeSafetensors(readFileSync(new URL("../../fixtures/torchvision_block.safetensors", import.meta.url))).map(
    (tensor) => [tensor.name, tensor],
  ),
);

function given(name: string): NamedTensor {
  const tensor = fixture.get(name);
  if (tensor === undefined) throw new Error(`the fixture has no ${name}`);
  return tensor;
}

function floats(name: string): Float32Array {
  const { data } = given(name);
  if (!(data instanceof Float32Array)) throw new Error(`${name} is not float32`);
  return data;
}

/** torchvision's BasicBlock(3, 5, stride 2) with a projected shortcut, and a dense layer. */
function blockLayout() {
  const builder = new LayoutBuilder();
  builder.parameter("conv1.weight", [3, 3, 3, 5], "convolution");
  builder.batchNorm("bn1", 5);
  builder.parameter("conv2.weight", [3, 3, 5, 5], "convolution");
  builder.batchNorm("bn2", 5);
  builder.parameter("downsample.0.weight", [1, 1, 3, 5], "convolution");
  builder.batchNorm("downsample.1", 5);
  builder.parameter("fc.weight", [5, 4], "dense");
  builder.parameter("fc.bias", [4], "dense-bias");
  return builder.build();
}

function blockState() {
  const layout = blockLayout();
  const parameters = new Float32Array(layout.parameterCount);
  const buffers = new Float32Array(layout.bufferCount);
  for (const spec of layout.parameters) {
    expect(pytorchShape(spec), spec.name).toEqual(given(`pytorch.${spec.name}`).shape);
    parameters.set(fromPytorch(spec, floats(`pytorch.${spec.name}`)), spec.offset);
  }
  for (const { name, offset } of layout.buffers) buffers.set(floats(`pytorch.${name}`), offset);
  return { layout, parameters, buffers };
}

describe("PyTorch's layout", () => {
  it("is read as NumPy transposes it", () => {
    const { layout, parameters } = blockState();
    const moved = layout.parameters.filter(({ name }) => fixture.has(`tensorflow.${name}`));
    expect(moved.map(({ name }) => name)).toEqual(["conv1.weight", "conv2.weight", "downsample.0.weight", "fc.weight"]);
    for (const { name, shape, offset, size } of moved) {
      expect(given(`tensorflow.${name}`).shape).toEqual(shape);
      expect(parameters.slice(offset, offset + size), name).toEqual(floats(`tensorflow.${name}`));
    }
  });

  it("is written as torchvision has it, num_batches_tracked and all", () => {
    const { layout, parameters, buffers } = blockState();
    const written = pytorchState(layout, { parameters, buffers }, { withHead: true, step: 7 });
    const read = decodeSafetensors(Buffer.concat(encodeSafetensors(written, { format: "pt" })));
    const byName = (a: NamedTensor, b: NamedTensor) => (a.name < b.name ? -1 : 1);
    const expected = [...fixture.values()]
      .filter(({ name }) => name.startsWith("pytorch."))
      .map((tensor) => ({ ...tensor, name: tensor.name.slice("pytorch.".length) }));
    expect(read.sort(byName)).toEqual(expected.sort(byName));
  });

  it("leaves out heads unless they are asked for", () => {
    const { layout, parameters, buffers } = blockState();
    const names = pytorchState(layout, { parameters, buffers }, { withHead: false, step: 0 }).map(({ name }) => name);
    expect(names.filter((name) => name.startsWith("fc"))).toEqual([]);
    expect(names).toHaveLength(layout.parameters.length - 2 + (3 * layout.buffers.length) / 2);
  });

  it("gives what PyTorch computes", () => {
    const { layout, parameters, buffers } = blockState();
    const tensors = new Map<string, Tensor>(
      layout.parameters.map(({ name, shape, offset, size }) => [
        name,
        tf.tensor(parameters.slice(offset, offset + size), [...shape]),
      ]),
    );
    for (const { name, offset, size } of layout.buffers)
      tensors.set(name, tf.tensor1d(buffers.slice(offset, offset + size)));
    const tensor = <T extends Tensor>(name: string) => tensors.get(name) as T;
    const norm = evaluationNorm((name) => tensor<Tensor1D>(name));
    const layer = (x: Tensor4D, convolution: string, name: string, stride: number, relu: boolean) => {
      const filter = tensor<Tensor4D>(`${convolution}.weight`);
      const y = conv2d(x, filter, stride, ((filter.shape[0] ?? 1) - 1) / 2);
      return norm(name, y, tensor(`${name}.weight`), tensor(`${name}.bias`), relu);
    };
    const images = tf.tensor4d(floats("images"), [2, 6, 6, 3]);
    const path = layer(layer(images, "conv1", "bn1", 2, true), "conv2", "bn2", 1, false);
    const block = tf.relu(tf.add(path, layer(images, "downsample.0", "downsample.1", 2, false)));
    const projected = tf.add(tf.matMul(tf.mean(block, [1, 2]), tensor("fc.weight")), tensor("fc.bias"));
    for (const [name, result] of [
      ["block", block],
      ["projected", projected],
    ] as const) {
      const error = tf.max(tf.abs(tf.sub(result, tf.tensor(floats(name), result.shape)))).dataSync()[0];
      expect(error, name).toBeLessThan(1e-5);
    }
  });
});
