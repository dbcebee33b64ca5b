/** `tandem keys new`: key pairs for a run that is reached over a network. */
import { stringify } from "yaml";
import type { Argv, CommandModule } from "yargs";
import { createKeys, newKeyFiles } from "../transport/index.js";
import { UserError } from "../protocol/errors.js";
import { pathOf } from "./run-options.js";
import type { CommandBody } from "./commands.js";

interface NewArguments {
  readonly out: string;
  readonly worker: string[];
  readonly k8s: boolean;
  readonly name: string;
}

const FOLDER = "keys";
const ALL_WORKERS = ["worker"];

const newCommand: CommandModule<object, NewArguments> = {
  command: "new",
  describe: "Make a coordinator's keys and workers', one folder each; further workers join an existing coordinator's",
  builder: (yargs) =>
    yargs
      .option("out", { type: "string", default: FOLDER, requiresArg: true, describe: "Folder for the folders" })
      .option("worker", {
        type: "string",
        array: true,
        default: ALL_WORKERS,
        requiresArg: true,
        describe: "Names of workers; machines may share one, and are then let in and shut out together",
      })
      .option("k8s", {
        type: "boolean",
        default: false,
        describe: "Write two Secrets for kubectl apply -f - instead: the coordinator's, and one that all workers share",
      })
      .option("name", { type: "string", default: "tandem", requiresArg: true, describe: "Of the run, for --k8s" })
      .example("$0 keys new --k8s | kubectl apply -f -", "Secrets tandem-coordinator-keys and tandem-worker-keys")
      .example("$0 keys new", "keys/coordinator and keys/worker")
      .example("$0 keys new --worker gpu-a gpu-b", "A pair for each machine"),
  handler: async ({ out, worker, k8s, name }) => {
    if (k8s) {
      if (worker.join() !== ALL_WORKERS.join() || out !== FOLDER)
        throw new UserError(
          "USAGE",
          "--k8s writes Secrets that all workers share to standard output: leave out --worker and --out",
        );
      if (!/^[a-z]([a-z0-9-]{0,40}[a-z0-9])?$/.test(name))
        throw new UserError("USAGE", `--name ${name}: Kubernetes takes lower-case letters, digits and -, e.g. tandem`);
      process.stdout.write(keySecrets(name));
      return;
    }
    const names = [...new Set(worker.map(String))];
    if (names.length === 0) throw new UserError("USAGE", "--worker wants a name");
    const folder = pathOf("--out", out) ?? "keys";
    const folders = await createKeys(folder, names);
    process.stdout.write(
      [
        ...folders,
        "next:",
        `  npx tandem coordinator … --listen tcp://ADDRESS:5555 --keys ${folders[0] ?? ""}`,
        `  npx tandem worker --connect tcp://ADDRESS:5555 --keys ${folders[1] ?? ""}    (copy that folder to the worker's machine)`,
        "",
      ].join("\n"),
    );
  },
};

/** @returns YAML of two Secrets, whose entries are the files of a party's folder */
function keySecrets(name: string): string {
  const secrets = Object.entries(newKeyFiles()).map(([party, files]) => ({
    ...{ apiVersion: "v1", kind: "Secret", type: "Opaque" },
    metadata: {
      name: `${name}-${party}-keys`,
      labels: { "app.kubernetes.io/name": "tandem", "app.kubernetes.io/instance": name },
    },
    data: Object.fromEntries(Object.entries(files).map(([file, text]) => [file, Buffer.from(text).toString("base64")])),
  }));
  // On one line each, however long.
  return secrets.map((secret) => stringify(secret, { lineWidth: 0 })).join("---\n");
}

export const keysCommand: CommandBody = {
  builder: (yargs: Argv) => yargs.command(newCommand).demandCommand(1, "say what: tandem keys new"),
  handler: () => undefined,
};
