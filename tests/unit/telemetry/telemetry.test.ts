import { appendFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import {
  EventFile,
  EventTail,
  openLogger,
  Progress,
  progressLine,
  readEvents,
  runStatus,
  type TimedEvent,
} from "../../../src/telemetry/index.js";

let folder = "";
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "tandem-telemetry-"));
});
afterEach(() => {
  rmSync(folder, { recursive: true });
});

const at = (step: number) => ({
  samples: "images" as const,
  step,
  totalSteps: 100,
  epoch: 1,
  epochs: 4,
  loss: 6.12345,
  learningRate: 0.06,
  imagesPerSecond: 512.4,
  workers: 2,
});

describe("progress", () => {
  it("says epoch, step, loss, learning rate, speed, time left and workers", () => {
    expect(progressLine(at(7), 125_000)).toBe(
      "epoch 2/4  step   7/100  loss 6.123  lr 0.0600  512 images/s  ETA 2:05  2 workers",
    );
  });

  it("rewrites one line on a terminal, keeps notes above it, and leaves nothing behind", () => {
    let now = 0;
    let written = "";
    const stream = { isTTY: true, columns: 60, write: (text: string) => (written += text) };
    const progress = new Progress(stream, () => now);
    progress.step(at(1));
    now = 50;
    progress.step(at(2));
    now = 150;
    progress.step(at(3));
    progress.note("worker-3 has joined");
    progress.end();
    const clear = "\r\u001b[2K";
    expect(written.split("\n")).toHaveLength(2);
    expect(written).toContain(`${clear}worker-3 has joined\n${clear}epoch 2/4  step   3/100`);
    expect(written.endsWith(clear)).toBe(true);
    for (const line of written.split(/[\r\n]/)) expect(line.replace("\u001b[2K", "").length).toBeLessThan(60);
  });

  it("writes a line at an interval where there is no terminal, and always the last", () => {
    let now = 0;
    const lines: string[] = [];
    const progress = new Progress({ write: (text: string) => lines.push(text) }, () => now, 1000);
    for (const [time, step] of [
      [0, 1],
      [999, 2],
      [1000, 3],
      [1001, 100],
    ] as const) {
      now = time;
      progress.step(at(step));
    }
    expect(lines.map((line) => /step +(\d+)/.exec(line)?.[1])).toEqual(["1", "3", "100"]);
  });
});

describe("the event file", () => {
  it("appends whole lines, also behind one that a killed process left half", () => {
    const path = join(folder, "events.jsonl");
    writeFileSync(path, '{"kind":"ste');
    const events = new EventFile(path, () => new Date(0));
    events.append({ kind: "evaluated", step: 3, accuracy: 0.5, linear: null });
    events.close();
    expect(readFileSync(path, "utf8").split("\n")).toEqual([
      '{"kind":"ste',
      '{"time":"1970-01-01T00:00:00.000Z","kind":"evaluated","step":3,"accuracy":0.5,"linear":null}',
      "",
    ]);
  });
});

describe("lines of an event file that are none of ours", () => {
  const stages = { load: 1, forward: 1, backward: 1, wait: 1, send: 1, aggregate: 1, broadcast: 1 };
  const totals = { ...stages, ranks: 1, sentBytes: 0, receivedBytes: 0 };
  it.each([
    ["no time", { time: "yesterday", kind: "step-skipped", step: 1 }],
    ["no step", { kind: "step-skipped" }],
    ["a step in words", { kind: "checkpointed", step: "zero", directory: "d" }],
    ["no reason", { kind: "explained" }],
    ["no list of workers", { kind: "stages", seconds: 1, workers: 5 }],
    ["no worker", { kind: "stages", seconds: 1, workers: [{ worker: "w", ...totals }, null] }],
    ["a worker without times", { kind: "stages", seconds: 1, workers: [{ worker: "w", ...totals, wait: null }] }],
    ["no accuracy", { kind: "evaluated", step: 1 }],
  ])("are left out: %s", async (_, line) => {
    const path = join(folder, "events.jsonl");
    const time = new Date(0).toISOString();
    const sound = { time, kind: "stages", seconds: 1, workers: [{ worker: "w", ...totals }] };
    writeFileSync(path, [{ time, ...line }, sound].map((entry) => `${JSON.stringify(entry)}\n`).join(""));
    const read: TimedEvent[] = [];
    for await (const event of readEvents(path)) read.push(event);
    expect(read).toEqual([sound]);
  });
});

