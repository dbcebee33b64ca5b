/**
 * Element-wise float32 kernels in AssemblyScript, 4 lanes at a time over shared memory. Arguments are byte offsets, aligned
 * to 4, of vectors of `length` values; nothing behind them is written, and what is written may be what is read: an update in
 * place. Every operation rounds to float32, as IEEE 754 says and in the order written: the bits do not depend on
 * the machine.
 */

const BYTES: usize = 16;

/** Bytes of a vector, and of those lanes that are whole. */
function bytesOf(length: i32): usize {
  return <usize>length * 4;
}
function wholeOf(length: i32): usize {
  return bytesOf(length) & ~(BYTES - 1);
}

/** `out ← a + b`; `out` may be `a` or `b` */
export function add(a: usize, b: usize, out: usize, length: i32): void {
  const whole = wholeOf(length);
  for (let i: usize = 0; i < whole; i += BYTES) {
    v128.store(out + i, f32x4.add(v128.load(a + i), v128.load(b + i)));
  }
  for (let i = whole; i < bytesOf(length); i += 4) store<f32>(out + i, load<f32>(a + i) + load<f32>(b + i));
}

/** Four float32 to the nearest bfloat16 each, ties to even; what is not a number stays none. */
function rounded(values: v128): v128 {
  const odd = v128.and(i32x4.shr_u(values, 16), i32x4.splat(1));
  const nearest = i32x4.add(values, i32x4.add(odd, i32x4.splat(0x7fff)));
  const isNumber = f32x4.eq(values, values);
  const quiet = v128.or(values, i32x4.splat(0x00400000));
  return v128.and(v128.bitselect(nearest, quiet, isNumber), i32x4.splat(0xffff0000));
}
function roundedOne(value: f32): f32 {
  const bits = reinterpret<u32>(value);
  const nearest = bits + 0x7fff + ((bits >> 16) & 1);
  return reinterpret<f32>((value == value ? nearest : bits | 0x00400000) & 0xffff0000);
}

/** `values ← bfloat16(values)`, which stay float32 */
export function round(values: usize, length: i32): void {
  const whole = wholeOf(length);
  for (let i: usize = 0; i < whole; i += BYTES) v128.store(values + i, rounded(v128.load(values + i)));
  for (let i = whole; i < bytesOf(length); i += 4) store<f32>(values + i, roundedOne(load<f32>(values + i)));
}

/** `out ← bfloat16(a + b)`, float32 of so many bits; `out` may be `a` or `b` */
export function addRounded(a: usize, b: usize, out: usize, length: i32): void {
  const whole = wholeOf(length);
  for (let i: usize = 0; i < whole; i += BYTES) {
    v128.store(out + i, rounded(f32x4.add(v128.load(a + i), v128.load(b + i))));
  }
  for (let i = whole; i < bytesOf(length); i += 4) store<f32>(out + i, roundedOne(load<f32>(a + i) + load<f32>(b + i)));
}

/** `codes ← the upper halves of values`, two bytes each: bfloat16 where values are rounded */
export function pack(values: usize, codes: usize, length: i32): void {
  const whole = bytesOf(length) & ~(2 * BYTES - 1);
  for (let i: usize = 0; i < whole; i += 2 * BYTES) {
    const first = v128.load(values + i);
    const second = v128.load(values + i, BYTES);
    v128.store(codes + i / 2, i8x16.shuffle(first, second, 2, 3, 6, 7, 10, 11, 14, 15, 18, 19, 22, 23, 26, 27, 30, 31));
  }
  for (let i = whole; i < bytesOf(length); i += 4) store<u16>(codes + i / 2, load<u16>(values + i, 2));
}

/** The reverse: lower halves are 0. */
export function unpack(codes: usize, values: usize, length: i32): void {
  const whole = bytesOf(length) & ~(2 * BYTES - 1);
  const zero = i32x4.splat(0);
  for (let i: usize = 0; i < whole; i += 2 * BYTES) {
    const both = v128.load(codes + i / 2);
    v128.store(values + i, i8x16.shuffle(zero, both, 0, 0, 16, 17, 0, 0, 18, 19, 0, 0, 20, 21, 0, 0, 22, 23));
    v128.store(values + i, i8x16.shuffle(zero, both, 0, 0, 24, 25, 0, 0, 26, 27, 0, 0, 28, 29, 0, 0, 30, 31), BYTES);
  }
  for (let i = whole; i < bytesOf(length); i += 4) store<u32>(values + i, (<u32>load<u16>(codes + i / 2)) << 16);
}

/** `next ← m·target + share·source` */
export function mix(target: usize, source: usize, next: usize, length: i32, m: f32, share: f32): void {
  const whole = wholeOf(length);
  const ms = f32x4.splat(m);
  const shares = f32x4.splat(share);
  for (let i: usize = 0; i < whole; i += BYTES) {
    const kept = f32x4.mul(ms, v128.load(target + i));
    v128.store(next + i, f32x4.add(kept, f32x4.mul(shares, v128.load(source + i))));
  }
  for (let i = whole; i < bytesOf(length); i += 4) {
    store<f32>(next + i, m * load<f32>(target + i) + share * load<f32>(source + i));
  }
}

/**
 * Σ (scale·gradient + decay·θ)², each term rounded to float32 as the update does, squared and summed in float64 by eight
 * running sums whose order is fixed. Reads nothing past `length`.
 */
