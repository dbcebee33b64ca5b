/** Where `tandem top` has a run from: its dashboard, which knows all, or the events in its directory. */
import { hostname } from "node:os";
import { runFiles, runHolder, readRunConfig, type RunHolder } from "../../checkpoint/index.js";
import { COOKIE, RunView, snapshotOf, type Snapshot } from "../../dashboard/index.js";
import { BreakdownError, UserError } from "../../protocol/errors.js";
import { SOFTWARE_VERSION } from "../../protocol/version.js";
import { EventTail, NOT_BEGUN, statusAfter, type RunStatus } from "../../telemetry/index.js";
import { basename, resolve } from "node:path";
import { unreadable } from "../existing-run.js";

export interface Look {
  readonly snapshot: Snapshot;
  /** where it is from */
  readonly from: string;
  /** what cannot be told from there, and why; null: nothing */
  readonly lacks: string | null;
}

/** The run is over: what there is to say of it. */
export interface Over {
  readonly over: string;
  /** whether nobody has ended it */
  readonly isBroken: boolean;
}

export interface RunSource {
  /** @throws UserError, BreakdownError where there is nothing to be seen */
  look(): Promise<Look | Over>;
}

/** A dashboard that does not answer for so long is not there, in ms. */
const ANSWER_MS = 3000;
/** Points of the history that are shown at most. */
const MOST_POINTS = 256;
/** A coordinator that has written nothing for so long is looked after, in ms. */
const SILENT_MS = 10_000;

/** Asks a dashboard over HTTP. */
export class DashboardSource implements RunSource {
  private readonly base: URL;
  private readonly token: string | null;
  private counts: Snapshot["counts"] | null = null;

  /**
   * @param url as the coordinator prints it, with its token or without
   * @param token for where it has none; null: none is known
   */
  constructor(url: string, token: string | null) {
    if (!URL.canParse(url)) throw new UserError("ADDRESS_INVALID", `${url} is no URL: give http://HOST:PORT/`);
    this.base = new URL(url);
    this.token = this.base.searchParams.get("token") ?? token;
    this.base.search = this.base.hash = "";
    if (!this.base.pathname.endsWith("/")) this.base.pathname += "/";
  }

  get address(): string {
    return this.base.href;
  }

  async look(): Promise<Look | Over> {
    const snapshot = await this.snapshot();
    const { phase, step, totalSteps } = snapshot.now;
    if (phase !== "running" && phase !== "waiting") return ended(snapshot.title, phase, step, totalSteps);
    return { snapshot, from: this.address, lacks: null };
  }

  /** @throws UserError `TOKEN_WRONG`, `NO_DASHBOARD`, `VERSION_DIFFERS`; BreakdownError where nobody answers */
  async snapshot(): Promise<Snapshot> {
    const url = new URL("api/run", this.base);
    // What was there before is told no more, but for as much as is shown.
    if (this.counts !== null) {
      url.searchParams.set("revision", String(this.counts.revision));
      url.searchParams.set("points", String(Math.max(0, this.counts.points - MOST_POINTS)));
    }
    const headers: Record<string, string> = this.token === null ? {} : { cookie: `${COOKIE}=${this.token}` };
    let answer: Response;
    let text: string;
    try {
      answer = await fetch(url, { headers, redirect: "manual", signal: AbortSignal.timeout(ANSWER_MS) });
      text = await answer.text();
    } catch (cause) {
      const { message, cause: why } = cause as Error;
      const reason = (why instanceof Error ? why.message || String((why as NodeJS.ErrnoException).code) : message)
        .trim()
        .replace(/\s+/g, " ");
      throw new BreakdownError(`${this.address} does not answer (${reason}): is its coordinator running?`, { cause });
    }
    if (answer.status === 401) {
      const token = this.token === null ? "wants a token" : "has another token";
      const remedy = "give the address with ?token=…, as the coordinator has printed it, or set TANDEM_UI_TOKEN";
      throw new UserError("TOKEN_WRONG", `the dashboard at ${this.address} ${token}: ${remedy}`);
    }
    const snapshot = answer.ok ? snapshotIn(text) : null;
    if (snapshot === null) {
      const remedy = "give the address that the coordinator calls its dashboard";
      throw new UserError("NO_DASHBOARD", `what answers at ${this.address} is no dashboard of Tandem's (status ${String(answer.status)}): ${remedy}`); // prettier-ignore
    }
    const { version } = snapshot.now;
    if (version !== SOFTWARE_VERSION) {
      throw new UserError("VERSION_DIFFERS", `the run at ${this.address} is of Tandem ${version}, and this is ${SOFTWARE_VERSION}: use the same`); // prettier-ignore
    }
    this.counts = snapshot.counts;
    return snapshot;
  }
}

