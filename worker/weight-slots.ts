/** Memory for versions of the weights: of this process alone, or shared with the processes of its devices. */
import { gradientLength, slotLength } from "../src/models/exchange.js";
import type { ParameterLayout } from "../src/models/index.js";
import { UserError } from "../src/protocol/errors.js";
import type { VectorArena } from "../src/optim/index.js";
import { hasRoom, pagedBytes, SharedSegment, type SegmentAddress } from "../src/transport/shared-segment.js";

/** Where other processes find what lies in shared memory. */
export interface SharedPlace {
  readonly segment: SegmentAddress;
  /** first byte, of what is shared there */
  readonly at: number;
}

export interface WeightSlot {
  readonly values: Float32Array;
  /** null: nobody else sees it */
  readonly place: SharedPlace | null;
  release(): void;
}

/** @param length in values */
export type SlotMaker = (length: number) => WeightSlot;

export function ownSlots(arena: VectorArena): SlotMaker {
  return (length) => {
    const values = arena.take(length);
    return {
      ...{ values, place: null },
      release: () => {
        arena.release(values);
      },
    };
  };
}

export function sharedSlots(arena: VectorArena): SlotMaker {
  return (length) => {
    const segment = deviceMemory(length);
    const values = arena.map(length, segment.file, segment.position(0));
    return {
      ...{ values, place: { segment: segment.address, at: 0 } },
      release: () => {
        arena.unmap(values);
        segment.close();
      },
    };
  };
}

/**
 * What a team of devices shares: two versions of the weights, and a gradient of each.
 * @throws UserError `DEVICE_MEMORY` where the system has too little
 */
export function checkDeviceMemory(layout: ParameterLayout, devices: number): void {
  const bytes = 2 * pagedBytes(slotLength(layout)) + devices * pagedBytes(gradientLength(layout));
  if (!hasRoom(bytes)) throw lacking(bytes);
}

/**
 * @param length in float32 values
 * @throws UserError `DEVICE_MEMORY` where the system has too little to share
 */
export function deviceMemory(length: number): SharedSegment {
  const segment = SharedSegment.create(pagedBytes(length));
  if (segment === null) throw lacking(pagedBytes(length));
  return segment;
}

function lacking(bytes: number): UserError {
  return new UserError(
    "DEVICE_MEMORY",
    `--devices shares weights and gradients through /dev/shm, which has no ${String(Math.ceil(bytes / 1e6))} MB to give (half of what is free stays so): ` +
      "enlarge it (docker run --shm-size; on Kubernetes an emptyDir with medium: Memory mounted at /dev/shm), or start a worker for each device",
  );
}
