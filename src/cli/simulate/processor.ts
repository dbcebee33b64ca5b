/** A thread in virtual time: it takes one thing after another. */
import type { Agenda } from "./agenda.js";

interface Task {
  readonly costMs: number;
  readonly act: () => void;
}

export class Processor {
  /** in ms, since `reset` */
  busyMs = 0;
  private queue: Task[] = [];
  private next = 0;
  private isBusy = false;
  private charged = 0;

  constructor(private readonly agenda: Agenda) {}

  /** @param costMs that it takes before `act` is done */
  post(costMs: number, act: () => void): void {
    this.queue.push({ costMs, act });
    if (!this.isBusy) this.begin();
  }

  /** Within what was posted: time that it takes beside. What is sent afterwards leaves that much later. */
  charge(ms: number): void {
    this.charged += ms;
  }

  /** now, as far as what is under way has come, in ms */
  get time(): number {
    return this.agenda.now + this.charged;
  }

  reset(): void {
    this.busyMs = 0;
  }

  private begin(): void {
    const task = this.queue[this.next++];
    if (task === undefined) {
      this.queue = [];
      this.next = 0;
      this.isBusy = false;
      return;
    }
    this.isBusy = true;
    this.agenda.later(task.costMs, () => {
      task.act();
      const ms = this.charged;
      this.charged = 0;
      this.busyMs += task.costMs + ms;
      if (ms === 0) this.begin();
      else
        this.agenda.later(ms, () => {
          this.begin();
        });
    });
  }
}