describe("an event file that cannot be", () => {
  it("is spoken of once, and costs its events alone", () => {
    const told: string[] = [];
    const events = new EventFile(folder, undefined, undefined, (message) => told.push(message));
    for (const step of [1, 2]) events.append({ kind: "step-skipped", step });
    events.close();
    expect(told).toEqual([expect.stringMatching(/cannot be written, and events are lost: EISDIR/)]);
  });
});

describe("who follows the event file", () => {
  it("hears of each event once, and of a line when it is whole", async () => {
    const path = join(folder, "followed.jsonl");
    const tail = new EventTail(path);
    const heard = async () => {
      const kinds: string[] = [];
      for await (const { kind } of tail.more()) kinds.push(kind);
      return kinds;
    };
    expect(await heard()).toEqual([]);
    const line = (kind: string) => JSON.stringify({ time: new Date(0).toISOString(), kind, peer: "p", reason: "é" });
    const [first, second] = [Buffer.from(`${line("explained")}\n`), Buffer.from(`${line("dropped")}\n`)];
    writeFileSync(path, Buffer.concat([first, second.subarray(0, -5)]));
    expect(await heard()).toEqual(["explained"]);
    appendFileSync(path, second.subarray(-5));
    expect(await heard()).toEqual(["dropped"]);
    expect(await heard()).toEqual([]);
  });
});

describe("the logger", () => {
  it("puts every record into the file, and shows warnings as lines", () => {
    const path = join(folder, "logs", "worker-1.jsonl");
    const shown: string[] = [];
    const logger = openLogger({ process: "worker-1", file: path, show: (line) => shown.push(line) });
    logger.info("quiet");
    logger.warn("loud");
    expect(shown).toEqual(["worker-1: warning: loud"]);
    const records = readFileSync(path, "utf8")
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line) as { msg: string });
    expect(records.map(({ msg }) => msg)).toEqual(["quiet", "loud"]);
  });
});

describe("status", () => {
  const time = "2026-01-01T00:00:00.000Z";
  const began = {
    kind: "run-started",
    again: "train --resume --out runs/a",
    control: "tcp://h:1",
    resumed: false,
    step: 0,
    reproducible: true,
  } as const;
  const joined = (worker: string) =>
    ({ kind: "worker-joined", worker, devices: 1, device: "cpu", host: "here", pid: 1, workers: 1 }) as const;
  const slow = (is: boolean) =>
    ({ kind: "straggler", worker: "worker-2", slow: is, paceMs: 90, medianMs: 30 }) as const;
  const after = (...events: Parameters<EventFile["append"]>[0][]) =>
    runStatus(events.map((event): TimedEvent => ({ time, ...event })));

  it("names who is slow, until they no longer are", async () => {
    const now = await after(began, joined("worker-1"), joined("worker-2"), slow(true));
    expect(now.workers.map(({ worker, slow }) => [worker, slow])).toEqual([
      ["worker-1", null],
      ["worker-2", { paceMs: 90, medianMs: 30 }],
    ]);
    expect((await after(began, joined("worker-2"), slow(true), slow(false))).workers[0]?.slow).toBeNull();
    expect((await after(began, joined("worker-2"), slow(true), joined("worker-2"))).workers).toHaveLength(1);
  });

  it("begins anew with a coordinator, which says where it goes on and what it builds on", async () => {
    const mixed = { kind: "not-reproducible", worker: "worker-2", fingerprints: "a, b" } as const;
    const again = { ...began, resumed: true, step: 10 };
    const resumed = await after(began, joined("worker-1"), { kind: "step-skipped", step: 14 }, mixed, again);
    expect(resumed).toMatchObject({ phase: "running", step: 10, workers: [], reproducible: true, skippedSteps: 1 });
    expect((await after(began, { ...again, reproducible: false })).reproducible).toBe(false);
  });

  it("says what the run waits for, until it goes on", async () => {
    const waits = { kind: "explained", reason: "waiting: 0 of at least 1 workers are here" } as const;
    expect((await after(began, waits)).waiting).toBe(waits.reason);
    expect((await after(began, waits, { kind: "step-skipped", step: 1 })).waiting).toBeNull();
    expect(await after(began, { kind: "run-ended", outcome: "failed", step: null })).toMatchObject({ phase: "failed" });
    expect((await after()).phase).toBe("not begun");
  });
});
