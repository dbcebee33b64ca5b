import { describe, expect, it } from "vitest";
import { Agenda } from "../../../src/cli/simulate/agenda.js";
import { curves, pointOf, type Plan } from "../../../src/cli/simulate/curves.js";
import { Network, Way } from "../../../src/cli/simulate/network.js";
import { Processor } from "../../../src/cli/simulate/processor.js";
import { assumedRankTimes, meanRankMs } from "../../../src/cli/simulate/profile.js";
import { recommend } from "../../../src/cli/simulate/recommendation.js";
import { simulateRun } from "../../../src/cli/simulate/run.js";
import type { Scenario } from "../../../src/cli/simulate/scenario.js";

/** Of a packet's 1514 bytes 1448 are payload. */
const SHARE = 1448 / 1514;
/** 16 tensors of a quarter of a million values: gradients of 16 MB. */
const VALUES = 4e6;

/** Machines whose arithmetic and messages cost nothing, and ranks of 100 ms. */
const IDEAL: Scenario = {
  ...{ arrangement: "embedded", devices: 1, devicesPerMachine: 1, mostAggregators: 32, worldSize: 1 },
  payload: {
    ...{ tensors: new Array<number>(16).fill(VALUES / 16), gradients: "fp32", weights: "fp32", keyBytesPerRank: 0 },
  },
  network: { gbits: 1, latencyMs: 0, oversubscription: 1, sharesMemory: true },
  costs: { hopMs: 0.05, messageMs: 0, ioGbytes: 1e6, sumMs: 0, updateMs: 0, loadMs: 0 },
  rankTimes: [{ forwardMs: 40, backwardMs: 60 }],
  ...{ stragglers: { share: 0, factor: 1 }, overlaps: false, missingMachines: 0, seed: 1 },
};
/** That a gradient, or the weights, take on a link of 1 Gbit/s, in ms. */
const TRANSFER = (VALUES * 4 * 8) / 1e6 / SHARE;

const PLAN: Plan = {
  scenario: IDEAL,
  ...{ arrangements: ["embedded", "sharded"], devices: [1, 2, 4], ranks: { kind: "weak" }, batchSize: 32 },
  failures: { failuresPerDay: 0, interruptionsPerDay: 0, replaceSeconds: 180, deadAfterMs: 10_000 },
  ...{ samples: 64_000, price: 2 },
};

function stepOf(changes: Partial<Scenario>): number {
  const { devices = 1, worldSize = devices } = changes;
  return simulateRun({ ...IDEAL, ...changes, worldSize }).stepMs;
}

describe("a simulated step", () => {
  it.each([1, 2, 4, 8])("takes what the bytes of %i workers take on the coordinator's link", (devices) => {
    // A little less: who has the weights first begins while others still wait for theirs.
    const share = stepOf({ devices }) / (100 + 2 * devices * TRANSFER);
    expect(share).toBeLessThan(1.005);
    expect(share).toBeGreaterThan(0.97);
  });

  it("takes half as long on its way in bf16, and where the link is twice as fast", () => {
    const payload = { ...IDEAL.payload, gradients: "bf16", weights: "bf16" } as const;
    const half = 100 + 4 * TRANSFER;
    expect(stepOf({ devices: 4, payload }) / half).toBeCloseTo(1, 1);
    expect(stepOf({ devices: 4, network: { ...IDEAL.network, gbits: 2 } }) / half).toBeCloseTo(1, 1);
  });

  it("takes as long for any number of workers with an aggregator beside each, but for its own shard, which stays there", () => {
    for (const devices of [2, 4, 8]) {
      const travels = (devices - 1) / devices;
      // Gradients and weights go both ways at once, all at the same time.
      const share = stepOf({ devices, arrangement: "sharded" }) / (100 + 2 * travels * TRANSFER);
      expect(share).toBeGreaterThan(0.99);
      expect(share).toBeLessThan(1.15);
    }
  });

  it("takes the slower switch's time where all links together are more than it carries", () => {
    const network = { ...IDEAL.network, oversubscription: 4 };
    const [alone, shared] = [
      stepOf({ devices: 4, arrangement: "sharded" }),
      stepOf({ devices: 4, arrangement: "sharded", network }),
    ];
    // A fifth machine is the coordinator's, whose link counts too.
    expect((shared - 100) / (alone - 100)).toBeGreaterThan(2);
  });

  it("waits for the slowest, and a machine that is missing is made up for", () => {
    const stragglers = { share: 1, factor: 1.5 };
    expect(stepOf({ devices: 2, stragglers }) - stepOf({ devices: 2 })).toBeCloseTo(50, 0);
    // Somebody does two ranks.
    const fast = { devices: 4, network: { ...IDEAL.network, gbits: 1000 } };
    expect(stepOf({ ...fast, missingMachines: 1 }) - stepOf(fast)).toBeCloseTo(100, -1);
  });

  it("sums a machine's devices before anything leaves it", () => {
    const machines = { devicesPerMachine: 4, devices: 8 };
    const sharded = stepOf({ ...machines, arrangement: "sharded" });
    const hierarchical = stepOf({ ...machines, arrangement: "hierarchical" });
    expect((hierarchical - 100) / (sharded - 100)).toBeLessThan(0.3);
  });

  it("overlaps gradients with the backward pass where they leave shard by shard", () => {
    const sharded = { devices: 4, arrangement: "sharded" } as const;
    expect(stepOf({ ...sharded, overlaps: true })).toBeLessThan(stepOf(sharded));
  });

  it("is the same again", () => {
    const rankTimes = assumedRankTimes(100, 0.2, 3);
    const noisy = { devices: 8, rankTimes };
    expect(stepOf(noisy)).toBe(stepOf(noisy));
    expect(stepOf(noisy)).not.toBe(stepOf({ ...noisy, seed: 2 }));
  });
});

