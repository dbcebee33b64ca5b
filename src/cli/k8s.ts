/** `tandem k8s render`: the objects of a run on Kubernetes. */
import { readFile } from "node:fs/promises";
import { stringify } from "yaml";
import type { Argv, CommandModule } from "yargs";
import { UserError } from "../protocol/errors.js";
import { OVERLAYS, ownRunFile, render, type OverlayName } from "../kubernetes/render.js";
import type { CommandBody } from "./commands.js";
import { configOf, once, pathOf, wholeNumber } from "./run-options.js";
import { shellWord } from "../config/shell-word.js";

interface RenderArguments {
  readonly preset: OverlayName;
  readonly workers: number | undefined;
  readonly "gpus-per-worker": number | undefined;
  readonly image: string | undefined;
  readonly config: string | undefined;
  readonly namespace: string | undefined;
  readonly aggregators: number | undefined;
  readonly "data-claim": string | undefined;
  readonly "data-s3": string | undefined;
  readonly queue: string | undefined;
  readonly monitoring: boolean;
}

const NAMES = Object.keys(OVERLAYS) as OverlayName[];
const SUMMARY = NAMES.map((name) => `${name}: ${OVERLAYS[name].summary}`).join("; ");
const TEXT = { type: "string", requiresArg: true } as const;
const COUNT = { type: "number", requiresArg: true } as const;

const renderCommand: CommandModule<object, RenderArguments> = {
  command: "render",
  describe: "Write the objects of a run for kubectl apply -f -, as kubectl apply -k k8s/overlays/PRESET has them",
  builder: (yargs) =>
    yargs
      .option("preset", { choices: NAMES, demandOption: true, requiresArg: true, describe: SUMMARY })
      .option("workers", { ...COUNT, describe: "How many workers [default: 2]" })
      .option("gpus-per-worker", { ...COUNT, describe: "GPUs of each, all of one node; 0: processors" })
      .option("image", { ...TEXT, describe: "What all pods run, NAME:TAG or NAME@DIGEST, where the cluster can pull it" })
      .option("config", { ...TEXT, describe: "The run's config, a YAML file [default: MoCo v2 on synthetic images]" })
      .option("namespace", { ...TEXT, describe: "Namespace of all objects [default: kubectl's]" })
      .option("aggregators", { ...COUNT, describe: "So many aggregators with a share of the parameters each [default: the coordinator]" }) // prettier-ignore
      .option("data-claim", { ...TEXT, describe: "PersistentVolumeClaim with the data set, at /data of the coordinator" })
      .option("data-s3", { ...TEXT, describe: "REMOTE:BUCKET/PATH, copied there by rclone; access from the Secret tandem-s3" })
      .option("queue", { ...TEXT, describe: "Kueue's LocalQueue, for --preset kueue [default: pretraining]" })
      .option("monitoring", { type: "boolean", default: false, describe: "A PodMonitor for Prometheus' operator too" })
      .example("$0 k8s render --preset gpu --workers 8 --image registry.example/tandem:0.1.0-gpu | kubectl apply -f -", "Eight GPUs") // prettier-ignore
      .example("$0 k8s render --preset multi-gpu --workers 4 --gpus-per-worker 8 --config run.yaml --data-claim photos", "32, on four nodes"), // prettier-ignore
  handler: async (given) => {
    const file = pathOf("--config", given.config) ?? ownRunFile(given.preset);
    if (file === "-") throw new UserError("USAGE", "--config -: name a file, whose text goes into the ConfigMap");
    const config = await configOf({ config: file }, null);
    const objects = render({
      preset: once("preset", given.preset),
      workers: wholeNumber("workers", given.workers),
      gpusPerWorker: wholeNumber("gpus-per-worker", given["gpus-per-worker"], 0),
      image: once("image", given.image),
      namespace: once("namespace", given.namespace),
      run: { text: await readFile(file, "utf8"), config },
      aggregators: wholeNumber("aggregators", given.aggregators),
      dataClaim: once("data-claim", given["data-claim"]),
      dataS3: once("data-s3", given["data-s3"]),
      queue: once("queue", given.queue),
      monitoring: given.monitoring,
    });
    const command = process.argv.slice(2).map(shellWord).join(" ");
    const inNamespace = given.namespace === undefined ? "" : ` -n ${given.namespace}`;
    const head = [`# tandem ${command}`, `# its keys, once: tandem keys new --k8s | kubectl apply${inNamespace} -f -`];
    // On one line each, however long.
    const documents = objects.map((object) =>
      stringify(object, { lineWidth: 0, aliasDuplicateObjects: false, version: "1.1" }),
    );
    process.stdout.write(`${head.join("\n")}\n${documents.join("---\n")}`);
  },
};

export const k8sCommand: CommandBody = {
  builder: (yargs: Argv) => yargs.command(renderCommand).demandCommand(1, "say what: tandem k8s render"),
  handler: () => undefined,
};
