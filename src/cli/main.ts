/** The program `tandem`: parses the command line, runs one command, and turns errors into lines and exit codes. */
import yargs from "yargs";
import { hideBin } from "yargs/helpers";
import { BreakdownError, UserError } from "../protocol/errors.js";
import { SOFTWARE_VERSION } from "../protocol/version.js";
import { COMMANDS } from "./commands.js";

/** What yargs has to say, in one line that names the command. */
function misuse(message: string): UserError {
  const words = hideBin(process.argv);
  const options = words.findIndex((word) => word.startsWith("-"));
  const typed = words.slice(0, options === -1 ? undefined : options).join(" ");
  const command = COMMANDS.map((one) => String(one.command).split(" ")[0]).find((name) => name === words[0]);
  const text = message
    .trim()
    .replace(/\s*\n\s*/g, " ")
    .replace(/^Not enough non-option arguments.*/, "an argument is missing")
    .replace(/^Did you mean/, `there is no command "${typed}"; did you mean`);
  return new UserError("USAGE", `${text} (see tandem ${command === undefined ? "" : `${command} `}--help)`);
}

/** A user's mistake exits 2 with one line, a breakdown exits 1 with one; a bug exits 1 with its stack. */
function report(error: unknown): void {
  if (error instanceof UserError || error instanceof BreakdownError) {
    process.stderr.write(`tandem: ${error.message}\n`);
    process.exitCode = error instanceof UserError ? 2 : 1;
  } else {
    const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
    process.stderr.write(`tandem: this is a bug\n${text}\n`);
    process.exitCode = 1;
  }
}

// Whoever reads our output may have seen enough: `tandem config | head`.
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  if (error.code === "EPIPE") return;
  process.stderr.write(`tandem: standard output cannot be written: ${error.message}\n`);
  process.exit(1);
});

const page = yargs(hideBin(process.argv))
  .scriptName("tandem")
  .usage(
    [
      "$0: contrastive pretraining (MoCo, SimCLR, SupCon) by one coordinator and any number of workers.",
      "",
      "The coordinator owns the run: it shards the data, sums the gradients, and keeps one global queue of negatives.",
      "Workers compute; how many there are, and which, never shows in the result.",
      "",
      "Usage: $0 <command> [options]",
    ].join("\n"),
  )
  .command(COMMANDS)
  .example("$0 train", "Train on the built-in synthetic data set: two workers on this machine")
  .example("$0 train --preset cifar10 --data cifar10:data/cifar-10-batches-bin", "MoCo v2 on CIFAR-10")
  .example("$0 train --data folder:photos --epochs 50 --out runs/photos", "Train on your own pictures")
  .example("$0 train --resume --out runs/photos", "Go on where that run stopped")
  .example("$0 coordinator --config run.yaml --listen tcp://127.0.0.1:5555 --out runs/a", "By hand: the coordinator")
  .example("$0 worker --connect tcp://127.0.0.1:5555", "… and a worker for it")
  .epilogue(
    "Exit codes: 0 done, or stopped in order by SIGINT or SIGTERM; 1 a breakdown, or a bug with its stack; 2 a mistake, in one line.\n" +
      "`tandem <command> --help` says more; README.md is the tour and docs/ the depth.",
  )
  .demandCommand(1, "give a command")
  .strict()
  .recommendCommands()
  .version(SOFTWARE_VERSION)
  .help()
  .alias("help", "h")
  .wrap(Math.min(120, process.stdout.columns ?? 100))
  .exitProcess(false)
  .fail((message: string | null, error: Error | undefined) => {
    throw error ?? misuse(message ?? "unusable arguments");
  });

try {
  await page.parseAsync();
} catch (error) {
  // yargs' own errors, such as a flag without its value, are the user's too.
  report(error instanceof Error && error.name === "YError" ? misuse(error.message) : error);
}
