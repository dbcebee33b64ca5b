/**
 * Messages that had to be dropped: all are counted, few are told. A stranger who sends a million must not fill the disk with
 * lines about them.
 */

/** Lines told at once, and how often another may follow, in ms. */
const BURST = 20;
const LINE_EVERY_MS = 1000;

export class DropLog {
  private lines = BURST;
  private refilledAt: number;
  private untold = 0;
  total = 0;

  /** @param now monotonic clock in ms */
  constructor(
    private readonly now: () => number,
    private readonly tell: (peer: string, reason: string) => void,
  ) {
    this.refilledAt = now();
  }

  count(peer: string, reason: string): void {
    this.total++;
    if (this.mayTell()) this.tell(peer, reason);
    else this.untold++;
  }

  /** Tells how many were not told, now and then. */
  tick(): void {
    if (this.untold === 0 || !this.mayTell()) return;
    this.tell("several", `${String(this.untold)} more, of which nothing is said one by one`);
    this.untold = 0;
  }

  private mayTell(): boolean {
    const due = Math.floor((this.now() - this.refilledAt) / LINE_EVERY_MS);
    if (due > 0) {
      this.lines = Math.min(BURST, this.lines + due);
      this.refilledAt += due * LINE_EVERY_MS;
    }
    if (this.lines === 0) return false;
    this.lines--;
    return true;
  }
}
