/** Small pictures side by side in one PNG. */
import sharp from "sharp";

/** One picture of a grid. */
export interface Cell {
  /** RGB bytes `[size, size, 3]` */
  readonly pixels: Uint8Array;
  readonly size: number;
  readonly column: number;
  readonly row: number;
  /** colour of a frame around it, in CSS; none where left out */
  readonly frame?: string;
}

export interface Grid {
  readonly png: Buffer;
  /** in pixels */
  readonly width: number;
  readonly height: number;
}

/** Small pictures are enlarged by a whole factor up to about this side, so that one can see them. */
const READABLE_SIDE = 96;
/** Around and between cells, in pixels; a frame takes most of it. */
const GAP = 4;
const FRAME = 3;
const FRAMED_GAP = 2 * FRAME + GAP;
const BACKGROUND = { r: 32, g: 32, b: 32 };

/** @param size of a picture's side, in pixels @returns side by which it is easily seen */
export function readableSide(size: number): number {
  return size * Math.max(1, Math.round(READABLE_SIDE / size));
}

/** @param side of every cell in the grid, in pixels */
export async function pictureGrid(cells: readonly Cell[], side: number): Promise<Grid> {
  const gap = cells.some(({ frame }) => frame !== undefined) ? FRAMED_GAP : GAP;
  const extent = (count: number) => count * (side + gap) + gap;
  const most = (values: readonly number[]) => values.reduce((one, other) => Math.max(one, other), 0);
  const width = extent(most(cells.map(({ column }) => column)) + 1);
  const height = extent(most(cells.map(({ row }) => row)) + 1);
  const layers = await Promise.all(
    cells.map(async ({ pixels, size, column, row, frame }) => {
      const around = frame === undefined ? 0 : FRAME;
      const picture = sharp(pixels, { raw: { width: size, height: size, channels: 3 } })
        .resize(side, side, { kernel: side < size ? "lanczos3" : "nearest" })
        .extend({ top: around, bottom: around, left: around, right: around, background: frame ?? BACKGROUND });
      return { input: await picture.png().toBuffer(), left: extent(column) - around, top: extent(row) - around };
    }),
  );
  const png = await sharp({ create: { width, height, channels: 3, background: BACKGROUND } })
    .composite(layers)
    .png()
    .toBuffer();
  return { png, width, height };
}
