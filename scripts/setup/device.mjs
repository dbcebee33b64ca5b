/** Which build of libtensorflow this machine gets. */
import { existsSync } from "node:fs";
import { delimiter, join } from "node:path";
import { SetupError } from "./report.mjs";

/** @typedef {"cpu" | "gpu"} Flavour */

/**
 * @param {string | undefined} wish TANDEM_DEVICE
 * @param {boolean} driver whether an NVIDIA driver was found
 * @returns {Flavour}
 * @throws {SetupError} where the wish is none of cpu, gpu, auto
 */
export function chooseFlavour(wish, driver) {
  if (wish === "cpu" || wish === "gpu") return wish;
  if (wish === undefined || wish === "" || wish === "auto") return driver ? "gpu" : "cpu";
  throw new SetupError(`TANDEM_DEVICE is "${wish}": set it to cpu, gpu or auto, or leave it unset`);
}

/** @param {NodeJS.ProcessEnv} env @returns {boolean} */
export function hasNvidiaDriver(env) {
  const onPath = (env.PATH ?? "")
    .split(delimiter)
    .some((folder) => folder !== "" && existsSync(join(folder, "nvidia-smi")));
  return onPath || existsSync("/proc/driver/nvidia/version");
}
