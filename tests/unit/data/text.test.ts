import { createHash } from "node:crypto";
import { describe, expect, it } from "vitest";
import type { TextDataset, TextSource } from "../../../src/data/dataset.js";
import { inspectDataset } from "../../../src/data/inspect.js";
import { openDataset, openImages } from "../../../src/data/open.js";
import { temporaryFolder } from "./temporary-folder.js";

const folder = temporaryFolder();

async function open(spec: string): Promise<TextDataset> {
  const dataset = await openDataset(spec, { decodeSize: 32 });
  return dataset.modality === "text" ? dataset : expect.fail("it holds images");
}

const textsOf = (source: TextSource) => Array.from({ length: source.length }, (_, index) => source.text(index));
const records = (...lines: unknown[]) => lines.map((line) => JSON.stringify(line)).join("\n");

describe("a file of lines", () => {
  it("gives a text a line, without line ends, byte order mark and lines that are blank, which it counts", async () => {
    const path = folder.write("plain.txt", "\uFEFFone\r\n\r\n  zwei — ✓ \n \t\nthree, text=x");
    const { splits, classes } = await open(`text:${path}`);
    expect(textsOf(splits.train)).toEqual(["one", "zwei — ✓", "three, text=x"]);
    expect(splits.train.emptyLines).toBe(2);
    expect([...splits.train.labels]).toEqual([-1, -1, -1]);
    expect(classes).toEqual([]);
    expect([0, 1, 2].map((index) => splits.train.nameOf(index))).toEqual(["plain.txt:1", "plain.txt:3", "plain.txt:5"]);
    expect(splits.test.length).toBe(0);
  });

  it("may have commas in its name, and another file as its test split", async () => {
    const path = folder.write("a,b=c.txt", "one\n");
    const test = folder.write("t,est.txt", "two\nthree\n");
    const { splits } = await open(`text:${path},test=${test}`);
    expect(textsOf(splits.train)).toEqual(["one"]);
    expect(textsOf(splits.test)).toEqual(["two", "three"]);
  });
});

describe("a file of records", () => {
  it("has labels, whose classes are sorted, and leaves out records without text", async () => {
    const lines = records({ text: "a\nb", label: "sport" }, { text: " ", label: "x" }, { label: "art", text: "c" });
    const path = folder.write("labelled.jsonl", `${lines}\n\n`);
    const { splits, classes } = await open(`text:${path}`);
    expect(classes).toEqual(["art", "sport"]);
    expect([...splits.train.labels]).toEqual([1, 0]);
    expect(textsOf(splits.train)).toEqual(["a\nb", "c"]);
    expect(splits.train.emptyLines).toBe(2);
  });

  it("sorts labels that are whole numbers by number", async () => {
    const path = folder.write("numbers.jsonl", records(...[10, 9, 2].map((label) => ({ text: "x", label }))));
    const { splits, classes } = await open(`text:${path}`);
    expect(classes).toEqual(["2", "9", "10"]);
    expect([...splits.train.labels]).toEqual([2, 1, 0]);
  });

  it("has its fields named, whatever the name ends in, in the test split too", async () => {
    const path = folder.write("named.txt", records({ body: "a", topic: "t" }));
    const test = folder.write("named-test.txt", records({ body: "b", topic: "t" }));
    const { splits } = await open(`text:${path},label=topic,text=body,test=${test}`);
    expect(textsOf(splits.train)).toEqual(["a"]);
    expect([...splits.test.labels]).toEqual([0]);
  });

  it("has no labels where no record has one", async () => {
    const path = folder.write("unlabelled.jsonl", records({ text: "a" }, { text: "b", label: null }));
    expect((await open(`text:${path}`)).classes).toEqual([]);
  });
});

