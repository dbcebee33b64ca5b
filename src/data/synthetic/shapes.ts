/**
 * Shapes as signed distance functions after Quilez, "2D distance functions": distance to the border, negative inside. Each shape
 * has circumradius 1 and about its centre of area at the origin; y points down.
 */

export type Shape = "disc" | "square" | "triangle" | "star" | "cross";

export type DistanceFunction = (x: number, y: number) => number;

export const DISTANCE: Readonly<Record<Shape, DistanceFunction>> = { disc, square, triangle, star, cross };

function disc(x: number, y: number): number {
  return Math.sqrt(x * x + y * y) - 0.9;
}

function box(x: number, y: number, halfWidth: number, halfHeight: number): number {
  const dx = Math.abs(x) - halfWidth;
  const dy = Math.abs(y) - halfHeight;
  const outsideX = Math.max(dx, 0);
  const outsideY = Math.max(dy, 0);
  return Math.sqrt(outsideX * outsideX + outsideY * outsideY) + Math.min(Math.max(dx, dy), 0);
}

function square(x: number, y: number): number {
  return box(x, y, 0.75, 0.75);
}

function cross(x: number, y: number): number {
  return Math.min(box(x, y, 1, 0.34), box(x, y, 0.34, 1));
}

const ROOT_3 = Math.sqrt(3);

/** Equilateral, point up. */
function triangle(x: number, y: number): number {
  const halfSide = ROOT_3 / 2;
  let px = Math.abs(x) - halfSide;
  let py = -y + 0.5;
  if (px + ROOT_3 * py > 0) {
    const folded = (px - ROOT_3 * py) / 2;
    py = (-ROOT_3 * px - py) / 2;
    px = folded;
  }
  px -= Math.min(Math.max(px, -2 * halfSide), 0);
  return -Math.sqrt(px * px + py * py) * Math.sign(py);
}

/** Five points, one up; radius of the notches between them. */
const STAR_WAIST = 0.45;
const HALF_POINT = Math.PI / 5;
const EDGE_X = STAR_WAIST * Math.cos(HALF_POINT) - 1;
const EDGE_Y = STAR_WAIST * Math.sin(HALF_POINT);

function star(x: number, y: number): number {
  // Half a point, tip at (1, 0) and notch at an angle of 36°, stands for all ten.
  const radius = Math.sqrt(x * x + y * y);
  const turn = Math.atan2(x, -y) / (2 * HALF_POINT);
  const angle = Math.abs(turn - Math.round(turn)) * 2 * HALF_POINT;
  const px = radius * Math.cos(angle) - 1;
  const py = radius * Math.sin(angle);
  const along = Math.min(Math.max((px * EDGE_X + py * EDGE_Y) / (EDGE_X * EDGE_X + EDGE_Y * EDGE_Y), 0), 1);
  const dx = px - EDGE_X * along;
  const dy = py - EDGE_Y * along;
  return Math.sqrt(dx * dx + dy * dy) * Math.sign(px * EDGE_Y - py * EDGE_X);
}
