/** What comes after a run: its encoder exported, begun from again, embedded and evaluated. */
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, expect, it } from "vitest";
import { decodeSafetensors } from "../../src/checkpoint/index.js";
import { checkpointOf, eventsOf, SMALL_RUN, tandem, temporaryFolder } from "./tandem.js";

const folder = temporaryFolder();
const run = join(folder, "run");
const weights = join(folder, "encoder.safetensors");

async function succeeded(args: readonly string[]): Promise<string> {
  const { code, stdout, stderr } = await tandem(args);
  expect(code, stderr).toBe(0);
  return stdout;
}

beforeAll(async () => {
  await succeeded(["train", ...SMALL_RUN, "--steps", "2", "--workers", "1", "--out", run]);
  await succeeded(["export", "--checkpoint", run, "--out", weights]);
});

it("a run begins with an export's backbone, and is resumed with no other weights", { timeout: 60_000 }, async () => {
  const again = join(folder, "again");
  // A step that rounds away: what was not 0 is after it what it was before.
  const still = ["--set", "optimizer.learningRate=1e-37", "--set", "optimizer.weightDecay=0"];
  const flags = [...SMALL_RUN, ...still, "--steps", "2", "--stop-after", "1", "--workers", "1"];
  await succeeded(["train", ...flags, "--init", weights, "--out", again]);
  expect(readFileSync(join(again, "init.safetensors")).equals(readFileSync(weights))).toBe(true);
  expect(eventsOf(again).find(({ kind }) => kind === "initialised")).toMatchObject({ matched: 45, missing: [] });
  const back = join(folder, "back.safetensors");
  await succeeded(["export", "--checkpoint", again, "--out", back]);
  const given = new Map(decodeSafetensors(readFileSync(weights)).map((tensor) => [tensor.name, tensor.data]));
  for (const { name, data } of decodeSafetensors(readFileSync(back))) {
    if (/running|num_batches/.test(name)) continue;
    const before = given.get(name);
    const moved = (data as Float32Array).filter((value, i) => !(Math.abs(value - Number(before?.[i])) < 1e-30));
    expect(moved, name).toHaveLength(0);
  }
  writeFileSync(join(folder, "other.safetensors"), readFileSync(back));
  const refused = await tandem(["train", "--resume", "--out", again, "--init", join(folder, "other.safetensors")]);
  expect(refused.code).toBe(2);
  expect(refused.stderr).toContain("was begun with weights of sha256");
  await succeeded(["train", "--resume", "--out", again, "--init", weights]);
  expect((await checkpointOf(again)).step).toBe(2);
});

it("is embedded, probed, fine-tuned and drawn", { timeout: 60_000 }, async () => {
  const features = join(folder, "features", "test.npy");
  expect(await succeeded(["embed", "--checkpoint", run, "--split", "test", "--out", features])).toContain("40 × 128");
  expect(readFileSync(features)).toHaveLength(128 + 40 * 128 * 4);
  expect(readFileSync(join(folder, "features", "test.labels.npy"))).toHaveLength(128 + 40 * 4);
  expect(readFileSync(join(folder, "features", "test.jsonl"), "utf8").split("\n")).toHaveLength(41);
  const report = async (args: readonly string[]) =>
    JSON.parse(await succeeded(["evaluate", ...args, "--checkpoint", run, "--json"])) as Record<string, unknown>;
  const half = ["linear", "--labels", "50%", "--keep", join(folder, "kept")];
  const probed = await report(half);
  expect(probed).toMatchObject({ step: 2, train: 200, test: 40 });
  expect(readdirSync(join(folder, "kept"))).toHaveLength(2);
  expect(await report(half)).toEqual(probed);
  expect(await report(["finetune", "--epochs", "1", "--eager"])).toMatchObject({ train: 400, test: 40 });
  expect(await report(["geometry"])).toMatchObject({ split: "test", samples: 40 });
  await succeeded(["evaluate", "plot", "--checkpoint", run, "--out", join(folder, "plot.svg")]);
  expect(existsSync(join(folder, "plot.svg"))).toBe(true);
});

it.each([
  ["an export to nowhere", ["export", "--checkpoint", run], "--out is missing"],
  ["a format unknown", ["embed", "--checkpoint", run, "--out", "features.csv"], "the ending says no format"],
  ["a share of labels without %", ["evaluate", "linear", "--checkpoint", run, "--labels", "0.1"], "give a percentage"],
  ["a plot of another format", ["evaluate", "plot", "--checkpoint", run, "--out", "p.png"], "the plot is an SVG file"],
  ["a folder without a name", ["evaluate", "linear", "--checkpoint", run, "--keep", ""], "--keep is empty"],
  ["an empty batch", ["evaluate", "finetune", "--checkpoint", run, "--batch", "0"], "give a whole number from 1 on"],
  [
    "a file that is no safetensors",
    ["train", ...SMALL_RUN, "--init", join(run, "config.yaml"), "--out", join(folder, "none")],
    "cannot be used",
  ],
  [
    "weights of another architecture",
    ["train", ...SMALL_RUN, "--init", weights, "--encoder", "resnet18", "--out", join(folder, "none")],
    "has shape",
  ],
])("%s is refused in one line", { timeout: 60_000 }, async (_, args, message) => {
  const { code, stderr } = await tandem(args);
  expect(code).toBe(2);
  expect(stderr).toContain(message);
  expect(stderr.trim().split("\n")).toHaveLength(1);
  expect(existsSync(join(folder, "none"))).toBe(false);
});
