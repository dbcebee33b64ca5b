/** One step's progress as a line of text. Pure. */

export interface StepProgress {
  /** optimizer updates applied */
  readonly step: number;
  readonly totalSteps: number;
  /** from 0 */
  readonly epoch: number;
  /** null where the run's length was given in steps */
  readonly epochs: number | null;
  readonly loss: number;
  readonly learningRate: number;
  readonly imagesPerSecond: number;
  /** what samples are called */
  readonly samples: "images" | "texts";
  readonly workers: number;
}

/** @param etaMs time left; null: not known yet */
export function progressLine(progress: StepProgress, etaMs: number | null): string {
  const { step, totalSteps, epoch, epochs, loss, learningRate, imagesPerSecond, samples, workers } = progress;
  const width = String(totalSteps).length;
  return [
    `epoch ${epoch + 1}${epochs === null ? "" : `/${epochs}`}`,
    `step ${String(step).padStart(width)}/${totalSteps}`,
    `loss ${loss.toFixed(3)}`,
    `lr ${learningRate.toPrecision(3)}`,
    `${imagesPerSecond.toFixed(0)} ${samples}/s`,
    `ETA ${etaMs === null ? "?" : duration(etaMs)}`,
    `${workers} ${workers === 1 ? "worker" : "workers"}`,
  ].join("  ");
}

/** `0:07`, `12:34`, `1:02:03`, `3d 04:05:06` */
export function duration(ms: number): string {
  const seconds = Math.max(0, Math.round(ms / 1000));
  const two = (value: number) => String(value).padStart(2, "0");
  const [days, hours, minutes] = [86_400, 3600, 60].map((unit) => Math.floor(seconds / unit)) as [
    number,
    number,
    number,
  ];
  const rest = `${two(minutes % 60)}:${two(seconds % 60)}`;
  if (days > 0) return `${days}d ${two(hours % 24)}:${rest}`;
  return hours > 0 ? `${hours}:${rest}` : `${minutes}:${two(seconds % 60)}`;
}

/** Cuts a line that would wrap, and so could not be cleared again; the cursor needs a column too. */
export function fitted(line: string, columns: number): string {
  return line.length < columns ? line : `${line.slice(0, Math.max(0, columns - 2))}…`;
}
