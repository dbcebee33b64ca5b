/** `tandem explain` of real runs: one that waits for samples, one with a slow worker, one to which things happen; and of what is hardly a run. */
import { appendFileSync, cpSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it, vi } from "vitest";
import { CONFIG_KEYS } from "../../src/config/index.js";
import { eventsOf, kill, ownProcesses, SMALL_RUN, start, stepsOf, tandem, temporaryFolder } from "./tandem.js";

const folder = temporaryFolder();

interface Told {
  readonly phase: string;
  readonly limit: string | null;
  readonly repeatedSteps: number;
  readonly crashes: number;
  readonly stages: Readonly<Record<string, number>>;
  readonly clock: Readonly<Record<string, number>>;
  readonly findings: readonly { readonly kind: string; readonly seen: string; readonly why: string; readonly tries: readonly string[]; readonly gain: number | null }[]; // prettier-ignore
}

async function explained(directory: string): Promise<Told> {
  const { code, stdout, stderr } = await tandem(["explain", directory, "--json"]);
  expect(code, stderr).toBe(0);
  const told = JSON.parse(stdout) as Told;
  const sum = (shares: Readonly<Record<string, number>>) =>
    Object.values(shares).reduce((all, share) => all + share, 0);
  expect(sum(told.stages)).toBeCloseTo(1, 6);
  expect(sum(told.clock)).toBeCloseTo(1, 6);
  const gains = told.findings.map(({ gain }) => gain ?? -1);
  expect(gains).toEqual(gains.toSorted((one, other) => other - one));
  expect(Math.max(...gains)).toBeLessThanOrEqual(1);
  for (const { tries } of told.findings) for (const text of tries) onlyWhatThereIs(text);
  return told;
}

/** No key and no flag is made up. */
function onlyWhatThereIs(text: string): void {
  const groups = CONFIG_KEYS.filter(({ isGroup }) => isGroup).map(({ name }) => name);
  for (const [name] of text.matchAll(/\b[a-z]+\.[a-z][A-Za-z.]*[A-Za-z]/g))
    if (groups.includes(name.split(".")[0] ?? "")) expect(CONFIG_KEYS.map((key) => key.name)).toContain(name);
  for (const [flag] of text.matchAll(/--[a-z][a-z-]+/g)) expect(FLAGS).toContain(flag);
}

const FLAGS = (
  await Promise.all(
    [["train"], ["coordinator"], ["worker"], ["bench", "step"], ["data", "shard"], ["data", "inspect"]].map((command) =>
      tandem([...command, "--help"]),
    ),
  )
).flatMap(({ stdout }) => stdout.match(/--[a-z][a-z-]+/g) ?? []);

const findingOf = ({ findings }: Told, kind: string) => findings.find((finding) => finding.kind === kind);

