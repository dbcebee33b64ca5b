import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { hostname, tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { crc32c } from "../../../../src/telemetry/tensorboard/crc32c.js";
import { toRecord } from "../../../../src/telemetry/tensorboard/record.js";
import {
  EventWriter,
  histogram,
  histogramOf,
  image,
  scalar,
  text,
} from "../../../../src/telemetry/tensorboard/index.js";
import { eventsIn, recordsIn } from "./event-file.js";

describe("CRC-32C", () => {
  const ascending = Uint8Array.from({ length: 32 }, (_, index) => index);
  it.each([
    ["32 zeros (RFC 3720, B.4)", new Uint8Array(32), 0x8a9136aa],
    ["32 ones (RFC 3720, B.4)", new Uint8Array(32).fill(0xff), 0x62a8ab43],
    ["0 to 31 (RFC 3720, B.4)", ascending, 0x46dd794e],
    ["31 to 0 (RFC 3720, B.4)", ascending.toReversed(), 0x113fdb5c],
    ["123456789", Buffer.from("123456789"), 0xe3069283],
    ["nothing", new Uint8Array(0), 0],
  ])("of %s", (_, bytes, checksum) => {
    expect(crc32c(bytes)).toBe(checksum);
  });
});

it("a record is framed as TensorBoard's own writer frames it", () => {
  // tensorboard.compat.tensorflow_stub.pywrap_tensorflow.masked_crc32c of length and bytes.
  expect(Buffer.from(toRecord(Buffer.from("tandem"))).toString("hex")).toBe(
    "06000000000000007369d53774616e64656db08a0964",
  );
});

describe("a histogram", () => {
  it("counts every value once, in 30 buckets from the least to the greatest", () => {
    const values = Float32Array.from({ length: 301 }, (_, index) => index - 100);
    const found = histogramOf(values);
    expect(found).toMatchObject({ min: -100, max: 200, count: 301, sum: 15_050, sumOfSquares: 3_025_050 });
    expect(found?.limits).toEqual(Array.from({ length: 30 }, (_, index) => -90 + 10 * index));
    expect(found?.counts).toEqual([...new Array<number>(29).fill(10), 11]);
  });

  it("is one bucket where all values are equal", () => {
    expect(histogramOf(new Float32Array(5).fill(0.5))).toEqual({
      ...{ min: 0.5, max: 0.5, count: 5, sum: 2.5, sumOfSquares: 1.25 },
      ...{ limits: [0.5], counts: [5] },
    });
  });

  it("leaves out what is not finite", () => {
    const found = histogramOf(Float32Array.of(NaN, 1, Infinity, 3, -Infinity));
    expect(found).toMatchObject({ min: 1, max: 3, count: 2, sum: 4 });
    expect(found?.counts.reduce((sum, count) => sum + count, 0)).toBe(2);
  });

  it("is none of no values", () => {
    expect(histogramOf(new Float32Array(0))).toBeNull();
    expect(histogramOf(Float32Array.of(NaN, Infinity))).toBeNull();
  });

  it.each([
    ["float32's whole range", [-3.4e38, 3.4e38]],
    ["its least difference", [0, 1e-45]],
  ])("holds over %s", (_, values) => {
    const found = histogramOf(Float32Array.from(values));
    expect(found?.counts).toEqual([1, ...new Array<number>(28).fill(0), 1]);
    expect(found?.limits.every(Number.isFinite)).toBe(true);
  });
});

describe("the writer", () => {
  let [folder, directory] = ["", ""];
  let warnings: string[] = [];
  const open = (now = Date.now) => new EventWriter(directory, (message) => warnings.push(message), now);
  const files = () => readdirSync(directory).sort();
  const eventsOf = (name: string) => eventsIn(readFileSync(join(directory, name)));

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), "tandem-tensorboard-"));
    directory = join(folder, "tensorboard");
    warnings = [];
  });
  afterEach(() => {
    rmSync(folder, { recursive: true });
  });

  it("writes version, start and values with their steps and times", async () => {
    const writer = open(() => 1_700_000_000_500);
    writer.goOnFrom(0);
    writer.add(1, [scalar("train/loss", 0.5), scalar("train/broken", NaN)]);
    writer.add(2, [text("config", "# seed"), image("pairs", { width: 3, height: 2, encoded: Uint8Array.of(1, 2) })]);
    writer.add(3, [
      histogram("parameters/a", { min: 1, max: 2, count: 3, sum: 4, sumOfSquares: 6, limits: [2], counts: [3] }),
    ]);
    await writer.close();
    const [name = ""] = files();
    expect(name).toBe(`events.out.tfevents.1700000000.${hostname()}.${process.pid}.0`);
    const events = eventsOf(name);
    expect(events.map(({ wallTime, step }) => [wallTime, step])).toEqual(
      [0, 1, 1, 2, 3].map((step) => [1_700_000_000.5, step]),
    );
    expect(events[0]).toMatchObject({ fileVersion: "brain.Event:2" });
    expect(events[1]).toMatchObject({ sessionLog: { status: 1 } });
    const values = events.slice(2).flatMap(({ summary }) => summary?.value ?? []);
    expect(values).toMatchObject([
      { tag: "train/loss", simpleValue: 0.5 },
      { tag: "train/broken", simpleValue: NaN },
      { tag: "config", metadata: { pluginData: { pluginName: "text" } }, tensor: { dtype: 7 } },
      { tag: "pairs", image: { width: 3, height: 2, colorspace: 3, encodedImageString: Buffer.of(1, 2) } },
      { tag: "parameters/a", histo: { min: 1, max: 2, num: 3, sum: 4, sumSquares: 6, bucketLimit: [2], bucket: [3] } },
    ]);
    expect(Buffer.from(values[2]?.tensor?.stringVal?.[0] ?? []).toString()).toBe("# seed");
  });

  it("leaves nothing behind where there was nothing to write", async () => {
    await open().close();
    expect(readdirSync(folder)).toEqual([]);
  });

  it("names its file behind those that are there, also where the clock was set back", async () => {
    mkdirSync(directory);
    writeFileSync(join(directory, "events.out.tfevents.1800000000.elsewhere.7.0"), "");
    const writer = open(() => 1_700_000_000_000);
    writer.goOnFrom(0);
    await writer.close();
    expect(files().at(-1)).toMatch(/^events\.out\.tfevents\.1800000001\./);
  });

  it("goes on where the disk refuses, says so once, and writes what it has kept when the disk takes it", async () => {
    // What stands in the directory's place refuses as a full disk does: by an error of the system.
    writeFileSync(directory, "");
    const writer = open();
    for (let step = 1; step <= 3; step++) {
      writer.add(step, [scalar("train/loss", step)]);
      await writer.flush();
    }
    expect(warnings).toEqual([expect.stringMatching(/^TensorBoard's events cannot be written: .*; the run goes on$/)]);
    rmSync(directory);
    await writer.close();
    expect(warnings.slice(1)).toEqual(["TensorBoard's events are written again; 0 are lost"]);
    expect(eventsOf(files()[0]).map(({ step }) => step)).toEqual([0, 1, 2, 3]);
  });

  it("keeps so many bytes for a disk that refuses, and counts what has no room", async () => {
    writeFileSync(directory, "");
    const writer = open();
    const encoded = new Uint8Array(1024 * 1024);
    for (let step = 1; step <= 20; step++) writer.add(step, [image("pairs", { width: 1, height: 1, encoded })]);
    await writer.flush();
    rmSync(directory);
    await writer.close();
    expect(warnings.at(-1)).toBe("TensorBoard's events are written again; 5 are lost");
    expect(recordsIn(readFileSync(join(directory, files()[0])))).toHaveLength(1 + 15);
  });
});
