/** `tandem bench loader`: how fast this machine turns image files into what a step computes on. */
import { spawn } from "node:child_process";
import { once as onceEmitted } from "node:events";
import { availableParallelism } from "node:os";
import type { CommandModule } from "yargs";
import { resolveConfig, type RunConfig } from "../config/index.js";
import { CorruptLimit, Loader, imageViews, openRunImages } from "../data/index.js";
import { UserError } from "../protocol/errors.js";
import { configOf, once, withRunOptions, type RunArguments } from "./run-options.js";

interface LoaderArguments extends RunArguments {
  readonly images: number;
  readonly json: boolean;
}

export interface LoaderBenchmark {
  readonly data: string;
  readonly threads: number;
  readonly decodeSize: number;
  readonly imageSize: number;
  readonly batch: number;
  readonly images: number;
  /** files to decoded squares and the draws of both views, in batches as a rank takes them */
  readonly imagesPerSecond: number;
  /** processor time of all threads */
  readonly cpuMsPerImage: number;
}

/** libuv reads its size when its pool starts, which is before any command runs. */
const POOL_VARIABLE = "UV_THREADPOOL_SIZE";

export const loaderCommand: CommandModule<object, LoaderArguments> = {
  command: "loader",
  describe: "Time the loader: read, decode and scale images, draw views (preset imagenet, no cache)",
  builder: (yargs) =>
    withRunOptions(yargs, ["data", "batch", "threads", "set"])
      .demandOption("data")
      .option("images", { type: "number", default: 1000, requiresArg: true, describe: "Images that count, at least" })
      .option("json", { type: "boolean", default: false, describe: "Print one JSON object as the last line" })
      .example("$0 bench loader --data folder:photos --threads 2", "Images per second of two decoding threads"),
  handler: async (given) => {
    const images = once("images", given.images);
    if (!Number.isInteger(images) || images < 1) {
      throw new UserError("USAGE", `--images ${images}: give a whole number above 0`);
    }
    const threads = once("threads", given.threads) ?? availableParallelism();
    const asked = await configOf({ ...given, preset: "imagenet", threads }, null);
    if (process.env[POOL_VARIABLE] !== String(threads)) {
      await runAgain({ ...process.env, [POOL_VARIABLE]: String(threads) });
      return;
    }
    const overrides = { "parallel.worldSize": 1, "data.cacheMiB": 0, "schedule.steps": 1 };
    const result = await benchmark(await resolveConfig({ base: asked, overrides }), images);
    process.stdout.write(
      given.json
        ? `${JSON.stringify(result)}\n`
        : `${result.data}, decoded to ${result.decodeSize} pixels by ${threads} threads: ` +
            `${result.imagesPerSecond.toFixed(1)} images/s, ${result.cpuMsPerImage.toFixed(2)} ms of processor time an image\n`,
    );
  },
};

/** The same command in a process of its own. */
async function runAgain(env: NodeJS.ProcessEnv): Promise<void> {
  const child = spawn(process.execPath, process.argv.slice(1), { env, stdio: "inherit" });
  const [code] = (await onceEmitted(child, "exit")) as [number | null];
  process.exitCode = code ?? 1;
}

async function benchmark(config: RunConfig, images: number): Promise<LoaderBenchmark> {
  const { data, parallel } = config;
  const dataset = await openRunImages(data.spec, config, "name a data set of pictures");
  const limit = new CorruptLimit(data.maxCorrupt);
  const loader = new Loader(
    imageViews(dataset, config, (name) => limit.count(name)),
    config,
  );
  const steps = Math.ceil(images / parallel.batchSize);
  // One batch before those that count: the first call of libvips sets it up.
  await loader.take(0, 0);
  const cpuBefore = process.cpuUsage();
  const before = performance.now();
  for (let step = 1; step <= steps; step++) {
    if (step < steps) loader.prefetch(step + 1, [0]);
    await loader.take(step, 0);
  }
  const seconds = (performance.now() - before) / 1000;
  const { user, system } = process.cpuUsage(cpuBefore);
  const count = steps * parallel.batchSize;
  return {
    data: data.spec,
    threads: parallel.threads,
    decodeSize: data.decodeSize,
    imageSize: data.imageSize,
    batch: parallel.batchSize,
    images: count,
    imagesPerSecond: count / seconds,
    cpuMsPerImage: (user + system) / 1000 / count,
  };
}
