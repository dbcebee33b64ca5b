/** Orderly stops: the first SIGINT or SIGTERM asks, the second one exits at once. */

/** 128 + the signal's number, as shells have it. */
const EXIT_CODE = { SIGINT: 130, SIGTERM: 143 } as const;
/** How long a signal may take to end the process, in ms; the first process of a container is not ended by one. */
const SIGNAL_MS = 200;

/**
 * @param onSecond what to do before the second signal ends the process
 * @returns aborted by the first signal, or when the parent that started this process over IPC is gone
 */
export function stopSignal(onSecond: () => void = () => undefined): AbortSignal {
  const controller = new AbortController();
  for (const name of ["SIGINT", "SIGTERM"] as const) {
    process.on(name, () => {
      if (controller.signal.aborted) {
        onSecond();
        // As if it had never been listened for: native threads are not taken apart amid their work.
        process.removeAllListeners(name);
        process.kill(process.pid, name);
        setTimeout(() => process.exit(EXIT_CODE[name]), SIGNAL_MS);
        return;
      }
      controller.abort(name);
    });
  }
  process.once("disconnect", () => controller.abort("the process that started this one has ended"));
  return controller.signal;
}
