/** The size in which pictures come that are not files. */
import { CIFAR_SIDE } from "./cifar.js";
import type { DataSpec } from "./spec.js";
import { STL10_SIDE } from "./stl10.js";

/** Side in pixels of a set whose pictures are all of one size; null where they are files, each of its own, or no pictures. */
export function nativeSide(spec: DataSpec): number | null {
  switch (spec.kind) {
    case "synthetic":
      return spec.size;
    case "cifar10":
    case "cifar100":
      return CIFAR_SIDE;
    case "stl10":
      return STL10_SIDE;
    case "folder":
    case "webdataset":
    case "text":
    case "pairs":
      return null;
  }
}
