/**
 * Numbers of the messages of one connection in one direction, from 1. ZeroMQ delivers in order or not at all, so a number that
 * is missing says that the connection is of no more use (zguide, chapter 5: "sequenced updates" of the clone pattern).
 */

/** Of a message that has come: the one that was due, one that has come before, or one before which another is missing. */
export type Arrival = "due" | "repeated" | "gap";

export class Numbering {
  private last = 0;

  /** For a message to be sent. */
  next(): number {
    return ++this.last;
  }

  arrived(number: number | null | undefined): Arrival {
    const given = number ?? 0;
    if (given <= this.last) return "repeated";
    if (given > this.last + 1) return "gap";
    this.last = given;
    return "due";
  }
}
