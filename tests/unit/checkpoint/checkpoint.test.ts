import { execFileSync } from "node:child_process";
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import {
  CHECKPOINT_GROUPS,
  checkpointSteps,
  digests,
  digestsOf,
  latestCheckpoint,
  openRunDirectory,
  readCheckpoint,
  writeCheckpoint,
  type CheckpointState,
} from "../../../src/checkpoint/index.js";
import { PRESETS } from "../../../src/config/index.js";

let run = "";
beforeEach(() => {
  run = mkdtempSync(join(tmpdir(), "tandem-checkpoint-"));
});
afterEach(() => {
  rmSync(run, { recursive: true });
});

function state(step: number, knn: number | null = null): CheckpointState {
  const group = (value: number) => [
    { name: "w", dtype: "F32", shape: [2, 2], data: Float32Array.of(value, step, 3, 4) } as const,
  ];
  return {
    step,
    meta: {
      runId: "r",
      config: PRESETS.quickstart,
      manifestHash: "m",
      engineFingerprint: null,
      reproducible: true,
      architecture: "resnet-tiny",
      knn,
    },
    groups: { query: group(1), key: group(2), optimizer: group(3), buffers: group(4), queue: group(5) },
  };
}

describe("a checkpoint", () => {
  it("reads back whole, and sha256sum agrees with its list", async () => {
    const directory = await writeCheckpoint(run, state(7), { keep: 3 });
    expect(await readCheckpoint(directory)).toEqual(state(7));
    execFileSync("sha256sum", ["--check", "--strict", "checkpoint.sha256"], { cwd: directory });
  });

  it("has digests of names, shapes and values alone", async () => {
    const directory = await writeCheckpoint(run, state(7), { keep: 3 });
    expect(await digests(directory)).toEqual(digestsOf(state(7).groups));
    expect(digestsOf(state(8).groups).query).not.toBe(digestsOf(state(7).groups).query);
  });

  it("keeps the newest and the best by kNN", async () => {
    for (const [step, knn] of [
      [1, 0.2],
      [2, 0.9],
      [3, 0.3],
      [4, 0.3],
      [5, null],
    ] as const) {
      await writeCheckpoint(run, state(step, knn), { keep: 2 });
    }
    expect(await checkpointSteps(run)).toEqual([2, 4, 5]);
  });

  it.each([...CHECKPOINT_GROUPS.map((group) => `${group}.safetensors`), "checkpoint.json", "checkpoint.sha256"])(
    "is refused where one byte of %s is another, with the file's name",
    async (name) => {
      const directory = await writeCheckpoint(run, state(7), { keep: 3 });
      const path = join(directory, name);
      const bytes = readFileSync(path);
      bytes[bytes.length >> 1] ^= 1;
      writeFileSync(path, bytes);
      await expect(readCheckpoint(directory)).rejects.toMatchObject({ name: "UserError", code: "CHECKPOINT_CORRUPT" });
    },
  );

  it.each(["query.safetensors", "checkpoint.sha256"])("is refused without %s, or with half of it", async (name) => {
    const directory = await writeCheckpoint(run, state(7), { keep: 3 });
    truncateSync(join(directory, name), 20);
    await expect(readCheckpoint(directory)).rejects.toMatchObject({ code: "CHECKPOINT_CORRUPT" });
    rmSync(join(directory, name));
    await expect(readCheckpoint(directory)).rejects.toMatchObject({ code: "CHECKPOINT_CORRUPT" });
  });

  it("gives way to the one before where it is not whole", async () => {
    const old = await writeCheckpoint(run, state(1), { keep: 3 });
    const torn = await writeCheckpoint(run, state(2), { keep: 3 });
    truncateSync(join(torn, "key.safetensors"), 20);
    const skipped: string[] = [];
    expect(await latestCheckpoint(run, ({ message }) => skipped.push(message))).toBe(old);
    expect(skipped).toHaveLength(1);
    truncateSync(join(old, "key.safetensors"), 20);
    await expect(latestCheckpoint(run, () => undefined)).rejects.toMatchObject({ code: "CHECKPOINT_CORRUPT" });
  });

  it("gives way to the one before where it is another step's, or cannot be read", async () => {
    const old = await writeCheckpoint(run, state(1), { keep: 3 });
    const newer = join(run, "checkpoints/step-2");
    cpSync(old, newer, { recursive: true });
    const reasons: string[] = [];
    const say = ({ message }: Error) => reasons.push(message);
    expect(await latestCheckpoint(run, say)).toBe(old);
    expect(reasons.pop()).toContain("it is of step 1, whatever its folder's name says");
    expect(await writeCheckpoint(run, state(2), { keep: 3 })).toBe(newer);
    expect(await readCheckpoint(newer)).toEqual(state(2));

    rmSync(join(newer, "key.safetensors"));
    mkdirSync(join(newer, "key.safetensors"));
    expect(await latestCheckpoint(run, say)).toBe(old);
    expect(reasons.pop()).toContain("key.safetensors: it cannot be read (EISDIR");
  });

  it("of another version of Tandem is told as that, since it is sound", async () => {
    const { meta, ...rest } = state(4);
    const { architecture, ...older } = meta;
    expect(architecture).toBe("resnet-tiny");
    await writeCheckpoint(run, { ...rest, meta: older as typeof meta }, { keep: 3 });
    await expect(latestCheckpoint(run, () => undefined)).rejects.toMatchObject({
      code: "CHECKPOINT_VERSION",
      message: expect.stringMatching(
        /was written by another version of Tandem \(meta\.architecture: .*use that version$/,
      ),
    });
  });

  it("replaces a torn one of the same step, and clears what a killed writer left", async () => {
    const torn = await writeCheckpoint(run, state(2), { keep: 3 });
    truncateSync(join(torn, "key.safetensors"), 20);
    mkdirSync(join(run, "checkpoints", ".tmp-step-9-dead"));
    await writeCheckpoint(run, state(2), { keep: 3 });
    expect(await readCheckpoint(torn)).toEqual(state(2));
    expect(readdirSync(join(run, "checkpoints"))).toEqual(["step-2"]);
  });

  it("that cannot be written is told with its step and the remedy", async () => {
    writeFileSync(join(run, "checkpoints"), "a file where the folder belongs");
    await expect(writeCheckpoint(run, state(2), { keep: 3 })).rejects.toMatchObject({
      code: "CHECKPOINT_WRITE",
      message: expect.stringContaining("step 2"),
    });
  });

  it("is missing, in plain words, in a folder that holds none", async () => {
    await expect(latestCheckpoint(run)).rejects.toMatchObject({ code: "CHECKPOINT_MISSING" });
    await expect(readCheckpoint(run)).rejects.toMatchObject({ code: "CHECKPOINT_MISSING" });
  });
});

describe("a run directory", () => {
  const identity = { config: PRESETS.quickstart, manifestHash: "hash-of-the-data" };

  it("belongs to one run", async () => {
    await openRunDirectory(run, { ...identity, resume: false, id: "run" });
    await expect(openRunDirectory(run, { ...identity, resume: false, id: "run" })).rejects.toMatchObject({
      code: "RUN_EXISTS",
    });
    await openRunDirectory(run, { ...identity, resume: true });
  });

  it("is resumed with its own config and data alone", async () => {
    await expect(openRunDirectory(run, { ...identity, resume: true })).rejects.toMatchObject({ code: "RUN_MISSING" });
    await openRunDirectory(run, { ...identity, resume: false, id: "run" });
    const config = { ...PRESETS.quickstart, seed: 5 };
    await expect(openRunDirectory(run, { ...identity, config, resume: true })).rejects.toThrow(/seed = 0, and now 5/);
    const other = { ...identity, manifestHash: "other", resume: true } as const;
    await expect(openRunDirectory(run, other)).rejects.toMatchObject({ code: "MANIFEST_MISMATCH" });
  });

  it("says so where it cannot be written", async () => {
    writeFileSync(join(run, "file"), "");
    const error = openRunDirectory(join(run, "file", "run"), { ...identity, resume: false, id: "run" });
    await expect(error).rejects.toMatchObject({ code: "RUN_DIRECTORY" });
    expect(existsSync(join(run, "file", "run"))).toBe(false);
  });
});
