/**
 * What libtensorflow and the C library read from the environment. Both read it once, so it is set before the engine is
 * loaded, and on a process's main thread: a `worker_threads` thread has a mere copy of `process.env`.
 */

/** Variables that must be there when the process starts, because the C library reads them before any JavaScript runs. */
export const PROCESS_ENVIRONMENT: Readonly<Record<string, string>> = {
  // Activations of tens of MB come and go every step. One arena and a high mmap threshold keep their pages instead of
  // returning them to the kernel, and huge pages cut the faults of first touches by 512.
  MALLOC_ARENA_MAX: "1",
  MALLOC_MMAP_THRESHOLD_: String(32 * 1024 * 1024),
  MALLOC_TRIM_THRESHOLD_: String(4 * 1024 * 1024 * 1024),
  MALLOC_TOP_PAD_: String(64 * 1024 * 1024),
  GLIBC_TUNABLES: "glibc.malloc.hugetlb=1",
  // Errors only: TensorFlow greets with three lines about the processor otherwise.
  TF_CPP_MIN_LOG_LEVEL: "2",
};

export type DeviceChoice = "auto" | "cpu" | `gpu:${number}`;

/**
 * Fixes the number of threads inside one operation, and the devices seen. oneDNN's sums depend on the thread count, so
 * it belongs to the run's config, never to the machine.
 */
export function configureEngine(options: { readonly threads: number; readonly device?: DeviceChoice }): void {
  process.env["TF_NUM_INTRAOP_THREADS"] = String(options.threads);
  process.env["TF_NUM_INTEROP_THREADS"] = "1";
  process.env["TF_CPP_MIN_LOG_LEVEL"] ??= "2";
  process.env["TF_FORCE_GPU_ALLOW_GROWTH"] ??= "true";
  const device = options.device ?? "auto";
  if (device === "cpu") process.env["CUDA_VISIBLE_DEVICES"] = "-1";
  else if (device !== "auto") process.env["CUDA_VISIBLE_DEVICES"] = device.slice("gpu:".length);
}
