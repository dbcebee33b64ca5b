/** `tandem top`: a run that goes on, on the terminal, once a second. */
import { setTimeout as sleep } from "node:timers/promises";
import { BreakdownError, UserError } from "../protocol/errors.js";
import { existingRun } from "./existing-run.js";
import { once } from "./run-options.js";
import { stopSignal } from "./stop-signal.js";
import { frame } from "./top/frame.js";
import { reportOf, type TopReport } from "./top/report.js";
import { Screen } from "./top/screen.js";
import { DashboardSource, DirectorySource, type Look, type RunSource } from "./top/source.js";
import type { CommandBody } from "./commands.js";

interface TopArguments {
  readonly run: string;
  readonly once: boolean;
  readonly json: boolean;
}

/** How often it is looked, in ms. */
const EVERY_MS = 1000;
/** A coordinator that was there may be started again; after so long, in ms, it is given up. */
const GONE_MS = 15_000;
/** Columns of what is no terminal. */
const PLAIN_COLUMNS = 120;

export const topCommand: CommandBody<TopArguments> = {
  builder: (yargs) =>
    yargs
      .positional("run", {
        type: "string",
        demandOption: true,
        describe: "The run directory, or the URL of the run's dashboard (token: in it, or TANDEM_UI_TOKEN)",
      })
      .option("once", {
        type: "boolean",
        default: false,
        describe: "Print one picture as plain lines and exit, as where the output is no terminal",
      })
      .option("json", { type: "boolean", default: false, describe: "Print one picture as a JSON object and exit" })
      .example("$0 top runs/a", "q or Ctrl-C ends it, and leaves the run alone")
      .example("$0 top http://127.0.0.1:8080", "A run whose dashboard is here, e.g. by ssh -L or kubectl port-forward")
      .example("watch $0 top runs/a --once", "Where the terminal is dumb"),
  handler: async (given) => {
    const source = await sourceOf(once("run", given.run));
    const isLive = process.stdout.isTTY && process.env["TERM"] !== "dumb" && !given.once && !given.json;
    const first = await source.look();
    if ("over" in first) throw new UserError("RUN_ENDED", `${first.over}: nothing to watch; see tandem status`);
    if (isLive) {
      await watch(source, first);
      return;
    }
    const report = reportOf(first);
    const size = { columns: process.stdout.isTTY ? process.stdout.columns : PLAIN_COLUMNS, rows: Infinity };
    const lines = given.json ? [JSON.stringify(report)] : frame(report, size, null, false);
    process.stdout.write(`${lines.join("\n")}\n`);
  },
};

async function sourceOf(run: string): Promise<RunSource> {
  const token = process.env["TANDEM_UI_TOKEN"] || null;
  if (/^https?:/.test(run)) return new DashboardSource(run, token);
  return DirectorySource.open(await existingRun(run), token);
}

/** Until the user, a signal or the run ends it. */
async function watch(source: RunSource, first: Look): Promise<void> {
  const quit = new AbortController();
  const signal = AbortSignal.any([quit.signal, stopSignal(() => screen.close())]);
  // https://no-color.org
  const isColoured = !process.env["NO_COLOR"];
  let report: TopReport = reportOf(first);
  let note: string | null = null;
  const draw = () => {
    screen.draw(frame(report, screen.size, note, isColoured));
  };
  const screen = new Screen(process.stdout, process.stdin, {
    onQuit: () => {
      quit.abort();
    },
    onResize: draw,
  });
  let lastWord: string | null = null;
  let answeredAt = performance.now();
  try {
    for (;;) {
      draw();
      await sleep(EVERY_MS, undefined, { signal }).catch(() => undefined);
      if (signal.aborted) return;
      try {
        const look = await source.look();
        if ("over" in look) {
          if (look.isBroken) throw new BreakdownError(look.over);
          lastWord = look.over;
          return;
        }
        report = reportOf(look);
        answeredAt = performance.now();
        note = null;
      } catch (error) {
        if (!(error instanceof BreakdownError) || performance.now() - answeredAt > GONE_MS) throw error;
        note = error.message;
      }
    }
  } finally {
    screen.close();
    if (lastWord !== null) process.stdout.write(`${lastWord}\n`);
  }
}