describe("explain", { timeout: 60_000 }, () => {
  it("finds that a run waits for samples", async () => {
    const out = join(folder, "loading");
    const large = ["--set", "data.spec=synthetic:size=128,train=400,test=40", "--set", "data.cacheMiB=0"];
    const run = await tandem(["train", ...SMALL_RUN, ...large, "--steps=16", "--workers=1", "--ui=off", "--out", out]);
    expect(run.code, run.stderr).toBe(0);
    const told = await explained(out);
    expect(told).toMatchObject({ phase: "finished", limit: "loading" });
    expect(told.findings[0]).toMatchObject({ kind: "loading" });
    expect(told.findings[0]?.gain).toBeGreaterThan(0.3);
    expect(told.findings[0]?.tries[0]).toMatch(
      /^a higher data\.cacheMiB \(now 0; --resume --set changes it\): it holds 0 /,
    );
    expect(findingOf(told, "learning")?.why).toMatch(/^fewer than 100 steps/);
    // Nothing is left to do, and nothing is lost by asking for it.
    const again = await tandem(["train", "--resume", "--workers=1", "--ui=off", "--out", out]);
    expect([again.code, again.stderr]).toEqual([0, expect.stringContaining("all 16 steps were made before")]);
    expect(again.stdout).toContain(`checkpoint  ${join(out, "checkpoints", "step-16")}\n`);
  });

  it("finds who is slow, while the run goes on and after", async () => {
    const out = join(folder, "slow");
    const run = start(["train", ...SMALL_RUN, "--steps=40", "--workers=2", "--ui=off", "--out", out]);
    await vi.waitUntil(() => stepsOf(out) > 2, { timeout: 30_000 });
    const slow = ownProcesses(run.process.pid, "worker").at(-1) ?? 0;
    const pausing = setInterval(() => {
      process.kill(slow, "SIGSTOP");
      setTimeout(() => process.kill(slow, "SIGCONT"), 120);
    }, 150);
    await vi.waitUntil(() => eventsOf(out).some(({ kind }) => kind === "stages"), { timeout: 20_000 });
    expect((await explained(out)).phase).toBe("running");
    await vi.waitUntil(() => stepsOf(out) >= 40, { timeout: 40_000 });
    clearInterval(pausing);
    expect((await run.ended).code).toBe(0);
    const told = await explained(out);
    const [first] = told.findings;
    expect(first).toMatchObject({ kind: "straggler" });
    expect(first?.seen).toContain(`(process ${String(slow)} on `);
    expect(first?.tries).toContain(`SIGTERM to process ${String(slow)} there lets the worker go in order; the others take its ranks, with the same result`); // prettier-ignore
    expect(first?.gain).toBeGreaterThan(0.1);
  });

  it("finds what it has cost that a worker and the coordinator were killed", async () => {
    const out = join(folder, "killed");
    const often = ["--set", "checkpoint.everySteps=15", "--set", "evaluation.everyEpochs=5"];
    const run = start(["train", ...SMALL_RUN, ...often, "--steps=60", "--workers=2", "--ui=off", "--out", out]);
    await vi.waitUntil(() => stepsOf(out) > 8, { timeout: 30_000 });
    kill(ownProcesses(run.process.pid, "worker").slice(0, 1));
    const hasLeft = () => eventsOf(out).some(({ kind }) => kind === "worker-left");
    await vi.waitUntil(() => hasLeft() && stepsOf(out) > 17, { timeout: 30_000 });
    kill(ownProcesses(run.process.pid, "coordinator"));
    expect((await run.ended).code).toBe(0);
    const told = await explained(out);
    expect(told).toMatchObject({ phase: "finished", crashes: 1 });
    expect(told.repeatedSteps).toBeGreaterThan(0);
    expect(told.repeatedSteps).toBeLessThanOrEqual(15);
    const crash = findingOf(told, "crashes");
    expect(crash?.seen).toContain(`${String(told.repeatedSteps)} step`);
    expect(crash?.gain).toBeCloseTo(told.clock["down"] + told.clock["repeated"], 6);
    expect(findingOf(told, "lost-workers")?.seen).toMatch(
      /^1 time: worker-\d \(.*\); the steps in which it happened took /,
    );
    expect(findingOf(told, "evaluations")?.seen).toMatch(/^2 evaluations of [\d.]+ m?s each/);
    expect(findingOf(told, "learning")?.seen).toMatch(/kNN accuracy [\d.]+% at step 0, [\d.]+% at step 60/);
  });

  it("reads torn lines, and of a run without events says so in one line", async () => {
    const out = join(folder, "loading");
    const before = await explained(out);
    appendFileSync(join(out, "events.jsonl"), '{"time":"2026-01-01T00:00:00.000Z","kind":"ste');
    expect(await explained(out)).toEqual(before);
    const empty = join(folder, "empty");
    mkdirSync(empty);
    cpSync(join(out, "config.yaml"), join(empty, "config.yaml"));
    const { code, stdout, stderr } = await tandem(["explain", empty]);
    expect([code, stdout]).toEqual([2, ""]);
    expect(stderr).toBe(`tandem: ${empty} has no events yet: nothing has happened that could be explained\n`);
    const plain = await tandem(["explain", out]);
    expect(plain.stdout).toMatch(/^run {8}.*: finished at step 16 of 16, .* by the clock\n/);
    expect(plain.stdout).toMatch(/\n1\. workers wait for samples \(up to [\d.]+% of the time\)\n {3}seen {2}/);
  });
});
