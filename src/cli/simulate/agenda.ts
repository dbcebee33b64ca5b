/** Virtual time: what happens when, in the order of time and then of asking. A binary heap. */

interface Entry {
  readonly at: number;
  readonly order: number;
  readonly happen: () => void;
}

export class Agenda {
  now = 0;
  events = 0;
  private order = 0;
  private readonly heap: Entry[] = [];

  later(delay: number, happen: () => void): void {
    this.at(this.now + delay, happen);
  }

  /** What is due at the same time happens in the order of asking; a delay that was computed from the time could round it apart. */
  at(time: number, happen: () => void): void {
    const entry = { at: time, order: this.order++, happen };
    const { heap } = this;
    let index = heap.length;
    heap.push(entry);
    while (index > 0) {
      const parent = (index - 1) >> 1;
      if (isBefore(heap[parent], entry)) break;
      heap[index] = heap[parent];
      index = parent;
    }
    heap[index] = entry;
  }

  /** @returns false where nothing is left to happen */
  next(): boolean {
    const { heap } = this;
    const first = heap[0];
    const last = heap.pop();
    if (last === undefined) return false;
    if (heap.length > 0) this.sink(last);
    this.now = first.at;
    this.events++;
    first.happen();
    return true;
  }

  private sink(entry: Entry): void {
    const { heap } = this;
    let index = 0;
    for (;;) {
      let child = 2 * index + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && isBefore(heap[child + 1], heap[child])) child++;
      if (isBefore(entry, heap[child])) break;
      heap[index] = heap[child];
      index = child;
    }
    heap[index] = entry;
  }
}

function isBefore(a: Entry, b: Entry): boolean {
  return a.at < b.at || (a.at === b.at && a.order < b.order);
}
