/** Where a view's pixels come from: crop, flip and rotation as one map for ImageProjectiveTransformV3. */

/** A box in the decoded image, in pixels; pixel `(i, j)` covers `[i, i+1) × [j, j+1)`. */
export interface CropBox {
  readonly left: number;
  readonly top: number;
  readonly width: number;
  readonly height: number;
}

/**
 * `[a0, a1, a2, b0, b1, b2, 0, 0]`: output pixel `(x, y)` shows input position `(a0·x + a1·y + a2, b0·x + b1·y + b2)`, both counted in
 * whole pixels from the middle of the first. As torchvision does in turn: the box is scaled to the view, the view is mirrored, then
 * turned about its centre; a corner that this uncovers shows the image beyond the box.
 * @param flipped mirrored left to right
 * @param radians rotation, anticlockwise to the eye
 * @param size side of the view in pixels
 */
export function viewTransform(box: CropBox, flipped: boolean, radians: number, size: number): Float64Array {
  const scaleX = ((flipped ? -1 : 1) * box.width) / size;
  const scaleY = box.height / size;
  const cos = Math.cos(radians);
  const sin = Math.sin(radians);
  // Back from the turned view: its offset (dx, dy) from the centre was at (dx·cos − dy·sin, dx·sin + dy·cos), as y points down.
  const a0 = scaleX * cos;
  const a1 = -scaleX * sin;
  const b0 = scaleY * sin;
  const b1 = scaleY * cos;
  // Middles of pixels lie half a pixel on; the view's centre is `middle` pixels from the middle of its first pixel.
  const middle = (size - 1) / 2;
  const a2 = box.left + box.width / 2 - 0.5 - (a0 + a1) * middle;
  const b2 = box.top + box.height / 2 - 0.5 - (b0 + b1) * middle;
  return Float64Array.of(a0, a1, a2, b0, b1, b2, 0, 0);
}
