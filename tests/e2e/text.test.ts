/** Runs on texts over real processes: they learn, leave the same bits for any number of workers, and want one tokenizer. */
import { spawnSync } from "node:child_process";
import { appendFileSync, copyFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { beforeAll, describe, expect, it, vi } from "vitest";
import { checkpointOf, IS_FULL, start, tandem, temporaryFolder } from "./tandem.js";

const folder = temporaryFolder();
const EXAMPLE = fileURLToPath(new URL("../../examples/text-corpus.js", import.meta.url));
/** `npm run invariance` trains on twice as many, and wants more of them. */
const [TRAIN, TEST, LEAST_KNN] = IS_FULL ? [1200, 200, 65] : [640, 160, 50];
const DATA = "text:train.jsonl,test=test.jsonl";
const RUN = [
  ...["--preset", "text", "--data", DATA, "--tokenizer", "tokenizer.json", "--batch", "16", "--seed", "7"],
  ...["--set", "data.maxLength=32", "--set", "checkpoint.everySteps=0"],
];
const SHORT = [...RUN, "--set", "evaluation.everyEpochs=0", "--set", "moco.queueSize=100", "--steps", "3"];

beforeAll(() => {
  expect(spawnSync(process.execPath, [EXAMPLE, folder, String(TRAIN), String(TEST)]).status).toBe(0);
});

describe("a run on texts", () => {
  it("learns which words belong together", { timeout: 240_000 }, async () => {
    const simclr = ["--method", "simclr", "--set", "moco.temperature=0.1", "--set", "evaluation.everyEpochs=4"];
    const flags = [
      ...RUN,
      ...simclr,
      "--set",
      "evaluation.linear=true",
      "--epochs",
      "4",
      "--workers",
      "1",
      "--out",
      "learnt",
    ];
    const { code, stdout, stderr } = await tandem(["train", ...flags], folder);
    expect(code, stderr).toBe(0);
    expect(stderr).not.toContain("runs eagerly");
    const [, trained, untrained] = /kNN accuracy ([\d.]+)% \(([\d.]+)% at step 0\)/.exec(stdout + stderr) ?? [];
    // Of eight topics chance finds 12.5%.
    expect(Number(trained)).toBeGreaterThan(LEAST_KNN);
    expect(Number(trained)).toBeGreaterThan(Number(untrained) + 15);
    const knn = await tandem(["evaluate", "knn", "--checkpoint", "learnt", "--k", "20", "--json"], folder);
    expect(JSON.parse(knn.stdout)).toMatchObject({ test: TEST, train: TRAIN });
    expect(100 * (JSON.parse(knn.stdout) as { accuracy: number }).accuracy).toBeCloseTo(Number(trained), 1);
    const linear = await tandem(["evaluate", "linear", "--checkpoint", "learnt", "--seed", "7", "--json"], folder);
    expect(JSON.parse(linear.stdout)).toMatchObject({ test: TEST, train: TRAIN, copies: 0 });
    const { top1 } = JSON.parse(linear.stdout) as { top1: number };
    expect(top1).toBeGreaterThan(LEAST_KNN / 100);
    // The workers' features, and a process of its own.
    expect(stderr).toContain(`linear accuracy ${(100 * top1).toFixed(1)}% top-1`);
    expect((await tandem(["status", "learnt"], folder)).stdout).toContain(`${(100 * top1).toFixed(1)}% top-1`);
    const finetune = await tandem(["evaluate", "finetune", "--checkpoint", "learnt"], folder);
    expect(finetune).toMatchObject({
      code: 2,
      stderr: expect.stringContaining("evaluate linear takes texts too") as string,
    });
    writeFileSync(join(folder, "pairs.csv"), "query,key\nmorning,dawn\nevening,dusk\n");
    const pairs = await tandem(["evaluate", "knn", "--checkpoint", "learnt", "--data", "pairs:pairs.csv"], folder);
    expect(pairs).toMatchObject({ code: 2, stderr: expect.stringContaining("(label=COLUMN) and test=FILE") as string });
    const geometry = await tandem(["evaluate", "geometry", "--checkpoint", "learnt", "--json"], folder);
    const { projection, ...told } = JSON.parse(geometry.stdout) as { projection: { alignment: number } };
    expect(told).toMatchObject({ split: "test", samples: TEST });
    // Two views of one text lie nearer to each other than texts at random, which are 2 apart where they are spread evenly.
    expect(projection.alignment).toBeGreaterThan(0);
    expect(projection.alignment).toBeLessThan(1);
  });

  it(
    "refuses a worker whose tokenizer is another, and takes one whose copy is the same",
    { timeout: 120_000 },
    async () => {
      for (const name of ["other.json", "same.json"]) copyFileSync(join(folder, "tokenizer.json"), join(folder, name));
      appendFileSync(join(folder, "other.json"), "\n");
      const coordinator = start(["coordinator", ...SHORT, "--listen", "tcp://127.0.0.1:*", "--out", "served"], folder);
      const at = () => /tcp:\/\/127\.0\.0\.1:\d+/.exec(coordinator.stdout() + coordinator.stderr())?.[0];
      await vi.waitUntil(at, { timeout: 60_000 });
      const worker = (file: string) => tandem(["worker", "--connect", at() ?? "", "--tokenizer", file], folder);
      const refused = await worker("other.json");
      expect(refused.code).toBe(2);
      expect(refused.stderr).toMatch(/tandem: the tokenizer other\.json is not the run's: its sha256 is [\da-f]{12}…/);
      const taken = await worker("same.json");
      expect(taken.code, taken.stderr).toBe(0);
      expect((await coordinator.ended).code).toBe(0);
    },
  );

  it("leaves with two workers the digests of the one", { timeout: 120_000 }, async () => {
    const { code, stderr } = await tandem(["train", ...SHORT, "--workers", "2", "--out", "two"], folder);
    expect(code, stderr).toBe(0);
    const [one, two] = await Promise.all(["served", "two"].map((out) => checkpointOf(join(folder, out))));
    expect(two.sha256).toEqual(one.sha256);
  });

  it("is looked at by data inspect, which draws no sheet of it", { timeout: 60_000 }, async () => {
    const { stdout } = await tandem(["data", "inspect", DATA], folder);
    expect(stdout).toMatch(
      new RegExp(
        `^classes +8\\ntrain +${TRAIN} texts\\n +astronomy ${TRAIN / 8}, clinic ${TRAIN / 8}, .*\\n` +
          " +\\d+ to \\d+ \\(median \\d+\\) characters$",
        "m",
      ),
    );
    const sheet = await tandem(["data", "inspect", DATA, "--sheet", "sheet.png"], folder);
    expect(sheet.code).toBe(2);
    expect(sheet.stderr).toContain("--sheet draws pictures");
  });
});