describe("the manifest hash of texts", () => {
  it("is the sha256 of classes, then split, label and text of each", async () => {
    const train = folder.write("hash.jsonl", records({ text: "a", label: "y" }, { text: "b", label: "x" }));
    const test = folder.write("hash-test.jsonl", records({ text: "c", label: "x" }));
    const lines = [
      ["x", "y"],
      ["train", 1, "a"],
      ["train", 0, "b"],
      ["test", 0, "c"],
    ].map((l) => JSON.stringify(l));
    const expected = createHash("sha256")
      .update(`tandem manifest 1\0text\n${lines.join("\n")}\n`)
      .digest("hex");
    expect((await open(`text:${train},test=${test}`)).manifestHash).toBe(expected);
  });

  it("is the same wherever the file lies and however its lines end, and another for another text or order", async () => {
    const hashOf = async (name: string, content: string) =>
      (await open(`text:${folder.write(name, content)}`)).manifestHash;
    const hash = await hashOf("1/a.txt", "one\ntwo\n");
    expect(await hashOf("2/b.txt", "one\r\n\r\ntwo")).toBe(hash);
    expect(await hashOf("3/a.txt", "two\none\n")).not.toBe(hash);
    expect(await hashOf("4/a.txt", "one\ntwo.\n")).not.toBe(hash);
  });
});

describe("texts that cannot be used", () => {
  const bad = folder.write("bad.jsonl", '{"text": "a"}\n\n{"text": \n');
  const latin = folder.write("latin1.txt", Buffer.from([0x66, 0xfc, 0x72]));
  it.each([
    [`text:${folder.path}/none.txt`, "DATA_UNREADABLE", "(ENOENT): check the path"],
    [`text:${folder.path}`, "DATA_UNREADABLE", "(EISDIR): check the path"],
    [`text:${latin}`, "DATA_NOT_UTF8", "is not UTF-8"],
    [`text:${folder.write("empty.txt", "\n\n")}`, "DATA_NO_TEXTS", "holds no texts"],
    [`text:${bad}`, "DATA_BAD_RECORD", `line 3 of "${bad}" is no JSON`],
    [`text:${folder.write("list.jsonl", "[1]")}`, "DATA_BAD_RECORD", "is no JSON object"],
    [`text:${folder.write("other.jsonl", '{"body": "a"}')}`, "DATA_BAD_RECORD", 'field "text" of line 1'],
    [`text:${folder.write("number.jsonl", '{"text": 5}')}`, "DATA_BAD_RECORD", "is 5: a string is wanted"],
    [
      `text:${folder.write("float.jsonl", '{"text": "a", "label": 1.5}')}`,
      "DATA_BAD_RECORD",
      'field "label" of line 1',
    ],
    [
      `text:${folder.write("mixed.jsonl", records({ text: "a" }, { text: "b", label: 1 }))}`,
      "DATA_MIXED_LABELS",
      "mixed.jsonl:2 has a label and mixed.jsonl:1 has none",
    ],
    [
      `text:${folder.write("known.jsonl", records({ text: "a", label: 1 }))},test=${folder.write("strange.jsonl", records({ text: "a", label: 2 }))}`,
      "DATA_UNKNOWN_CLASS",
      'strange.jsonl:1 has the label "2", which no training text has',
    ],
    ["text:", "DATA_NO_PATH", "write text:PATH"],
    ["text:a,test=b,test=c", "DATA_REPEATED_PARAMETER", 'gives "test" twice'],
    ["text:a,label=", "DATA_BAD_PARAMETER", "has an empty label"],
  ])("%s: %s", async (spec, code, message) => {
    const error: unknown = await openDataset(spec, { decodeSize: 32 }).catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ name: "UserError", code });
    expect((error as Error).message).toContain(message);
    expect((error as Error).message).not.toContain("\n");
  });

  it("are no pictures", async () => {
    const path = folder.write("words.txt", "one\n");
    await expect(openImages(`text:${path}`, { decodeSize: 32 })).rejects.toMatchObject({ code: "DATA_NO_PICTURES" });
  });
});

it("an inspection counts texts, labels and characters, by code points", async () => {
  const path = folder.write(
    "look.jsonl",
    records({ text: "ab", label: 1 }, { text: "😀😀😀😀", label: 1 }, { text: "" }),
  );
  const report = await inspectDataset(await open(`text:${path}`), null, 10);
  expect(report.splits).toEqual({
    train: { texts: 2, emptyLines: 1, labels: { "1": 2 }, characters: { min: 2, median: 3, max: 4 } },
    test: { texts: 0, emptyLines: 0, labels: null, characters: null },
  });
});