/** @returns null where it is something else; of our own version all is there that these have */
function snapshotIn(text: string): Snapshot | null {
  try {
    const { title, now, counts, history, coordinator } = JSON.parse(text) as Partial<Snapshot>;
    const isOurs =
      typeof title === "string" &&
      typeof now?.version === "string" &&
      Array.isArray(now.workers) &&
      typeof counts?.points === "number" &&
      Array.isArray(history?.step) &&
      (now.version !== SOFTWARE_VERSION || typeof coordinator?.pid === "number");
    return isOurs ? (JSON.parse(text) as Snapshot) : null;
  } catch {
    return null;
  }
}

/** A run directory: the dashboard of whoever serves it, where that can be reached; otherwise what its events tell. */
export class DirectorySource implements RunSource {
  private readonly tail: EventTail;
  private status: RunStatus = NOT_BEGUN;
  private dashboard: DashboardSource | null = null;
  private seenAt = -Infinity;

  private constructor(
    private readonly directory: string,
    private readonly token: string | null,
    private readonly view: RunView,
    private readonly described: Pick<Snapshot, "title" | "encoder" | "method">,
    private holder: RunHolder | null,
  ) {
    this.tail = new EventTail(runFiles(directory).events);
  }

  static async open(directory: string, token: string | null): Promise<DirectorySource> {
    const config = await readRunConfig(directory);
    const described = { title: basename(resolve(directory)), encoder: config.model.encoder, method: config.method };
    const view = new RunView(config, Date.now);
    return new DirectorySource(directory, token, view, described, await runHolder(directory));
  }

  async look(): Promise<Look | Over> {
    await this.readOn();
    const { phase, step, totalSteps, again } = this.status;
    if (phase === "finished" || phase === "stopped" || phase === "failed")
      return ended(this.directory, phase, step, totalSteps);
    // Also where it has been started again meanwhile.
    if (performance.now() - this.seenAt > SILENT_MS) {
      this.holder = await runHolder(this.directory);
      this.seenAt = performance.now();
    }
    if (this.holder === null) {
      const remedy = again === null ? "" : `; go on with npx tandem ${again}`;
      return { over: `${this.directory}: no coordinator serves it: the last one has died${remedy}`, isBroken: true };
    }
    const answer = await this.asked(this.holder);
    if (typeof answer !== "string") return { snapshot: answer, from: this.dashboard?.address ?? "", lacks: null };
    const told = snapshotOf(this.view, this.described);
    const workers = told.now.workers.map((worker) => ({ ...worker, silentS: null }));
    return {
      snapshot: { ...told, coordinator: this.holder, now: { ...told.now, workers } },
      from: runFiles(this.directory).events,
      lacks: `${answer}: no heartbeats, and workers' times are of up to ten seconds ago`,
    };
  }

  private async readOn(): Promise<void> {
    try {
      for await (const event of this.tail.more()) {
        this.view.take(event);
        this.status = statusAfter(this.status, event);
        this.seenAt = performance.now();
        if (event.kind !== "run-started") continue;
        this.dashboard = event.dashboard == null ? null : new DashboardSource(event.dashboard, this.token);
        this.seenAt = -Infinity;
      }
    } catch (error) {
      throw unreadable(error);
    }
  }

  /** @returns or why its dashboard does not tell */
  private async asked({ host, pid }: RunHolder): Promise<Snapshot | string> {
    if (this.dashboard === null) return "it has no dashboard";
    const { address } = this.dashboard;
    if (host !== hostname()) return `its dashboard is on ${host}`;
    try {
      const snapshot = await this.dashboard.snapshot();
      // A port is used again.
      const isItsOwn = snapshot.coordinator.host === host && snapshot.coordinator.pid === pid;
      return isItsOwn ? snapshot : `${address} is another run's dashboard`;
    } catch (error) {
      if (error instanceof UserError && error.code === "TOKEN_WRONG")
        return `${address} wants its token (TANDEM_UI_TOKEN)`;
      if (error instanceof UserError || error instanceof BreakdownError) return `${address} does not answer`;
      throw error;
    }
  }
}

function ended(name: string, phase: string, step: number, totalSteps: number | null): Over {
  const at = `${String(step)}${totalSteps === null ? "" : ` of ${String(totalSteps)}`}`;
  return { over: `${name} has ${phase} at step ${at}`, isBroken: false };
}
