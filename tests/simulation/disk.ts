/** A disk that is slow, sometimes full, and loses what was being written when its machine's process dies. */
import type { TrainingState } from "../../coordinator/aggregator.js";
import type { Agenda } from "../../src/cli/simulate/agenda.js";
import type { Random } from "../../src/cli/simulate/random.js";

export interface StoredQueue {
  readonly keys: Float32Array;
  readonly position: number;
}

/** A checkpoint that is whole. */
export interface Stored {
  readonly step: number;
  readonly state: TrainingState;
  readonly queue: StoredQueue;
}

/** Checkpoints kept, as a run's config would say. */
const KEEP = 3;

export class Disk {
  /** from then on nothing fails */
  isSound = false;
  private readonly whole: Stored[] = [];
  /** counts crashes: a write that was begun before one is never finished */
  private crashes = 0;

  constructor(
    private readonly agenda: Agenda,
    private readonly draw: Random,
  ) {}

  /**
   * Reads `state` only bit by bit, as a writer's thread does: whoever overwrites it meanwhile spoils the checkpoint.
   * @param done hears what is on disk, or null where the disk refused; not called where the process dies first
   */
  write(step: number, state: TrainingState, queue: StoredQueue, done: (stored: Stored | null) => void): void {
    const { crashes } = this;
    this.agenda.later(1 + this.draw.below(this.draw.chance(0.2) ? 600 : 30), () => {
      if (crashes !== this.crashes) return;
      if (!this.isSound && this.draw.chance(0.15)) {
        done(null);
        return;
      }
      const { version, updates, query, key, optimizer, queryBuffers, keyBuffers } = state;
      const copied: TrainingState = {
        ...{ version, updates, query: query.slice(), key: key.slice() },
        optimizer: optimizer.map((vector) => vector.slice()),
        ...{ queryBuffers: queryBuffers.slice(), keyBuffers: keyBuffers.slice() },
      };
      const stored = { step, state: copied, queue };
      this.whole.push(stored);
      if (this.whole.length > KEEP) this.whole.shift();
      done(stored);
    });
  }

  /** The process dies. */
  tear(): void {
    this.crashes++;
  }

  newest(): Stored | null {
    return this.whole.at(-1) ?? null;
  }
}
