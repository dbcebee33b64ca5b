/**
 * A network between one coordinator and its workers, as ZeroMQ and TCP make it, and worse: messages of a channel are delayed,
 * lost, doubled and overtaken, and whole directions fall silent for a while.
 */
import type { Agenda } from "../../src/cli/simulate/agenda.js";
import type { Random } from "../../src/cli/simulate/random.js";

/** One connection, control or data, of a worker to a coordinator. */
export interface Channel {
  /** the routing id by which the coordinator knows it */
  readonly address: string;
  readonly kind: Plane;
  readonly worker: number;
  /** which of the coordinator's lives it was made with; null: there was none yet */
  life: number | null;
  /** closed at the worker's end */
  isClosed: boolean;
  /** when the message before arrives, in either direction */
  readonly last: { up: number; down: number };
  readonly deliver: (message: never, frames: readonly Uint8Array[]) => void;
  /** the worker hears that the connection is broken */
  readonly broken: () => void;
}

/** Chances in one, for each message. */
export interface Weather {
  readonly loss: number;
  readonly doubling: number;
  readonly overtaking: number;
  /** longest delay of a message, in ms */
  readonly delayMs: number;
}

export const CALM: Weather = { loss: 0, doubling: 0, overtaking: 0, delayMs: 2 };

export type Direction = "up" | "down";
export type Plane = "control" | "data";

export class Network {
  weather: Weather;
  /** until when messages vanish, by worker, plane and direction */
  private readonly silentUntil = new Map<number, number>();
  lost = 0;
  doubled = 0;
  overtaken = 0;

  constructor(
    private readonly agenda: Agenda,
    private readonly draw: Random,
    weather: Weather,
  ) {
    this.weather = weather;
  }

  silence(worker: number, plane: Plane, direction: Direction, forMs: number): void {
    this.silentUntil.set(wayOf(worker, plane, direction), this.agenda.now + forMs);
  }

  isSilent({ worker, kind }: Channel, direction: Direction): boolean {
    if (this.silentUntil.size === 0) return false;
    return (this.silentUntil.get(wayOf(worker, kind, direction)) ?? 0) > this.agenda.now;
  }

  /** A message leaves; `arrive` is called when, and as often as, it comes through. */
  carry(channel: Channel, direction: Direction, arrive: () => void): void {
    const { draw, weather, agenda } = this;
    const isCalm = weather.loss === 0;
    if (this.isSilent(channel, direction) || (!isCalm && draw.chance(weather.loss))) {
      this.lost++;
      return;
    }
    const due = agenda.now + 0.2 + draw.next() * weather.delayMs;
    // TCP keeps the order; a message that is overtaken is one that somebody meddled with.
    let at = Math.max(due, channel.last[direction]);
    channel.last[direction] = at;
    if (!isCalm && draw.chance(weather.overtaking)) {
      this.overtaken++;
      at += draw.next() * 20;
    }
    agenda.at(at, arrive);
    if (isCalm || !draw.chance(weather.doubling)) return;
    this.doubled++;
    agenda.at(at + draw.next() * 50, arrive);
  }
}

/** A number of its own for each plane and direction of a worker. */
function wayOf(worker: number, plane: Plane, direction: Direction): number {
  return 4 * worker + (plane === "data" ? 2 : 0) + (direction === "down" ? 1 : 0);
}
