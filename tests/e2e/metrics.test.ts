/** /metrics of coordinator and worker as Prometheus reads it, against the list in docs/metrics.md; the alerts and the dashboard that stand on it. */
import { execFileSync, spawnSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { parse, stringify } from "yaml";
import { SMALL_RUN, start, stepsOf, temporaryFolder, type Running } from "./tandem.js";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const MONITORING = join(ROOT, "k8s/components/monitoring");
const folder = temporaryFolder();
const out = join(folder, "run");
const running: Running[] = [];
const texts: string[] = [];

async function metricsOf(process: Running, accept = "*/*"): Promise<{ type: string; text: string }> {
  const [address = ""] = /http:\/\/127\.0\.0\.1:\d+/.exec(process.stderr()) ?? [];
  const response = await fetch(`${address}/metrics`, { headers: { accept } });
  expect(response.status).toBe(200);
  return { type: response.headers.get("content-type") ?? "", text: await response.text() };
}

/** The value of the one series of that name, with these labels. */
function value(text: string, series: string): number {
  const line = text.split("\n").find((candidate) => candidate.startsWith(`${series} `));
  return Number(line?.split(" ")[1]);
}

beforeAll(async () => {
  const flags = ["--steps=100000", "--set", "membership.minWorkers=1", "--set", "checkpoint.everySteps=5"];
  const own = ["--listen", "tcp://127.0.0.1:*", "--health", "127.0.0.1:0", "--out", out];
  const coordinator = start(["coordinator", ...SMALL_RUN, ...flags, ...own]);
  running.push(coordinator);
  await vi.waitUntil(() => coordinator.stderr().includes("listening at"), { timeout: 20_000 });
  const connect = /listening at (tcp:\S+)/.exec(coordinator.stderr())?.[1] ?? "";
  running.push(start(["worker", "--connect", connect, "--health", "127.0.0.1:0"]));
  await vi.waitUntil(() => stepsOf(out) > 12, { timeout: 40_000 });
  for (const process of running) texts.push((await metricsOf(process)).text);
}, 90_000);
afterAll(() => {
  for (const { process } of running) process.kill("SIGKILL");
});

describe("metrics", () => {
  it("count what the run does", async () => {
    const [coordinator = "", worker = ""] = texts;
    expect(value(coordinator, "tandem_step")).toBeGreaterThan(12);
    expect(value(coordinator, "tandem_planned_steps")).toBe(100_000);
    expect(value(coordinator, "tandem_step_duration_seconds_count")).toBe(value(coordinator, "tandem_step"));
    expect([value(coordinator, "tandem_workers"), value(coordinator, "tandem_devices")]).toEqual([1, 1]);
    expect(value(coordinator, "tandem_checkpoints_total")).toBeGreaterThanOrEqual(2);
    const ranks = value(coordinator, 'tandem_ranks_total{worker="worker-1"}');
    expect(ranks).toBeGreaterThanOrEqual(value(coordinator, "tandem_step"));
    expect(value(worker, "tandem_worker_connected")).toBe(1);
    expect(value(worker, "tandem_worker_ranks_total")).toBeGreaterThanOrEqual(ranks);
    const busy = value(worker, "tandem_worker_busy_ratio");
    expect(busy).toBeGreaterThan(0);
    expect(busy).toBeLessThanOrEqual(1);
    const stages = ["load", "forward", "backward", "wait"].map((stage) => value(worker, `tandem_worker_stage_seconds_total{stage="${stage}"}`)); // prettier-ignore
    expect(stages.every((seconds) => seconds > 0)).toBe(true);
    expect(value(worker, "tandem_worker_sent_bytes_total")).toBeGreaterThan(0);
    // Its series end with it.
    running[1]?.process.kill("SIGKILL");
    await vi.waitFor(async () => {
      const { text } = await metricsOf(running[0]);
      expect([value(text, "tandem_workers"), text.includes('worker="worker-1"')]).toEqual([0, false]);
      expect(value(text, "tandem_workers_left_total")).toBe(1);
    }, 30_000);
  });

  it("are OpenMetrics for those who ask for it", async () => {
    const process = running[0];
    const accept = "application/openmetrics-text; version=1.0.0,text/plain;q=0.5";
    const [open, plain] = await Promise.all([metricsOf(process, accept), metricsOf(process)]);
    expect(open.type).toContain("application/openmetrics-text");
    expect(open.text.trimEnd().endsWith("# EOF")).toBe(true);
    expect(open.text).toContain("# TYPE tandem_samples counter");
    expect(plain.type).toContain("text/plain");
    expect(plain.text).toContain("# TYPE tandem_samples_total counter");
  });

  it("are those that docs/metrics.md lists", () => {
    const listed = [...readFileSync(join(ROOT, "docs/metrics.md"), "utf8").matchAll(/^\|[^|]*\|/gm)]
      .flatMap(([cell]) => [...cell.matchAll(/`(tandem_\w+)`/g)].map(([, name]) => name))
      .sort();
    const exposed = texts
      .flatMap((text) => [...text.matchAll(/^# TYPE (tandem_\w+)/gm)].map(([, name]) => name))
      .sort();
    expect(listed).toEqual(exposed);
  });

  it("have the names that the alerts and the dashboard ask for", () => {
    const known = new Set(texts.flatMap((text) => [...text.matchAll(/^(tandem_\w+)/gm)].map(([, name]) => name)));
    for (const file of ["alerts.yaml", "grafana-dashboard.json"]) {
      const expressions = [...readFileSync(join(MONITORING, file), "utf8").matchAll(/"?expr"?: (.*)/g)];
      const asked = new Set(expressions.flatMap(([, text = ""]) => text.match(/tandem_\w+/g) ?? []));
      expect(asked.size).toBeGreaterThan(6);
      expect([...asked].filter((name) => !known.has(name))).toEqual([]);
    }
  });
});

const hasPromtool = spawnSync("promtool", ["--version"]).status === 0;
if (!hasPromtool) process.stderr.write("Prometheus' own checks are left out: apt-get install prometheus\n");

describe.runIf(hasPromtool)("promtool accepts", () => {
  it("the metrics of each process", () => {
    for (const text of texts) {
      // What prom-client's defaults are called is not ours.
      const own = text.replace(/^(# (HELP|TYPE) )?(nodejs|process)_.*\n/gm, "");
      expect(own).toContain("tandem_");
      const checked = spawnSync("promtool", ["check", "metrics"], { input: own, encoding: "utf8" });
      expect([checked.status, checked.stdout + checked.stderr]).toEqual([0, ""]);
    }
  });

  it("the alerts, which fire when they should and not otherwise", () => {
    const { spec } = parse(readFileSync(join(MONITORING, "alerts.yaml"), "utf8")) as { spec: object };
    writeFileSync(join(folder, "rules.yaml"), stringify(spec, { lineWidth: 0 }));
    const tests = join(folder, "alerts.test.yaml");
    writeFileSync(tests, readFileSync(join(MONITORING, "alerts.test.yaml")));
    expect(execFileSync("promtool", ["test", "rules", tests], { encoding: "utf8" })).toContain("SUCCESS");
  });
});
