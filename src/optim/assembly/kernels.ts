/**
 * Element-wise float32 kernels in AssemblyScript, 4 lanes at a time over shared memory. Arguments are byte offsets, aligned
 * to 16, of vectors of `length` values; a vector's memory reaches up to the next multiple of 16 bytes, so the last lanes
 * may run over. Every operation rounds to float32, as IEEE 754 says and in the order written: the bits do not depend on
 * the machine.
 */

const LANES: usize = 4;
const BYTES: usize = 16;

function end(length: i32): usize {
  return ((<usize>length + LANES - 1) / LANES) * BYTES;
}

/** `out ← a + b`; `out` may be `a` or `b` */
export function add(a: usize, b: usize, out: usize, length: i32): void {
  const stop = end(length);
  for (let i: usize = 0; i < stop; i += BYTES) {
    v128.store(out + i, f32x4.add(v128.load(a + i), v128.load(b + i)));
  }
}

/** `next ← m·target + share·source` */
export function mix(target: usize, source: usize, next: usize, length: i32, m: f32, share: f32): void {
  const stop = end(length);
  const ms = f32x4.splat(m);
  const shares = f32x4.splat(share);
  for (let i: usize = 0; i < stop; i += BYTES) {
    const kept = f32x4.mul(ms, v128.load(target + i));
    v128.store(next + i, f32x4.add(kept, f32x4.mul(shares, v128.load(source + i))));
  }
}

/** `g ← scale·gradient + decay·θ`, `v' ← momentum·v + g`, `θ' ← θ − rate·v'` */
export function sgd(
  theta: usize,
  gradient: usize,
  velocity: usize,
  nextTheta: usize,
  nextVelocity: usize,
  length: i32,
  scale: f32,
  decay: f32,
  momentum: f32,
  rate: f32,
): void {
  const stop = end(length);
  const scales = f32x4.splat(scale);
  const decays = f32x4.splat(decay);
  const momenta = f32x4.splat(momentum);
  const rates = f32x4.splat(rate);
  for (let i: usize = 0; i < stop; i += BYTES) {
    const value = v128.load(theta + i);
    const mean = f32x4.mul(scales, v128.load(gradient + i));
    const g = f32x4.add(mean, f32x4.mul(decays, value));
    const v = f32x4.add(f32x4.mul(momenta, v128.load(velocity + i)), g);
    v128.store(nextVelocity + i, v);
    v128.store(nextTheta + i, f32x4.sub(value, f32x4.mul(rates, v)));
  }
}
