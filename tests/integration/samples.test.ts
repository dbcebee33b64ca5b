/** Samples that are streamed: the same as those of the data set itself, each once, and again where the coordinator was away. */
import { writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { afterEach, describe, expect, it } from "vitest";
import { SampleServer } from "../../coordinator/sample-server.js";
import { resolveConfig, type RunConfig } from "../../src/config/index.js";
import { Loader, openDataset, openRunDataset, readSamples, viewReader, type RunDataset } from "../../src/data/index.js";
import { encodePng } from "../../src/data/decode.js";
import { sampleCodec, sampleRequestCodec } from "../../src/protocol/wire.js";
import { WireError } from "../../src/protocol/wire-error.js";
import { RouterSocket } from "../../src/transport/index.js";
import { SampleClient } from "../../worker/sample-client.js";
import { streamedDataset } from "../../worker/streamed-data.js";
import { uniform } from "../fixtures/drawn.js";
import { temporaryFolder } from "../unit/data/temporary-folder.js";

const RUN = "run-1";
const SIZE = 16;
const fixture = (name: string) => fileURLToPath(new URL(`../fixtures/${name}`, import.meta.url));

const folder = temporaryFolder();
const picture = (seed: number) => encodePng(Uint8Array.from(uniform(seed, SIZE * SIZE * 3, 0, 256)), SIZE);
for (let index = 0; index < 24; index++)
  folder.write(`train/${index % 2 === 0 ? "even" : "odd"}/${String(index).padStart(2, "0")}.png`, await picture(index));
folder.write("train/odd/99.png", new Uint8Array([1, 2, 3]));
for (const name of ["even", "odd"]) folder.write(`test/${name}/a.png`, await picture(99));
const pairs = temporaryFolder();
for (let index = 0; index < 16; index++) pairs.write(`${String(index)}.png`, await picture(100 + index));
const rows = Array.from({ length: 8 }, (_, pair) => `${String(2 * pair)}.png,${String(2 * pair + 1)}.png\n`);
const PAIRS = `pairs:${pairs.write("pairs.csv", `query,key\n${rows.join("")}`)}`;

const SPECS: readonly (readonly [string, string, Record<string, unknown>])[] = [
  ["a folder", `folder:${folder.path}`, {}],
  ["pairs", PAIRS, {}],
  ["drawn pictures", `synthetic:size=${String(SIZE)},train=24,test=4`, {}],
  [
    "texts",
    `text:${fixture("tokenizer_parity.py")}`,
    {
      ...{ "model.encoder": "text-tiny", "data.maxLength": 16, "moco.shuffle": "none" },
      "data.tokenizer": fixture("tokenizer_wordpiece.json"),
    },
  ],
];

async function configOf(spec: string, overrides: Record<string, unknown> = {}): Promise<RunConfig> {
  const small = { "data.imageSize": 8, "data.decodeSize": 10, "moco.queueSize": 32, "data.cacheMiB": 0 };
  const ranks = { "parallel.worldSize": 2, "parallel.batchSize": 4, "data.spec": spec };
  return resolveConfig({ preset: "quickstart", overrides: { ...small, ...ranks, ...overrides } });
}

const closing: (() => unknown)[] = [];
const failures: string[] = [];
afterEach(async () => {
  for (const close of closing.splice(0)) await close();
});

/** A samples plane as the coordinator's thread has it. @param deaf to so many requests at first */
async function serve(spec: string, config: RunConfig, endpoint = "tcp://127.0.0.1:*", deaf = 0) {
  const socket = new RouterSocket(sampleRequestCodec, sampleCodec, {
    guard: null,
    misread: () => undefined,
    refused: () => undefined,
    disconnected: () => undefined,
  });
  const { decodeSize } = config.data;
  const server = new SampleServer(
    await openDataset(spec, { decodeSize }),
    decodeSize,
    RUN,
    (peer, message, frames) => {
      socket.post(peer, message, frames, () => {
        server.gone(peer);
      });
    },
    ({ message }) => failures.push(message),
  );
  const bound = await socket.bind(endpoint);
  let unheard = deaf;
  void socket.listen((peer, message) => {
    if (unheard-- <= 0) server.received(peer, message);
  });
  const close = () => {
    socket.close();
  };
  closing.push(close);
  return { server, endpoint: bound, close };
}

function connect(endpoint: string, patienceMs?: number): SampleClient {
  const client = new SampleClient(endpoint, null, RUN, patienceMs);
  closing.push(() => client.close());
  return client;
}

async function everything(dataset: RunDataset) {
  const corrupt: string[] = [];
  const split = async (name: "train" | "test") => {
    const { length, labels } = dataset.splits[name];
    const indices = Array.from({ length }, (_, index) => index);
    const { values } = await readSamples(dataset, name, indices, (sample) => corrupt.push(sample));
    return { values, labels };
  };
  return { train: await split("train"), test: await split("test"), corrupt: corrupt.sort() };
}

describe.each(SPECS)("%s, streamed", (_, spec, overrides) => {
  it("is what the data set itself is, and goes over once an epoch", { timeout: 60_000 }, async () => {
    const config = await configOf(spec, overrides);
    const { server, endpoint } = await serve(spec, config);
    const [streamed, local] = [await streamedDataset(connect(endpoint), config), await openRunDataset(spec, config)];
    expect(streamed.manifestHash).toBe(local.manifestHash);
    expect(streamed.classes).toEqual(local.classes);
    expect(await everything(streamed)).toEqual(await everything(local));

    const before = server.sent;
    const unheard = () => undefined;
    const [ahead, there] = [streamed, local].map((data) => new Loader(viewReader(data, config, unheard), config));
    const steps = Math.floor(local.splits.train.length / 8);
    for (let step = 0; step < steps; step++) {
      ahead.prefetch(step, [0, 1]);
      for (const rank of [0, 1]) expect(await ahead.take(step, rank)).toEqual(await there.take(step, rank));
    }
    const each = local.keys === undefined ? 1 : 2;
    // Texts are all there from the beginning. In place of what cannot be decoded comes the next sample.
    const due = local.modality === "text" ? 0 : each * steps * 8;
    expect(server.sent - before).toBeGreaterThanOrEqual(due);
    expect(server.sent - before).toBeLessThanOrEqual(due + 1);
  });
});

describe("the samples plane", () => {
  const spec = `folder:${folder.path}`;

  it("is asked again where it does not answer, was away, or is elsewhere", { timeout: 60_000 }, async () => {
    const config = await configOf(spec);
    const first = await serve(spec, config, undefined, 1);
    const client = connect(first.endpoint, 300);
    const dataset = await streamedDataset(client, config);
    if (dataset.modality !== "image") throw new Error("pictures were written");
    const { train } = dataset.splits;
    const read = (index: number) => train.read(index, new Uint8Array(300), 0);
    await read(0);
    first.close();
    const waiting = [1, 2, 3].map(read);
    const second = await serve(spec, config, first.endpoint);
    await Promise.all(waiting);
    second.close();
    const later = [4, 5].map(read);
    const third = await serve(spec, config);
    client.move(third.endpoint);
    await Promise.all(later);
    expect(third.server.sent).toBe(2);
  });

  it("says why a file that is gone cannot be read", async () => {
    const other = temporaryFolder();
    const path = other.write("train/a/0.png", await picture(1));
    for (let index = 1; index < 9; index++) other.write(`train/a/${String(index)}.png`, await picture(index));
    const config = await configOf(`folder:${other.path}`);
    const { endpoint } = await serve(`folder:${other.path}`, config);
    const dataset = await streamedDataset(connect(endpoint), config);
    if (dataset.modality !== "image") throw new Error("pictures were written");
    const { rmSync } = await import("node:fs");
    rmSync(path);
    await expect(dataset.splits.train.read(0, new Uint8Array(300), 0)).rejects.toThrow(
      /the coordinator, which streams the samples: image .* cannot be read \(ENOENT\)/,
    );
    expect(failures.pop()).toMatch(/image .* cannot be read/);
    writeFileSync(path, await picture(1));
  });

  it("reads a few samples at a time, the peers in turn, and refuses what it has not", async () => {
    const config = await configOf(spec);
    const order: string[] = [];
    const dataset = await openDataset(spec, { decodeSize: config.data.decodeSize });
    const server = new SampleServer(
      dataset,
      config.data.decodeSize,
      RUN,
      (peer) => order.push(peer),
      ({ message }) => failures.push(message),
    );
    const want = (peer: string, indices: number[], given: object = {}) => {
      const want = { runId: RUN, indices, ...given };
      server.received(peer, { body: "want", want });
    };
    want(
      "a",
      Array.from({ length: 20 }, (_, index) => index),
    );
    want("b", [0, 1]);
    await expect.poll(() => order.length).toBe(22);
    // Not behind all that a waits for.
    expect(order.lastIndexOf("b")).toBeLessThan(18);
    expect(() => {
      want("a", [25]);
    }).toThrow("samples that the data set has not");
    expect(() => {
      want("a", [0], { key: true });
    }).toThrow(WireError);
    expect(() => {
      want("a", [0], { runId: "another" });
    }).toThrow("samples of run another");
    expect(() => {
      want("a", new Array<number>(5000).fill(0));
    }).toThrow("more samples than one peer may wait for");
  });
});
