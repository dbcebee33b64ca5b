/** How many samples a run may lose to corruption before it is refused. */
import { UserError } from "../protocol/errors.js";

/** Names shown when the limit is passed. */
const NAMES_SHOWN = 3;

/** Counts distinct names, so that a sample which every epoch or worker meets again counts once. */
export class CorruptLimit {
  private readonly names = new Set<string>();

  /** @param most `data.maxCorrupt`: samples that may be skipped */
  constructor(private readonly most: number) {}

  /** Distinct corrupt samples so far; at most one more than the limit is ever kept. */
  get size(): number {
    return this.names.size;
  }

  /**
   * @returns whether the name is new
   * @throws UserError `DATA_TOO_MANY_CORRUPT` past the limit
   */
  count(name: string): boolean {
    if (this.names.has(name)) return false;
    if (this.names.size <= this.most) this.names.add(name);
    if (this.names.size > this.most) {
      const shown = [...this.names].slice(0, NAMES_SHOWN).map((each) => `"${each}"`);
      const more = this.names.size > NAMES_SHOWN ? ", …" : "";
      throw new UserError(
        "DATA_TOO_MANY_CORRUPT",
        `more than ${this.most} images cannot be decoded (${shown.join(", ")}${more}): repair or remove them, or raise data.maxCorrupt`,
      );
    }
    return true;
  }
}
