/**
 * Draws a run's pictures, in a process of its own: the engine's memory is there only while they are made, no device of the workers' is
 * touched, and whoever computes comes first. One order in, one answer out.
 */
import { setPriority, constants } from "node:os";
import { configureEngine } from "../src/engine/environment.js";
import { parted } from "../src/data/paired-images.js";
import { pictureGrid, readableSide, type Grid } from "../src/data/picture-grid.js";
import type { NeighboursOrder, PictureOrder } from "./picture-order.js";

export interface PictureAnswer {
  readonly pairs: Grid;
  readonly neighbours: Grid | null;
}

/** Side of a picture in a sheet at most, in pixels: 36 of them are below 2 MB. */
const MOST_SIDE = 128;
/** Of frames: told apart by those, too, who do not see red or green. */
const SAME_CLASS = "#3b82f6";
const OTHER_CLASS = "#f59e0b";

async function draw({ config, pairs, neighbours }: PictureOrder): Promise<PictureAnswer> {
  const { imageSize, decodeSize } = config.data;
  const side = Math.min(MOST_SIDE, readableSide(imageSize));
  // Only now: the engine reads its environment when it loads.
  const { viewSheet } = await import("../src/data/contact-sheet.js");
  const { samples, pixels, arePaired, epochs } = pairs;
  const sides = arePaired ? parted(pixels, 3 * decodeSize ** 2) : { queries: pixels, keys: null };
  const shown = { samples, images: sides.queries, keyImages: sides.keys };
  return {
    pairs: await viewSheet(shown, config, epochs, side),
    neighbours: neighbours === null ? null : await neighbourSheet(neighbours, decodeSize, side),
  };
}

/** Per row a test sample and its neighbours, the nearest first, each in a frame that says whether it is of the same class. */
function neighbourSheet({ pixels, areSame }: NeighboursOrder, size: number, side: number): Promise<Grid> {
  const length = 3 * size ** 2;
  const columns = 1 + Math.max(...areSame.map((row) => row.length));
  const cell = (row: number, column: number) => {
    const start = (row * columns + column) * length;
    return { pixels: pixels.subarray(start, start + length), size, row, column };
  };
  const cells = areSame.flatMap((same, row) => [
    cell(row, 0),
    ...same.map((isSame, rank) => ({ ...cell(row, 1 + rank), frame: isSame ? SAME_CLASS : OTHER_CLASS })),
  ]);
  return pictureGrid(cells, side);
}

setPriority(constants.priority.PRIORITY_BELOW_NORMAL);
configureEngine({ threads: 1, device: "cpu" });
// Ctrl-C is for the coordinator, which may want the last pictures before it ends; without it there is nobody to draw for.
process.on("SIGINT", () => undefined);
process.on("disconnect", () => process.exit());
process.once("message", (order: PictureOrder) => {
  void draw(order).then((answer) => process.send?.(answer, () => process.exit()));
});
