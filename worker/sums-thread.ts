/** The thread that sums what the devices of one worker have computed, before it leaves the machine: the same tree, so the same bits. */
import { gradientLength, type GradientType } from "../src/models/exchange.js";
import type { ParameterLayout } from "../src/models/index.js";
import { VectorArena, type TreeNode } from "../src/optim/index.js";
import { SharedSegment } from "../src/transport/shared-segment.js";
import { pagedBytes } from "../src/transport/index.js";
import type { FlushRequest } from "./compute-thread.js";
import { PartialSums, type Occasion } from "./partial-sums.js";
import type { HandedOut } from "./session-ports.js";
import { serveCalls } from "./thread-call.js";

export type SumsCalls = {
  start: [{ layout: ParameterLayout; worldSize: number; gradients: GradientType }, null];
  add: [DeviceSum, null];
  flush: [FlushRequest, readonly HandedOut[]];
};

/** One node's sum, as a device hands it out. */
export interface DeviceSum extends Occasion {
  readonly node: TreeNode;
  /** as `PartialSums` lets it travel; null: it lies in `memory` */
  readonly values: readonly Float32Array[] | null;
  /** descriptor of the memory shared with the device */
  readonly memory: number;
}

let sums: { readonly gathered: PartialSums; readonly layout: ParameterLayout } | null = null;
const arena = new VectorArena();
/** the devices' memories, by descriptor */
const mapped = new Map<number, Float32Array>();

function started() {
  if (sums === null) throw new Error("sums were wanted before they were started");
  return sums;
}

/** Where it lies it may be added to: its device writes there again in another step, when nobody looks at this one any more. */
function inMemory(memory: number, length: number): Float32Array {
  const known = mapped.get(memory);
  if (known !== undefined) return known;
  const segment = SharedSegment.ofFile(memory, pagedBytes(length));
  const vector = arena.map(length, memory, segment.position(0));
  mapped.set(memory, vector);
  return vector;
}

function arrived(values: readonly Float32Array[], length: number, rounded: number): Float32Array {
  const vector = arena.take(length);
  const [first, rest] = values;
  if (rounded === 0) vector.set(first);
  else {
    const codes = arena.take(first.length);
    codes.set(first);
    arena.unpack(codes, vector.subarray(0, rounded));
    arena.release(codes);
    vector.set(rest, rounded);
  }
  return vector;
}

serveCalls<SumsCalls>({
  start: ({ layout, worldSize, gradients }) => {
    sums = { gathered: new PartialSums(layout, worldSize, gradients, arena), layout };
    return null;
  },
  add: ({ node, values, memory, ...occasion }) => {
    const { gathered, layout } = started();
    // A device may end what it was at for an earlier connection after another has begun with this one's.
    if (!gathered.open(occasion)) return null;
    const length = gradientLength(layout);
    gathered.add(node, values === null ? inMemory(memory, length) : arrived(values, length, gathered.rounded));
    return null;
  },
  flush: ({ memories, ...occasion }) => {
    const { gathered } = started();
    return gathered.open(occasion) ? gathered.handOut(gathered.exits(memories)) : [];
  },
});
