/** `tandem top`: in a real terminal, for a script, by URL and by directory, with and without a dashboard; whatever is not there is one line. */
import { once } from "node:events";
import { spawn, type ChildProcess } from "node:child_process";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import {
  eventsOf,
  ownProcesses,
  PROGRAM,
  SMALL_RUN,
  start,
  stepsOf,
  tandem,
  temporaryFolder,
  type Running,
} from "./tandem.js";

const TERMINAL = fileURLToPath(new URL("terminal.py", import.meta.url));
const folder = temporaryFolder();
const out = join(folder, "run");
const LONG = [...SMALL_RUN, "--steps=100000", "--listen=tcp://127.0.0.1:*"];
const TOKEN = "a-token-of-some-length";

const told = (running: Running, pattern: RegExp) => pattern.exec(running.stderr())?.[1] ?? "";

async function serve(directory: string, ...more: string[]): Promise<readonly Running[]> {
  const coordinator = start(["coordinator", ...LONG, "--out", directory, ...more], undefined, {
    TANDEM_UI_TOKEN: TOKEN,
  });
  await vi.waitUntil(() => coordinator.stderr().includes("listening at"), { timeout: 30_000 });
  return [coordinator, start(["worker", "--connect", told(coordinator, /listening at (tcp:\S+)/)])];
}

interface Terminal {
  readonly process: ChildProcess;
  /** all that was written so far */
  readonly shown: () => string;
  readonly say: (line: string) => void;
  readonly ended: Promise<{ readonly code: number; readonly settings: string }>;
}

/** @param args of tandem */
function inTerminal(args: readonly string[], env: Readonly<Record<string, string>> = {}): Terminal {
  const all = [TERMINAL, "24", "100", process.execPath, PROGRAM, ...args];
  const child = spawn("python3", all, { env: { ...process.env, TERM: "xterm-256color", ...env } });
  let [shown, settings] = ["", ""];
  child.stdout.on("data", (bytes: Buffer) => (shown += bytes.toString()));
  child.stderr.on("data", (bytes: Buffer) => (settings += bytes.toString()));
  const ended = once(child, "close").then(([code]) => ({ code: code as number, settings }));
  return { process: child, shown: () => shown, say: (line) => child.stdin.write(`${line}\n`), ended };
}

const [ENTERED, LEFT] = ["\u001b[?1049h\u001b[?25l", "\u001b[?25h\u001b[?1049l"];