describe("curves", () => {
  it("compare with one device that has everything on its machine", () => {
    const points = curves(PLAN);
    expect(points.map(({ arrangement, devices }) => `${arrangement} ${String(devices)}`)).toEqual(
      ["embedded", "sharded"].flatMap((name) => ["1", "2", "4"].map((count) => `${name} ${count}`)),
    );
    const [, , , alone, two] = points;
    expect(alone?.efficiency).toBe(1);
    expect(two?.efficiency).toBeCloseTo((two?.imagesPerSecond ?? 0) / (2 * (alone?.imagesPerSecond ?? 1)), 10);
    // Steps of 100 ms, and what passes through memory.
    expect(alone?.epochSeconds).toBeGreaterThan((64_000 / 32) * 0.1);
    expect(alone?.epochSeconds).toBeLessThan((64_000 / 32) * 0.105);
    expect(alone?.epochCost).toBeCloseTo(((alone?.epochSeconds ?? 0) * 2) / 3600, 10);
  });

  it("count failures: what is given up late costs more than what is announced, and both more than nothing", () => {
    const with4 = (failures: Partial<Plan["failures"]>) =>
      pointOf({ ...PLAN, failures: { ...PLAN.failures, ...failures } }, "sharded", 4, null).effectiveStepMs;
    const [none, announced, silent] = [with4({}), with4({ interruptionsPerDay: 24 }), with4({ failuresPerDay: 24 })];
    expect(announced).toBeGreaterThan(none);
    expect(silent).toBeGreaterThan(announced);
  });

  it("become a recommendation: as many devices as are worth it, and why not more", () => {
    const points = curves(PLAN);
    const { point, words } = recommend(PLAN, points, 0.01);
    expect(point.imagesPerSecond).toBe(Math.max(...points.map(({ imagesPerSecond }) => imagesPerSecond)));
    expect(words[1]).toContain("the most devices asked for");
    const strict = recommend(PLAN, points, 0.99);
    expect(strict.point.devices).toBe(1);
    expect(strict.words[1]).toMatch(
      /^With 2 devices efficiency falls to \d+% \(sharded\): devices compute \d+% of the time, and (nothing else is busy for more than|what is busiest beside them is the) /,
    );
    const hopeless = recommend(PLAN, points.slice(1, 3), 0.99);
    expect(hopeless.words[1]).toMatch(/^No number of devices reaches 99%/);
    expect(recommend(PLAN, points.slice(5), 0.01)).toMatchObject({ gradients: "bf16", weights: "fp32" });
  });
});

it("rank times have the mean and the spread that they were given", () => {
  const times = assumedRankTimes(300, 0.1, 7).map(({ forwardMs, backwardMs }) => forwardMs + backwardMs);
  expect(meanRankMs(assumedRankTimes(300, 0.1, 7))).toBeCloseTo(300, -1);
  const deviation = Math.sqrt(times.reduce((sum, ms) => sum + (ms - 300) ** 2, 0) / times.length);
  expect(deviation / 300).toBeCloseTo(0.1, 1);
  expect(assumedRankTimes(300, 0, 7)).toHaveLength(1);
});

describe("a network", () => {
  const options = { gbits: 1, latencyMs: 1, oversubscription: 1, sharesMemory: true };
  const second = (1e9 / 8) * SHARE;

  it("keeps the order of a connection, though small messages wait for nobody else's", () => {
    const agenda = new Agenda();
    const network = new Network(agenda, options, 0, 0);
    const [a, b] = [0, 1].map(() => network.newEndpoint(network.newMachine()));
    const [one, other] = [new Way(a, b), new Way(a, b)];
    const heard: string[] = [];
    const arrive = (name: string) => () => heard.push(`${name} ${agenda.now.toFixed(0)}`);
    network.carry(one, second, 0, arrive("large"));
    network.carry(one, 10, 0, arrive("small behind it"));
    network.carry(other, 10, 0, arrive("small elsewhere"));
    while (agenda.next());
    expect(heard).toEqual(["small elsewhere 1", "large 1001", "small behind it 1001"]);
  });

  it("lets messages to one machine follow each other, and those to different ones go at once", () => {
    const agenda = new Agenda();
    const network = new Network(agenda, { ...options, latencyMs: 0 }, 0, 0);
    const [a, b, c, d] = [0, 1, 2, 3].map(() => network.newEndpoint(network.newMachine()));
    const times: number[] = [];
    const send = (from: typeof a, to: typeof a) => {
      network.carry(new Way(from, to), second, 0, () => times.push(Math.round(agenda.now)));
    };
    send(a, c);
    send(b, c);
    send(a, d);
    while (agenda.next());
    // Each of the first's two connections has half of its link; the second's takes what the receiver has left.
    expect(times.map((ms) => Math.round(ms / 125))).toEqual([13, 16, 16]);
  });
});

it("a processor takes one thing after another, and what it is charged beside", () => {
  const agenda = new Agenda();
  const processor = new Processor(agenda);
  const times: number[] = [];
  processor.post(5, () => {
    processor.charge(3);
    times.push(processor.time);
  });
  processor.post(2, () => times.push(processor.time));
  while (agenda.next());
  expect(times).toEqual([8, 10]);
  expect(processor.busyMs).toBe(10);
});
