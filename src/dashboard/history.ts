/**
 * A run's numbers over time in bounded memory: at most `capacity` points, each the mean of as many steps as it takes. When there is no room left,
 * neighbours are merged, and a point stands for twice as many steps from then on.
 */

/** What a step has left, by column. */
export const COLUMNS = [
  ...(["time", "step", "loss", "learningRate", "positiveSimilarity", "negativeSimilarity", "accuracy"] as const),
  ...(["imagesPerSecond", "stepMs", "workers"] as const),
] as const;
export type Column = (typeof COLUMNS)[number];
/** time: Unix, in s */
export type Point = Readonly<Record<Column, number>>;

/** Float64 of all columns: 4,096 points take 320 KiB, however long the run. */
const CAPACITY = 4096;

export class History {
  /** steps that a point stands for */
  stride = 1;
  /** grows whenever points that were there are so no longer */
  revision = 0;
  private readonly columns: Record<Column, Float64Array>;
  private length = 0;
  private sums = zeros();
  private pending = 0;

  constructor(private readonly capacity = CAPACITY) {
    this.columns = byColumn(() => new Float64Array(capacity));
  }

  add(point: Point): void {
    for (const name of COLUMNS) this.sums[name] += point[name];
    if (++this.pending < this.stride) return;
    if (this.length === this.capacity) this.halve();
    // It may be that a point is to be of more steps by now.
    if (this.pending < this.stride) return;
    for (const name of COLUMNS) this.columns[name][this.length] = this.sums[name] / this.pending;
    this.length++;
    this.sums = zeros();
    this.pending = 0;
  }

  /** The run has gone back: what came after a step is no more. */
  forget(afterStep: number): void {
    this.revision++;
    while (this.length > 0 && (this.columns.step[this.length - 1] ?? 0) > afterStep) this.length--;
    this.sums = zeros();
    this.pending = 0;
  }

  /** @param from index of the first point wanted @returns copies, by column */
  since(from: number): Readonly<Record<Column, readonly number[]>> {
    return byColumn((name) => [...this.columns[name].subarray(Math.min(from, this.length), this.length)]);
  }

  get points(): number {
    return this.length;
  }

  private halve(): void {
    const half = Math.floor(this.length / 2);
    for (const name of COLUMNS) {
      const column = this.columns[name];
      for (let index = 0; index < half; index++)
        column[index] = ((column[2 * index] ?? 0) + (column[2 * index + 1] ?? 0)) / 2;
    }
    this.length = half;
    this.stride *= 2;
    this.revision++;
  }
}

function byColumn<T>(make: (name: Column) => T): Record<Column, T> {
  return Object.fromEntries(COLUMNS.map((name) => [name, make(name)])) as Record<Column, T>;
}

function zeros(): Record<Column, number> {
  return byColumn(() => 0);
}
