/** Where a token stands, as sines and cosines of its place (Vaswani et al. 2017, section 3.5), in two dimensions as MoCo v3 has them. */

const TEMPERATURE = 10_000;

/**
 * @param grid patches along a side
 * @param width D, a multiple of 4: a quarter each for sines and cosines of the row and of the column
 * @returns float32 `[1 + grid², width]` row by row, behind zeros for the class token
 */
export function sineCosine2d(grid: number, width: number): Float32Array {
  const values = new Float32Array((1 + grid * grid) * width);
  const quarter = width / 4;
  for (let row = 0; row < grid; row++) {
    for (let column = 0; column < grid; column++) {
      const start = (1 + row * grid + column) * width;
      for (let i = 0; i < quarter; i++) {
        const frequency = TEMPERATURE ** (-i / quarter);
        values[start + i] = Math.sin(row * frequency);
        values[start + quarter + i] = Math.cos(row * frequency);
        values[start + 2 * quarter + i] = Math.sin(column * frequency);
        values[start + 3 * quarter + i] = Math.cos(column * frequency);
      }
    }
  }
  return values;
}
