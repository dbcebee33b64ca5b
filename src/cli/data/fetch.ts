/** `tandem data fetch`: a well-known data set from where it is published, checked against its published checksum. */
import type { CommandModule } from "yargs";
import { UserError } from "../../protocol/errors.js";
import { once, pathOf } from "../run-options.js";
import { shellWord } from "../../config/shell-word.js";
import { stopSignal } from "../stop-signal.js";
import { ARCHIVE_NAMES, ARCHIVES, type Archive, type ArchiveName } from "./archives.js";
import { fetchArchive } from "./fetch-archive.js";

interface FetchArguments {
  readonly name: ArchiveName;
  readonly out: string;
  readonly from: string | undefined;
}

const MB = 1e6;

export const fetchCommand: CommandModule<object, FetchArguments> = {
  command: "fetch <name>",
  describe: "Download a well-known data set, verify and unpack it; a download that was cut off goes on",
  builder: (yargs) =>
    yargs
      .positional("name", { type: "string", choices: ARCHIVE_NAMES, demandOption: true, describe: "Which" })
      .option("out", { type: "string", default: "data", requiresArg: true, describe: "Folder for its folder" })
      .option("from", {
        type: "string",
        requiresArg: true,
        describe: "Another place of the same archive: its URL, or its folder's with a / at the end",
      })
      .example("$0 data fetch cifar10", "data/cifar-10-batches-bin, for --data cifar10:data")
      .example("$0 data fetch imagenette --from http://mirror.local/sets/", "From a mirror; the checksum stays"),
  handler: async (given) => {
    const archive: Archive = ARCHIVES[once("the data set", given.name)];
    const signal = stopSignal();
    try {
      const folder = await fetchArchive(archive, {
        out: pathOf("--out", given.out) ?? given.out,
        from: once("from", given.from) ?? null,
        signal,
        onProgress: tenths((line) => process.stderr.write(`tandem: ${line}\n`)),
      });
      const data = shellWord(`${archive.scheme}:${folder}`);
      process.stdout.write(`${folder}: whole and verified\nnext:\n  npx tandem train --data ${data}\n`);
    } catch (error) {
      if (signal.aborted && !(error instanceof UserError)) {
        throw new UserError("STOPPED", "stopped: give the same command again to go on from here", { cause: error });
      }
      throw error;
    }
  },
};

/** Tells of each tenth once. */
function tenths(tell: (line: string) => void): (bytes: number, total: number | null) => void {
  let told = 0;
  return (bytes, total) => {
    const tenth = total === null ? 0 : Math.floor((10 * bytes) / total);
    if (total === null || tenth <= told) return;
    told = tenth;
    tell(`${10 * tenth}% of ${(total / MB).toFixed(0)} MB`);
  };
}
