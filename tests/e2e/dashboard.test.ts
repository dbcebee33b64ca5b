/** The dashboard in a real browser: a live run, a worker that is killed, a reload, a restart, narrow and wide, and whoever sees no chart. */
import { once } from "node:events";
import { request, type IncomingMessage } from "node:http";
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { connect } from "node:net";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { chromium, type Browser, type Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { SMALL_RUN, start, stepsOf, tandem, temporaryFolder, type Running } from "./tandem.js";

const PROGRAM = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"].find((path) => existsSync(path)); // prettier-ignore
if (PROGRAM === undefined) process.stderr.write("The dashboard is not looked at: apt-get install chromium\n");
const AXE = createRequire(import.meta.url).resolve("axe-core/axe.min.js");
/** Where pictures of it are kept; undefined: nowhere. */
const { SCREENSHOTS } = process.env;
const ROOT = fileURLToPath(new URL("../..", import.meta.url));

const folder = temporaryFolder();
const out = join(folder, "run");
/** Pictures that one can see something on. */
const SIZE = ["--set", "data.imageSize=16", "--set", "data.decodeSize=16"];
const RUN = [...SMALL_RUN, ...SIZE, "--steps=100000", "--set", "membership.minWorkers=1", "--set", "evaluation.everyEpochs=1", "--set", "checkpoint.everySteps=50"]; // prettier-ignore
const complaints: string[] = [];
let browser: Browser;
let coordinator: Running;
let workers: Running[];
let page: Page;

const told = (running: Running, pattern: RegExp) => pattern.exec(running.stderr())?.[1] ?? "";
const urlOf = (running: Running) => told(running, /dashboard at (\S+)/);

async function serve(...more: string[]): Promise<Running> {
  const running = start(["coordinator", ...RUN, "--supervised", "--ui", "127.0.0.1:0", "--out", out, ...more]);
  await vi.waitUntil(() => running.stderr().includes("dashboard at"), { timeout: 20_000 });
  return running;
}

describe.runIf(PROGRAM !== undefined)("the dashboard", { timeout: 120_000 }, () => {
  beforeAll(async () => {
    coordinator = await serve("--listen", "tcp://127.0.0.1:*");
    const connect = told(coordinator, /listening at (tcp:\S+)/);
    workers = [1, 2].map(() => start(["worker", "--connect", connect]));
    browser = await chromium.launch({ executablePath: PROGRAM ?? "", args: ["--no-sandbox"] });
    page = await browser.newPage({ viewport: { width: 1280, height: 900 } });
    page.on("console", (message) => {
      if (message.type() === "error") complaints.push(message.text());
    });
    page.on("pageerror", (error) => complaints.push(error.message));
    await vi.waitUntil(() => stepsOf(out) > 20, { timeout: 60_000 });
    await page.goto(urlOf(coordinator));
  }, 120_000);
  afterAll(async () => {
    await browser.close();
    for (const { process } of [coordinator, ...workers]) process.kill("SIGKILL");
  });

  const step = async () => Number(/Step(\d[\d,]*)/.exec(await page.locator("#figures").innerText().then((text) => text.replace(/\s/g, "")))?.[1]?.replaceAll(",", "")); // prettier-ignore
  const points = () => page.locator("#loss [role=img]").getAttribute("aria-label");

  it("shows a live run", async () => {
    await vi.waitUntil(async () => (await step()) > 0, 10_000);
    const before = await step();
    await vi.waitUntil(async () => (await step()) > before, 10_000);
    expect(await page.locator("#phase").innerText()).toBe("running");
    expect(await page.locator("#table tbody tr.at-work").count()).toBe(2);
    expect(await page.locator("#stages tbody tr").count()).toBe(2);
    expect(await points()).toMatch(/^Loss over time; last: \d/);
    expect(await page.locator("#events").innerText()).toContain("has joined");
  });

  /** Waits for both figures' pictures, each of its own width. @returns the steps that they are of */
  const pictures = async () => {
    const steps: number[] = [];
    for (const kind of ["pairs", "neighbours"]) {
      await page.locator(`#${kind} img`).scrollIntoViewIfNeeded({ timeout: 60_000 });
      const image = `document.querySelector("#${kind} img")`;
      await vi.waitUntil(() => page.evaluate<boolean>(`${image}.naturalWidth > 0`), 20_000);
      expect(await page.evaluate(`${image}.naturalWidth === Number(${image}.getAttribute("width"))`)).toBe(true);
      const caption = await page.locator(`#${kind} figcaption`).innerText();
      steps.push(Number(/step ([\d,]+)$/.exec(caption)?.[1]?.replaceAll(",", "")));
    }
    return steps;
  };

  it("shows pictures of an evaluation, and says what is on them", async () => {
    const isOfOneStep = async () => new Set(await pictures()).size === 1;
    await vi.waitUntil(isOfOneStep, 20_000);
    expect((await pictures()).map((step) => step % 12)).toEqual([0, 0]);
    expect(await page.locator("#pairs img").getAttribute("alt")).toContain("synthetic train ");
    expect(await page.locator("#neighbours img").getAttribute("alt")).toMatch(
      /: (\S+: (\S+ -?[01]\.\d\d(, |; |$)){5}){6}/,
    );
    const url = `${urlOf(coordinator)}pictures/pairs.png`;
    const { status, headers } = await fetch(url);
    expect([status, headers.get("content-type")]).toEqual([200, "image/png"]);
    // Whoever has it is told so; the next may be there meanwhile.
    const again = await fetch(url, { headers: { "if-none-match": headers.get("etag") ?? "" } });
    expect([304, 200]).toContain(again.status);
    expect((await fetch(`${urlOf(coordinator)}pictures/config.png`)).status).toBe(404);
  });

  it("is read by those who see no chart, narrow and wide, light and dark, without a serious finding", async () => {
    await page.evaluate(readFileSync(AXE, "utf8"));
    for (const colorScheme of ["light", "dark"] as const)
      for (const width of [380, 1280]) {
        await page.emulateMedia({ colorScheme });
        await page.setViewportSize({ width, height: 900 });
        // Nothing is wider than the page.
        expect(await page.evaluate("document.documentElement.scrollWidth")).toBeLessThanOrEqual(width);
        const found = await page.evaluate<{ violations: { id: string; impact: string; nodes: unknown[] }[] }>(
          "axe.run()",
        );
        const serious = found.violations.filter(({ impact }) => impact === "serious" || impact === "critical");
        expect(serious.map(({ id, nodes }) => [id, JSON.stringify(nodes).slice(0, 400)])).toEqual([]);
        if (SCREENSHOTS !== undefined) {
          mkdirSync(join(ROOT, SCREENSHOTS), { recursive: true });
          await page.screenshot({ path: join(ROOT, SCREENSHOTS, `dashboard-${colorScheme}-${String(width)}.png`), fullPage: true }); // prettier-ignore
        }
      }
  });

  it("shows a killed worker red within the heartbeat limit, and says so", async () => {
    workers[1]?.process.kill("SIGKILL");
    const since = performance.now();
    await page.locator("#table tbody tr.gone").waitFor({ timeout: 10_000 });
    // membership.deadAfterMs is 5 s, and the page hears of it within one more.
    expect(performance.now() - since).toBeLessThan(7000);
    const colour = await page.evaluate<string>(
      'getComputedStyle(document.querySelector("#table tr.gone .state")).color',
    );
    const [red = 0, green = 0] = (colour.match(/[\d.]+/g) ?? []).map(Number);
    expect(red).toBeGreaterThan(green);
    expect(await page.locator("#events .left").first().innerText()).toContain("has left");
  });

  it("keeps the history when it is loaded again, and when the coordinator is started again", async () => {
    const run = async () => (await (await fetch(`${urlOf(coordinator)}api/run`)).json()) as { history: { step: number[] }; pictures: { step: number }[] }; // prettier-ignore
    const history = async () => (await run()).history.step;
    const pictureSteps = async () => (await run()).pictures.map((picture) => picture.step);
    const before = await history();
    await page.reload();
    const [shown = -1] = await pictures();
    await vi.waitUntil(async () => (await page.locator("#table tbody tr.at-work").count()) === 1, 10_000);
    expect((await history()).slice(0, 20)).toEqual(before.slice(0, 20));
    const control = told(coordinator, /listening at (tcp:\S+)/);
    coordinator.process.kill("SIGTERM");
    await coordinator.ended;
    coordinator = await serve("--listen", control);
    const [kept = -1] = await pictureSteps();
    expect(kept).toBeGreaterThanOrEqual(shown);
    expect((await history()).slice(0, 20)).toEqual(before.slice(0, 20));
    await page.goto(urlOf(coordinator));
    await pictures();
    await vi.waitUntil(async () => (await page.locator("#phase").innerText()) === "running", 30_000);
  });

  it("has nothing to complain of in the browser's console", () => {
    // While the coordinator was away, the browser says that it did not answer.
    expect(
      complaints.filter((text) => !/ERR_CONNECTION_REFUSED|ERR_INCOMPLETE_CHUNKED|Failed to fetch/.test(text)),
    ).toEqual([]);
  });
});

describe("pictures", { timeout: 60_000 }, () => {
  const train = (out: string, ...more: string[]) =>
    start(["train", ...SMALL_RUN, "--workers=1", "--ui=127.0.0.1:0", "--out", out, ...more]);

  it("that cannot be kept cost the run nothing, and are spoken of once", async () => {
    const place = join(folder, "no-pictures");
    mkdirSync(place);
    writeFileSync(join(place, "pictures"), "in the way");
    const { code, stderr } = await train(place, "--steps=12", "--set", "evaluation.everyEpochs=1").ended;
    expect([code, stderr.match(/kNN accuracy/g)?.length]).toEqual([0, 2]);
    expect(stderr.match(/no pictures of this run: .*EEXIST/g)).toHaveLength(1);
  });

  it("of a run without evaluations are views alone", async () => {
    const place = join(folder, "unevaluated");
    const run = train(place, "--steps=100000");
    await vi.waitUntil(() => existsSync(join(place, "pictures/pairs.png")), { timeout: 50_000 });
    run.process.kill("SIGTERM");
    expect((await run.ended).code).toBe(0);
    expect(readdirSync(join(place, "pictures"))).toEqual(["pairs.png"]);
  });
});

describe("whoever may look", () => {
  it("is asked for the token beyond this machine, and for this machine's name on it", { timeout: 60_000 }, async () => {
    const flags = [...SMALL_RUN, "--steps=4", "--listen=tcp://127.0.0.1:*"];
    const open = start(["coordinator", ...flags, "--ui", "0.0.0.0:0", "--out", join(folder, "open")]);
    await vi.waitUntil(() => open.stderr().includes("dashboard at"), { timeout: 20_000 });
    const url = new URL(urlOf(open).replace("0.0.0.0", "127.0.0.1"));
    const bare = `${url.origin}/api/run`;
    expect((await fetch(bare)).status).toBe(401);
    expect((await fetch(`${bare}?token=${"0".repeat(32)}`)).status).toBe(401);
    const let_in = await fetch(url, { redirect: "manual" });
    expect([let_in.status, let_in.headers.get("location")]).toEqual([303, "/"]);
    const cookie = let_in.headers.get("set-cookie") ?? "";
    expect(cookie).toMatch(/HttpOnly; SameSite=Strict/);
    expect((await fetch(bare, { headers: { cookie: cookie.split(";")[0] ?? "" } })).status).toBe(200);
    expect((await fetch(bare, { method: "POST" })).status).toBe(405);
    // A hundred requests at once, before an answer is read: the connection is closed, and no other one.
    const hasty = connect(Number(url.port), url.hostname).resume();
    hasty.write(`GET /api/run HTTP/1.1\r\nhost: x\r\ncookie: ${cookie.split(";")[0] ?? ""}\r\n\r\n`.repeat(100));
    hasty.on("error", () => undefined);
    await once(hasty, "close");
    expect((await fetch(bare)).status).toBe(401);
    for (const path of ["//", "//elsewhere/", "http://[", "/../../package.json", "/%"]) {
      const asked = request({ host: url.hostname, port: url.port, path, headers: { cookie: cookie.split(";")[0] } }).end(); // prettier-ignore
      const [answer] = (await once(asked, "response")) as [IncomingMessage];
      answer.resume();
      expect([path, answer.statusCode]).toEqual([path, 404]);
    }
    open.process.kill("SIGKILL");
  });

  it("on loopback, asks for this machine by its own name", { timeout: 60_000 }, async () => {
    const flags = [...SMALL_RUN, "--steps=4", "--listen=tcp://127.0.0.1:*"];
    const own = start(["coordinator", ...flags, "--ui", "127.0.0.1:0", "--out", join(folder, "own")]);
    await vi.waitUntil(() => own.stderr().includes("dashboard at"), { timeout: 20_000 });
    const { hostname, port } = new URL(urlOf(own));
    const answers = [];
    for (const host of [
      `127.0.0.1:${port}`,
      "localhost",
      "elsewhere.example",
      "127.0.0.1.elsewhere.example",
      "127.elsewhere.example",
    ]) {
      const asked = request({ host: hostname, port, path: "/api/run", headers: { host } }).end();
      const [answer] = (await once(asked, "response")) as [IncomingMessage];
      answer.resume();
      answers.push(answer.statusCode);
    }
    expect(answers).toEqual([200, 200, 421, 421, 421]);
    own.process.kill("SIGKILL");
  });

  it.each([
    [["--ui", "8080"], "--ui 8080 is no address: write HOST:PORT"],
    [["--ui", "127.0.0.1:99999"], "is no address"],
    [["--ui", "192.0.2.1:0"], "give an address of this machine"],
  ])("%j is refused in one line", async (more, part) => {
    const { code, stderr } = await tandem(["coordinator", ...SMALL_RUN, "--steps=4", "--listen=tcp://127.0.0.1:*", "--out", join(folder, "bad"), ...more]); // prettier-ignore
    expect([code, stderr.includes(part), stderr.trim().split("\n").length]).toEqual([2, true, 1]);
  });
});
