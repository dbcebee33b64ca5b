/**
 * What libtensorflow and the C library read from the environment. Both read it once, so it is set before the engine is
 * loaded, and on a process's main thread: a `worker_threads` thread has a mere copy of `process.env`.
 */

export type DeviceChoice = "auto" | "cpu" | `gpu:${number}`;

/**
 * Fixes the number of threads inside one operation, and the devices seen. oneDNN's sums depend on the thread count, so
 * it belongs to the run's config, never to the machine.
 */
export function configureEngine(options: { readonly threads: number; readonly device?: DeviceChoice }): void {
  process.env["TF_NUM_INTRAOP_THREADS"] = String(options.threads);
  process.env["TF_NUM_INTEROP_THREADS"] = "1";
  process.env["TF_FORCE_GPU_ALLOW_GROWTH"] ??= "true";
  const device = options.device ?? "auto";
  if (device === "cpu") process.env["CUDA_VISIBLE_DEVICES"] = "-1";
  else if (device !== "auto") process.env["CUDA_VISIBLE_DEVICES"] = device.slice("gpu:".length);
}
