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

/** Four float32, of which each is a number, such that their upper halves are the nearest bfloat16. */
function nearest(values: v128): v128 {
  const odd = v128.and(i32x4.shr_u(values, 16), i32x4.splat(1));
  return i32x4.add(values, i32x4.add(odd, i32x4.splat(0x7fff)));
}

/** Four float32 to the nearest bfloat16 each, ties to even; what is not a number stays none. */
function rounded(values: v128): v128 {
  const isNumber = f32x4.eq(values, values);
  const quiet = v128.or(values, i32x4.splat(0x00400000));
  return v128.and(v128.bitselect(nearest(values), quiet, isNumber), i32x4.splat(0xffff0000));
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

/** `codes ← bfloat16(values)`, two bytes each */
export function pack(values: usize, codes: usize, length: i32): void {
  const whole = bytesOf(length) & ~(4 * BYTES - 1);
  for (let i: usize = 0; i < whole; i += 4 * BYTES) {
    let a = v128.load(values + i);
    let b = v128.load(values + i, 16);
    let c = v128.load(values + i, 32);
    let d = v128.load(values + i, 48);
    const none = v128.or(v128.or(f32x4.ne(a, a), f32x4.ne(b, b)), v128.or(f32x4.ne(c, c), f32x4.ne(d, d)));
    if (v128.any_true(none)) {
      a = rounded(a);
      b = rounded(b);
      c = rounded(c);
      d = rounded(d);
    } else {
      a = nearest(a);
      b = nearest(b);
      c = nearest(c);
      d = nearest(d);
    }
    const to = codes + i / 2;
    v128.store(to, i16x8.narrow_i32x4_u(i32x4.shr_u(a, 16), i32x4.shr_u(b, 16)));
    v128.store(to, i16x8.narrow_i32x4_u(i32x4.shr_u(c, 16), i32x4.shr_u(d, 16)), 16);
  }
  for (let i = whole; i < bytesOf(length); i += 4) {
    store<u16>(codes + i / 2, <u16>(reinterpret<u32>(roundedOne(load<f32>(values + i))) >> 16));
  }
}

/** The reverse: lower halves are 0. */
export function unpack(codes: usize, values: usize, length: i32): void {
  const whole = bytesOf(length) & ~(2 * BYTES - 1);
  for (let i: usize = 0; i < whole; i += 2 * BYTES) storeWide(v128.load(codes + i / 2), values + i);
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

/** Bytes of either half of a vector whose squares are summed in float32 before they are added up in float64. */
const SQUARES: usize = 256;

/** Squares of 32 values, eight a lane. (A loop would cost more than the arithmetic.) */
function squaresAt(at: usize): v128 {
  let term = v128.load(at);
  let sum = f32x4.mul(term, term);
  term = v128.load(at, 16);
  sum = f32x4.add(sum, f32x4.mul(term, term));
  term = v128.load(at, 32);
  sum = f32x4.add(sum, f32x4.mul(term, term));
  term = v128.load(at, 48);
  sum = f32x4.add(sum, f32x4.mul(term, term));
  term = v128.load(at, 64);
  sum = f32x4.add(sum, f32x4.mul(term, term));
  term = v128.load(at, 80);
  sum = f32x4.add(sum, f32x4.mul(term, term));
  term = v128.load(at, 96);
  sum = f32x4.add(sum, f32x4.mul(term, term));
  term = v128.load(at, 112);
  sum = f32x4.add(sum, f32x4.mul(term, term));
  return sum;
}

/** The same of `scale·gradient + decay·θ`. */
function decayedSquaresAt(gradient: usize, theta: usize, scales: v128, decays: v128): v128 {
  let sum = f32x4.splat(0);
  for (let i: usize = 0; i < 128; i += BYTES) {
    const decayed = f32x4.mul(decays, v128.load(theta + i));
    const term = f32x4.add(f32x4.mul(scales, v128.load(gradient + i)), decayed);
    sum = f32x4.add(sum, f32x4.mul(term, term));
  }
  return sum;
}

/** Four lanes as two sums in float64. */
function widened(lanes: v128): v128 {
  const upper = i8x16.shuffle(lanes, lanes, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7);
  return f64x2.add(f64x2.promote_low_f32x4(lanes), f64x2.promote_low_f32x4(upper));
}

/**
 * Σ (scale·gradient + decay·θ)². Sixteen squares at a time are summed in float32, which errs by at most 2⁻²⁰ of the sum, and these in
 * float64, in an order that `length` alone gives. Both halves are read side by side, which memory gives faster than one. Reads nothing
 * past `length`.
 */
export function squares(theta: usize, gradient: usize, length: i32, scale: f32, decay: f32): f64 {
  const scales = f32x4.splat(scale);
  const decays = f32x4.splat(decay);
  const bytes = bytesOf(length);
  const half: usize = (bytes / 2) & ~(SQUARES - 1);
  let sums = f64x2.splat(0);
  for (let i: usize = 0; i < half; i += SQUARES) {
    const g = gradient + i;
    const t = theta + i;
    let lower: v128;
    let upper: v128;
    if (decay === 0) {
      lower = f32x4.add(squaresAt(g), squaresAt(g + 128));
      upper = f32x4.add(squaresAt(g + half), squaresAt(g + half + 128));
    } else {
      lower = f32x4.add(decayedSquaresAt(g, t, scales, decays), decayedSquaresAt(g + 128, t + 128, scales, decays));
      upper = f32x4.add(
        decayedSquaresAt(g + half, t + half, scales, decays),
        decayedSquaresAt(g + half + 128, t + half + 128, scales, decays),
      );
    }
    sums = f64x2.add(sums, f64x2.add(widened(lower), widened(upper)));
  }
  let sum = f64x2.extract_lane(sums, 0) + f64x2.extract_lane(sums, 1);
  for (let i = half * 2; i < bytes; i += 4) {
    let term = load<f32>(gradient + i);
    if (decay !== 0) term = scale * term + decay * load<f32>(theta + i);
    sum += <f64>term * <f64>term;
  }
  return decay === 0 ? sum * <f64>scale * <f64>scale : sum;
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

/** What each run of bfloat16 codes is coded by, and room for it: low bytes, high bytes, and one plane. */
const BLOCK: i32 = 128;
const HIGH: usize = 128;
const PLANE: usize = 256;
/** Bytes of a plane of which so many differ from 0 are all written. */
const DENSE: i32 = 14;

/** Writes those of a plane's 16 bytes that are not 0, behind a mask of them. @returns where the next goes */
function putPlane(plane: v128, out: usize, scratch: usize): usize {
  const mask = i8x16.bitmask(i8x16.ne(plane, i8x16.splat(0)));
  if (i32.popcnt(mask) >= DENSE) {
    store<u16>(out, 0xffff);
    v128.store(out + 2, plane);
    return out + 18;
  }
  store<u16>(out, <u16>mask);
  v128.store(scratch + PLANE, plane);
  let to = out + 2;
  for (let i: usize = 0; i < 16; i++) {
    const byte = load<u8>(scratch + PLANE + i);
    store<u8>(to, byte);
    to += <usize>(byte !== 0);
  }
  return to;
}

/** One bit of each of 128 bytes. */
function planeOf(bytes: usize, bit: i32): v128 {
  const up = 7 - bit;
  let plane = i16x8.splat(<i16>i8x16.bitmask(i8x16.shl(v128.load(bytes), up)));
  plane = i16x8.replace_lane(plane, 1, <i16>i8x16.bitmask(i8x16.shl(v128.load(bytes, 16), up)));
  plane = i16x8.replace_lane(plane, 2, <i16>i8x16.bitmask(i8x16.shl(v128.load(bytes, 32), up)));
  plane = i16x8.replace_lane(plane, 3, <i16>i8x16.bitmask(i8x16.shl(v128.load(bytes, 48), up)));
  plane = i16x8.replace_lane(plane, 4, <i16>i8x16.bitmask(i8x16.shl(v128.load(bytes, 64), up)));
  plane = i16x8.replace_lane(plane, 5, <i16>i8x16.bitmask(i8x16.shl(v128.load(bytes, 80), up)));
  plane = i16x8.replace_lane(plane, 6, <i16>i8x16.bitmask(i8x16.shl(v128.load(bytes, 96), up)));
  return i16x8.replace_lane(plane, 7, <i16>i8x16.bitmask(i8x16.shl(v128.load(bytes, 112), up)));
}

/** All bits of 16 bytes in one byte. */
function union(bytes: v128): i32 {
  const both = i64x2.extract_lane(bytes, 0) | i64x2.extract_lane(bytes, 1);
  const four = <u32>(both | (both >> 32));
  const two = four | (four >> 16);
  return (two | (two >> 8)) & 0xff;
}

/** How far bfloat16 codes are apart, the sign in the lowest bit: small where they are close. */
function apart(code: v128, before: v128): v128 {
  const difference = i16x8.sub(code, before);
  return v128.xor(i16x8.shl(difference, 1), i16x8.shr_s(difference, 15));
}

/** Upper halves of eight float32. */
function codesOf(first: v128, second: v128): v128 {
  return i8x16.shuffle(first, second, 2, 3, 6, 7, 10, 11, 14, 15, 18, 19, 22, 23, 26, 27, 30, 31);
}

/**
 * Writes how `values`, as the nearest bfloat16, differ from `codes`, and makes them the codes. In blocks of 128: a mask of those of the
 * differences' 16 bit planes that are not all 0, and each of these as a mask of its bytes that are not 0 and those bytes; what is
 * left of the last block as plain differences.
 * @param out room for 290 bytes a block and 2 a value of the rest; up to 16 more are written
 * @param scratch 272 bytes
 * @returns where the next goes
 */
export function encode(values: usize, codes: usize, out: usize, length: i32, scratch: usize): usize {
  let value = values;
  let code = codes;
  let to = out;
  for (let block = length / BLOCK; block > 0; block--) {
    let lows = i8x16.splat(0);
    let highs = i8x16.splat(0);
    for (let group: usize = 0; group < 128; group += 16) {
      const first = codesOf(rounded(v128.load(value)), rounded(v128.load(value, 16)));
      const second = codesOf(rounded(v128.load(value, 32)), rounded(v128.load(value, 48)));
      const a = apart(first, v128.load(code));
      const b = apart(second, v128.load(code, 16));
      v128.store(code, first);
      v128.store(code, second, 16);
      const low = i8x16.shuffle(a, b, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
      const high = i8x16.shuffle(a, b, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
      v128.store(scratch + group, low);
      v128.store(scratch + group, high, HIGH);
      lows = v128.or(lows, low);
      highs = v128.or(highs, high);
      value += 64;
      code += 32;
    }
    const planes = union(lows) | (union(highs) << 8);
    store<u16>(to, <u16>planes);
    to += 2;
    for (let rest = planes & 0xff; rest !== 0; rest &= rest - 1) {
      to = putPlane(planeOf(scratch, i32.ctz(rest)), to, scratch);
    }
    for (let rest = planes >> 8; rest !== 0; rest &= rest - 1) {
      to = putPlane(planeOf(scratch + HIGH, i32.ctz(rest)), to, scratch);
    }
  }
  for (let rest = length % BLOCK; rest > 0; rest--) {
    const near = <u16>(reinterpret<u32>(roundedOne(load<f32>(value))) >> 16);
    store<u16>(to, near - load<u16>(code));
    store<u16>(code, near);
    value += 4;
    code += 2;
    to += 2;
  }
  return to;
}

/** A plane's bit of each of 128 bytes. */
function putBits(plane: v128, bytes: usize, bit: i32): void {
  const own = i8x16(1, 2, 4, 8, 16, 32, 64, -128, 1, 2, 4, 8, 16, 32, 64, -128);
  const value: i32 = 1 << bit;
  const weight = i8x16.splat(<i8>value);
  for (let group: usize = 0; group < 8; group++) {
    // A group's two bytes, each in eight lanes.
    const lanes = i8x16.splat(<i8>(group * 2));
    const pair = i8x16.add(lanes, i8x16(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1));
    const bits = i8x16.eq(v128.and(i8x16.swizzle(plane, pair), own), own);
    const place = bytes + group * 16;
    v128.store(place, v128.or(v128.load(place), v128.and(bits, weight)));
  }
}

/** What `apart` undoes. */
function moved(before: v128, difference: v128): v128 {
  const sign = i16x8.sub(i16x8.splat(0), v128.and(difference, i16x8.splat(1)));
  return i16x8.add(before, v128.xor(i16x8.shr_u(difference, 1), sign));
}

/** Eight bfloat16 as float32. */
function storeWide(codes: v128, target: usize): void {
  const zero = i32x4.splat(0);
  v128.store(target, i8x16.shuffle(zero, codes, 0, 0, 16, 17, 0, 0, 18, 19, 0, 0, 20, 21, 0, 0, 22, 23));
  v128.store(target, i8x16.shuffle(zero, codes, 0, 0, 24, 25, 0, 0, 26, 27, 0, 0, 28, 29, 0, 0, 30, 31), 16);
}

/**
 * What `encode` has written, read: `target ← before` with the differences.
 * @param before bfloat16 values, as float32
 * @param end of what may be read; up to 18 bytes behind it are looked at
 * @returns where the next begins; 0: there is more in it than fits
 */
export function decode(before: usize, from: usize, end: usize, target: usize, length: i32, scratch: usize): usize {
  let old = before;
  let to = target;
  for (let block = length / BLOCK; block > 0; block--) {
    if (from + 2 > end) return 0;
    const planes = <i32>load<u16>(from);
    from += 2;
    if (planes === 0) {
      memory.copy(to, old, 4 * BLOCK);
      old += 4 * BLOCK;
      to += 4 * BLOCK;
      continue;
    }
    memory.fill(scratch, 0, 256);
    for (let rest = planes; rest !== 0; rest &= rest - 1) {
      if (from + 2 > end) return 0;
      const bit = i32.ctz(rest);
      const mask = <u32>load<u16>(from);
      from += 2;
      if (mask === 0xffff) {
        v128.store(scratch + PLANE, v128.load(from));
        from += 16;
      } else {
        for (let i: usize = 0; i < 16; i++) {
          const present = (mask >> (<u32>i)) & 1;
          store<u8>(scratch + PLANE + i, load<u8>(from) & (<u8>(0 - present)));
          from += <usize>present;
        }
      }
      putBits(v128.load(scratch + PLANE), scratch + (bit < 8 ? 0 : HIGH), bit & 7);
    }
    if (from > end) return 0;
    for (let group: usize = 0; group < 128; group += 16) {
      const low = v128.load(scratch + group);
      const high = v128.load(scratch + group, HIGH);
      const a = i8x16.shuffle(low, high, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
      const b = i8x16.shuffle(low, high, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
      storeWide(moved(codesOf(v128.load(old), v128.load(old, 16)), a), to);
      storeWide(moved(codesOf(v128.load(old, 32), v128.load(old, 48)), b), to + 32);
      old += 64;
      to += 64;
    }
  }
  for (let rest = length % BLOCK; rest > 0; rest--) {
    if (from + 2 > end) return 0;
    store<u32>(to, (<u32>(load<u16>(old, 2) + load<u16>(from))) << 16);
    from += 2;
    old += 4;
    to += 4;
  }
  return from;
}