/** The lines of the last picture, without colours. */
function pictureOf({ shown }: Terminal): string[] {
  const last = shown().split("\u001b[H").at(-1) ?? "";
  return last.replace(/\u001b\[\??[\d;]*[A-Za-z]/g, "").split("\r\n");
}

let running: readonly Running[];
beforeAll(async () => {
  running = await serve(out, "--ui", "127.0.0.1:0");
  await vi.waitUntil(() => stepsOf(out) > 8, { timeout: 60_000 });
}, 90_000);
afterAll(() => {
  for (const { process } of running) process.kill("SIGKILL");
});

describe("in a terminal", { timeout: 40_000 }, () => {
  it("shows the run, follows it and the terminal's size, and leaves by q as if it had not been there", async () => {
    const terminal = inTerminal(["top", out], { TANDEM_UI_TOKEN: TOKEN });
    const step = () => Number(/^step +(\d+) of 100000/m.exec(pictureOf(terminal).join("\n"))?.[1]);
    await vi.waitUntil(() => step() > 0, { timeout: 10_000 });
    const first = step();
    await vi.waitUntil(() => step() > first, { timeout: 10_000 });
    const wide = pictureOf(terminal);
    expect(wide.length).toBeLessThanOrEqual(24);
    expect(wide.some((line) => /^worker-1 +at work +cpu +\d+ +[\d.]+ +[\d.]+ s +L*F+B+/.test(line)), wide.join("\n")).toBe(true); // prettier-ignore
    terminal.say("size 12 40");
    const narrow = () => {
      const lines = pictureOf(terminal);
      return lines.length > 5 && lines.length <= 12 && lines.every(({ length }) => length <= 40);
    };
    await vi.waitUntil(narrow, { timeout: 10_000 });
    expect(terminal.shown()).toContain("\u001b[32m");
    terminal.say("keys q");
    expect(await terminal.ended).toEqual({ code: 0, settings: "restored" });
    expect(terminal.shown().startsWith(ENTERED)).toBe(true);
    expect(terminal.shown().endsWith(LEFT)).toBe(true);
  });

  it.each(["Ctrl-C", "SIGTERM"])("leaves by %s, and has no colours where NO_COLOR says so", async (how) => {
    // With its token, as the coordinator prints it.
    const terminal = inTerminal(["top", told(running[0], /dashboard at (\S+)/)], { NO_COLOR: "1" });
    await vi.waitUntil(() => pictureOf(terminal).length > 5, { timeout: 10_000 });
    if (how === "Ctrl-C") terminal.say("keys \u0003");
    else ownProcesses(terminal.process.pid).forEach((id) => process.kill(id, "SIGTERM"));
    expect(await terminal.ended).toEqual({ code: 0, settings: "restored" });
    expect(terminal.shown().endsWith(LEFT)).toBe(true);
    expect(terminal.shown()).not.toMatch(/\u001b\[\d+m/);
  });
});

interface Told {
  readonly from: string;
  readonly lacks: string | null;
  readonly etaMs: number;
  readonly now: { readonly step: number; readonly phase: string; readonly workers: readonly Record<string, unknown>[] };
}

/** @param env added to this process's own */
async function reportOf(run: string, env: Readonly<Record<string, string>> = {}): Promise<Told> {
  const { code, stdout, stderr } = await start(["top", run, "--json"], undefined, env).ended;
  expect(code, stderr).toBe(0);
  return JSON.parse(stdout) as Told;
}

describe("elsewhere", { timeout: 40_000 }, () => {
  it("prints one plain picture", async () => {
    const { code, stdout, stderr } = await start(["top", out], undefined, { TANDEM_UI_TOKEN: TOKEN }).ended;
    expect(code, stderr).toBe(0);
    expect(stdout).not.toContain("\u001b");
    expect(stdout).toMatch(/^run {2}moco-v2 · resnet-tiny · Tandem [\d.]+ {2}running\n/);
    expect(stdout).toMatch(/^worker-1 +at work /m);
    expect(stdout).toContain("worker-1 has joined");
  });

  it("tells a script all that the dashboard knows", async () => {
    const report = await reportOf(out, { TANDEM_UI_TOKEN: TOKEN });
    expect(report).toMatchObject({ lacks: null, now: { phase: "running", workers: [{ worker: "worker-1" }] } });
    expect(report.from).toMatch(/^http:\/\/127\.0\.0\.1:\d+\/$/);
    expect(report.etaMs).toBeGreaterThan(0);
    const [worker] = report.now.workers;
    const shares = Object.values(worker?.["shares"] as Record<string, number>);
    expect(shares.reduce((sum, share) => sum + share, 0)).toBeCloseTo(1, 6);
    expect(worker?.["silentS"]).toBeLessThan(10);
  });

  it("falls back on the events, and says what they do not tell", async () => {
    // Nobody tells it the token.
    await vi.waitUntil(() => eventsOf(out).some(({ kind }) => kind === "stages"), { timeout: 20_000 });
    const report = await reportOf(out);
    expect(report.from).toBe(join(out, "events.jsonl"));
    expect(report.lacks).toMatch(/wants its token \(TANDEM_UI_TOKEN\): no heartbeats/);
    const [worker] = report.now.workers;
    expect(worker).toMatchObject({ worker: "worker-1", state: "at work", silentS: null });
    expect((worker?.["shares"] as Record<string, number>)["forward"]).toBeGreaterThan(0);
  });
});

describe("one line", { timeout: 40_000 }, () => {
  async function refused(run: string, code: number, message: RegExp): Promise<void> {
    const ended = await tandem(["top", run]);
    expect([ended.code, ended.stdout]).toEqual([code, ""]);
    expect(ended.stderr).toMatch(message);
    expect(ended.stderr.trim().split("\n")).toHaveLength(1);
  }

  it("says that there is no such directory, no run in it, no dashboard, or that the token is wrong", async () => {
    await refused(join(folder, "nowhere"), 2, /nowhere is no directory: give the directory that --out named/);
    await refused(folder, 2, /holds no run \(no config\.yaml\)/);
    await refused("http://", 2, /http:\/\/ is no URL: give http:\/\/HOST:PORT\//);
    await refused(
      "http://127.0.0.1:1/",
      1,
      /http:\/\/127\.0\.0\.1:1\/ does not answer .*: is its coordinator running\?/,
    );
    const [address = ""] = told(running[0], /dashboard at (\S+)/).split("?");
    await refused(address, 2, /wants a token: give the address with \?token=…/);
    await refused(`${address}?token=wrong`, 2, /has another token/);
  });

  it.each(["<html>hello</html>", '{"title":"x","now":{"workers":[]}}'])(
    "says that %s is not Tandem's answer",
    async (body) => {
      const server = createServer((_, response) => response.end(body)).listen(0, "127.0.0.1");
      await once(server, "listening");
      const { port } = server.address() as AddressInfo;
      await refused(`http://127.0.0.1:${String(port)}`, 2, /is no dashboard of Tandem's \(status 200\)/);
      server.close();
    },
  );

  it("says that the run has ended: before, and while somebody watches", async () => {
    const terminal = inTerminal(["top", out]);
    await vi.waitUntil(() => pictureOf(terminal).length > 5, { timeout: 10_000 });
    running[0].process.kill("SIGTERM");
    const { code, settings } = await terminal.ended;
    expect([code, settings]).toEqual([0, "restored"]);
    expect(terminal.shown().split(LEFT)[1]).toMatch(/run has stopped at step \d+ of 100000\r\n$/);
    await refused(out, 2, /has stopped at step \d+ of 100000: nothing to watch; see tandem status/);
  });
});
