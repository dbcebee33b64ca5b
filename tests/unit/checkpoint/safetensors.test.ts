import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { decodeSafetensors, encodeSafetensors, SafetensorsError } from "../../../src/checkpoint/index.js";

const join = (parts: readonly Uint8Array[]) => new Uint8Array(Buffer.concat(parts));

function file(header: unknown, body: number): Uint8Array {
  const json = Buffer.from(typeof header === "string" ? header : JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(json.length));
  return new Uint8Array(Buffer.concat([length, json, Buffer.alloc(body)]));
}

const tensor = (offsets: unknown, shape: unknown = [1], dtype: unknown = "F32") => ({
  dtype,
  shape,
  data_offsets: offsets,
});

describe("safetensors", () => {
  it("writes the format byte by byte", () => {
    const bytes = join(encodeSafetensors([{ name: "a", dtype: "F32", shape: [2], data: Float32Array.of(1, -2) }]));
    const header = '{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}';
    const padded = header.padEnd(Math.ceil(header.length / 8) * 8, " ");
    expect(Buffer.from(bytes.subarray(0, 8)).readBigUInt64LE()).toBe(BigInt(padded.length));
    expect(Buffer.from(bytes.subarray(8, 8 + padded.length)).toString()).toBe(padded);
    expect(Buffer.from(bytes.subarray(8 + padded.length)).toString("hex")).toBe("0000803f000000c0");
  });

  it("reads back what it wrote, of every type and shape", () => {
    const shape = fc.array(fc.nat({ max: 3 }), { maxLength: 3 });
    const made = fc.uniqueArray(
      fc.record({
        name: fc.string({ minLength: 1 }).filter((name) => name !== "__metadata__" && name !== "__proto__"),
        dtype: fc.constantFrom("F32", "I32", "U8", "I64"),
        shape,
      }),
      { selector: ({ name }) => name, maxLength: 6 },
    );
    fc.assert(
      fc.property(made, fc.nat({ max: 7 }), (specs, misalignment) => {
        const tensors = specs.map(({ name, dtype, shape: sides }, index) => {
          const length = sides.reduce((product, side) => product * side, 1);
          const values = Array.from({ length }, (_, i) => (index + i) % 100);
          const data = {
            F32: () => Float32Array.from(values),
            I32: () => Int32Array.from(values),
            U8: () => Uint8Array.from(values),
            I64: () => BigInt64Array.from(values.map(BigInt)),
          }[dtype as "F32"]();
          return { name, dtype: dtype as "F32", shape: sides, data };
        });
        const bytes = join(encodeSafetensors(tensors));
        const shifted = new Uint8Array(bytes.length + misalignment);
        shifted.set(bytes, misalignment);
        const back = decodeSafetensors(shifted.subarray(misalignment));
        const byName = (a: { name: string }, b: { name: string }) => (a.name < b.name ? -1 : 1);
        expect([...back].sort(byName)).toEqual([...tensors].sort(byName));
      }),
    );
  });

  it.each([
    ["too short", new Uint8Array(7), "too few"],
    ["a header longer than the file", file({}, 0).fill(9, 0, 2), "does not fit"],
    ["no JSON", file("{", 0), "no JSON"],
    ["no object", file("[]", 0), "no JSON object"],
    ["an unknown type", file({ a: tensor([0, 4], [1], "F8") }, 4), "dtype"],
    ["a negative side", file({ a: tensor([0, 4], [-1]) }, 4), "shape"],
    ["too few bytes for the shape", file({ a: tensor([0, 4], [2]) }, 4), "needs 8 bytes"],
    ["a gap", file({ a: tensor([4, 8]) }, 8), "leaves a gap"],
    ["an overlap", file({ a: tensor([0, 4]), b: tensor([2, 6]) }, 6), "overlaps"],
    ["bytes behind the last tensor", file({ a: tensor([0, 4]) }, 5), "the file holds 5"],
  ])("refuses %s", (_, bytes, message) => {
    expect(() => decodeSafetensors(bytes)).toThrow(SafetensorsError);
    expect(() => decodeSafetensors(bytes)).toThrow(message);
  });
});
