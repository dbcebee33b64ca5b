import { describe, expect, it } from "vitest";
import { parseDataSpec } from "../../../src/data/spec.js";

const defaults = { kind: "synthetic", classes: 10, size: 32, train: 4000, test: 1000, seed: 0 };

describe("a data spec", () => {
  it("gives synthetic its defaults", () => {
    expect(parseDataSpec("synthetic")).toEqual(defaults);
    expect(parseDataSpec("synthetic:")).toEqual(defaults);
  });

  it("sets the named parameters and leaves the others", () => {
    expect(parseDataSpec("synthetic:classes=4,size=64,seed=9007199254740991")).toEqual({
      ...defaults,
      classes: 4,
      size: 64,
      seed: Number.MAX_SAFE_INTEGER,
    });
  });

  it("takes everything behind the first colon as the path", () => {
    expect(parseDataSpec("folder:/photos/a:b,c=d")).toEqual({ kind: "folder", path: "/photos/a:b,c=d" });
    expect(parseDataSpec("cifar10:data")).toEqual({ kind: "cifar10", path: "data" });
    expect(parseDataSpec("cifar100:data")).toEqual({ kind: "cifar100", path: "data" });
  });

  it("parts the shards of a test split from those before", () => {
    const webdataset = (train: string, test: string | null) => ({ kind: "webdataset", train, test });
    expect(parseDataSpec("webdataset:shards")).toEqual(webdataset("shards", null));
    expect(parseDataSpec("webdataset:a-{0,1}.tar,test=b-{0..3}.tar")).toEqual(
      webdataset("a-{0,1}.tar", "b-{0..3}.tar"),
    );
  });

  it.each([
    ["webdataset:", "DATA_NO_PATH", "names no shards"],
    ["webdataset:a,test=", "DATA_NO_PATH", "names no test shards"],
    ["sinthetic:classes=3", "DATA_UNKNOWN_SCHEME", 'did you mean "synthetic"?'],
    ["cifar:data", "DATA_UNKNOWN_SCHEME", 'did you mean "cifar10"?'],
    ["", "DATA_UNKNOWN_SCHEME", 'the unknown scheme ""'],
    ["folder", "DATA_NO_PATH", "write folder:PATH"],
    ["cifar10:", "DATA_NO_PATH", "write cifar10:PATH"],
    ["synthetic:clases=3", "DATA_UNKNOWN_PARAMETER", 'did you mean "classes"?'],
    ["synthetic:toString=3", "DATA_UNKNOWN_PARAMETER", 'no parameter "toString"'],
    ["synthetic:classes=3,classes=4", "DATA_REPEATED_PARAMETER", '"classes" twice'],
    ["synthetic:classes=21", "DATA_BAD_PARAMETER", 'classes="21": give a whole number from 2 to 20'],
    ["synthetic:size=-32", "DATA_BAD_PARAMETER", 'size="-32"'],
    ["synthetic:size=3e1", "DATA_BAD_PARAMETER", 'size="3e1"'],
    ["synthetic:train", "DATA_BAD_PARAMETER", 'train=""'],
    ["synthetic:train=1=2", "DATA_BAD_PARAMETER", 'train="1=2"'],
  ])("refuses %j with %s in one line", (spec, code, part) => {
    const error = caught(() => parseDataSpec(spec));
    expect(error).toMatchObject({ name: "UserError", code });
    expect(error.message).toContain(part);
    expect(error.message).not.toContain("\n");
  });
});

function caught(call: () => unknown): Error {
  try {
    call();
  } catch (error) {
    if (error instanceof Error) return error;
  }
  throw new Error("nothing was thrown");
}