export function squares(theta: usize, gradient: usize, length: i32, scale: f32, decay: f32): f64 {
  const scales = f32x4.splat(scale);
  const decays = f32x4.splat(decay);
  let a = f64x2.splat(0);
  let b = f64x2.splat(0);
  let c = f64x2.splat(0);
  let d = f64x2.splat(0);
  const bytes = <usize>length * 4;
  const whole = bytes - (bytes % (2 * BYTES));
  for (let i: usize = 0; i < whole; i += 2 * BYTES) {
    const first = f32x4.add(f32x4.mul(scales, v128.load(gradient + i)), f32x4.mul(decays, v128.load(theta + i)));
    const second = f32x4.add(
      f32x4.mul(scales, v128.load(gradient + i, BYTES)),
      f32x4.mul(decays, v128.load(theta + i, BYTES)),
    );
    const first0 = f64x2.promote_low_f32x4(first);
    const first1 = f64x2.promote_low_f32x4(
      i8x16.shuffle(first, first, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7),
    );
    const second0 = f64x2.promote_low_f32x4(second);
    const second1 = f64x2.promote_low_f32x4(
      i8x16.shuffle(second, second, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7),
    );
    a = f64x2.add(a, f64x2.mul(first0, first0));
    b = f64x2.add(b, f64x2.mul(first1, first1));
    c = f64x2.add(c, f64x2.mul(second0, second0));
    d = f64x2.add(d, f64x2.mul(second1, second1));
  }
  const pair = f64x2.add(f64x2.add(a, b), f64x2.add(c, d));
  let sum = f64x2.extract_lane(pair, 0) + f64x2.extract_lane(pair, 1);
  for (let i = whole; i < bytes; i += 4) {
    const value = <f64>(scale * load<f32>(gradient + i) + decay * load<f32>(theta + i));
    sum += value * value;
  }
  return sum;
}

/** `g ← trust·(scale·gradient + decay·θ)`, `v' ← momentum·v + g`, `θ' ← θ − rate·v'` */
export function sgd(
  theta: usize,
  gradient: usize,
  velocity: usize,
  nextTheta: usize,
  nextVelocity: usize,
  length: i32,
  scale: f32,
  decay: f32,
  trust: f32,
  momentum: f32,
  rate: f32,
): void {
  const whole = wholeOf(length);
  const scales = f32x4.splat(scale);
  const decays = f32x4.splat(decay);
  const trusts = f32x4.splat(trust);
  const momenta = f32x4.splat(momentum);
  const rates = f32x4.splat(rate);
  for (let i: usize = 0; i < whole; i += BYTES) {
    const value = v128.load(theta + i);
    const mean = f32x4.mul(scales, v128.load(gradient + i));
    const g = f32x4.mul(trusts, f32x4.add(mean, f32x4.mul(decays, value)));
    const v = f32x4.add(f32x4.mul(momenta, v128.load(velocity + i)), g);
    v128.store(nextVelocity + i, v);
    v128.store(nextTheta + i, f32x4.sub(value, f32x4.mul(rates, v)));
  }
  for (let i = whole; i < bytesOf(length); i += 4) {
    const value = load<f32>(theta + i);
    const v = momentum * load<f32>(velocity + i) + trust * (scale * load<f32>(gradient + i) + decay * value);
    store<f32>(nextVelocity + i, v);
    store<f32>(nextTheta + i, value - rate * v);
  }
}

/**
 * `g ← scale·gradient`, `m' ← m + share·(g − m)`, `s' ← squareKept·s + squareShare·g·g`,
 * `θ' ← kept·θ − rate·m' / (√s'·rootScale + epsilon)`
 */
export function adamw(
  theta: usize,
  gradient: usize,
  mean: usize,
  square: usize,
  nextTheta: usize,
  nextMean: usize,
  nextSquare: usize,
  length: i32,
  scale: f32,
  kept: f32,
  share: f32,
  squareKept: f32,
  squareShare: f32,
  rootScale: f32,
  epsilon: f32,
  rate: f32,
): void {
  const whole = wholeOf(length);
  const scales = f32x4.splat(scale);
  const kepts = f32x4.splat(kept);
  const shares = f32x4.splat(share);
  const squareKepts = f32x4.splat(squareKept);
  const squareShares = f32x4.splat(squareShare);
  const rootScales = f32x4.splat(rootScale);
  const epsilons = f32x4.splat(epsilon);
  const rates = f32x4.splat(rate);
  for (let i: usize = 0; i < whole; i += BYTES) {
    const g = f32x4.mul(scales, v128.load(gradient + i));
    const before = v128.load(mean + i);
    const m = f32x4.add(before, f32x4.mul(shares, f32x4.sub(g, before)));
    const s = f32x4.add(f32x4.mul(squareKepts, v128.load(square + i)), f32x4.mul(f32x4.mul(squareShares, g), g));
    v128.store(nextMean + i, m);
    v128.store(nextSquare + i, s);
    const divisor = f32x4.add(f32x4.mul(f32x4.sqrt(s), rootScales), epsilons);
    const moved = f32x4.mul(rates, f32x4.div(m, divisor));
    v128.store(nextTheta + i, f32x4.sub(f32x4.mul(kepts, v128.load(theta + i)), moved));
  }
  for (let i = whole; i < bytesOf(length); i += 4) {
    const g = scale * load<f32>(gradient + i);
    const before = load<f32>(mean + i);
    const m = before + share * (g - before);
    const s = squareKept * load<f32>(square + i) + squareShare * g * g;
    store<f32>(nextMean + i, m);
    store<f32>(nextSquare + i, s);
    store<f32>(nextTheta + i, kept * load<f32>(theta + i) - rate * (m / (sqrt<f32>(s) * rootScale + epsilon)));
  }
}
