/** Pictures with colour profiles: sRGB's pixels pass as they are, others are converted. */
import sharp from "sharp";
import { expect, it } from "vitest";
import { decodeSquare } from "../../../src/data/decode.js";
import { isTaggedSrgb } from "../../../src/data/icc-profile.js";

const SIDE = 16;
const green = sharp({ create: { width: SIDE, height: SIDE, channels: 3, background: { r: 20, g: 200, b: 30 } } });
const jpeg = (profile: string | null) =>
  (profile === null ? green.clone() : green.clone().withIccProfile(profile, { attach: true })).jpeg().toBuffer();
const pixel = async (bytes: Uint8Array) => [...(await decodeSquare(bytes, SIDE)).subarray(0, 3)];

it("knows a profile that calls itself sRGB, and takes nothing else for one", async () => {
  const tagged = await jpeg("srgb");
  expect(isTaggedSrgb(tagged)).toBe(true);
  expect(isTaggedSrgb(await jpeg("p3"))).toBe(false);
  expect(isTaggedSrgb(await jpeg(null))).toBe(false);
  expect(isTaggedSrgb(await green.clone().withIccProfile("srgb").png().toBuffer())).toBe(false);
  expect(isTaggedSrgb(Buffer.from("no picture"))).toBe(false);
});

it("reads no profile beyond the end of a file that was cut anywhere", async () => {
  const tagged = await jpeg("srgb");
  for (let length = 0; length < tagged.length; length += 3) {
    expect(() => isTaggedSrgb(tagged.subarray(0, length))).not.toThrow();
  }
});

it("leaves the pixels of sRGB alone, and converts others", async () => {
  const plain = await pixel(await jpeg(null));
  expect(await pixel(await jpeg("srgb"))).toEqual(plain);
  // Display P3 has a wider gamut, so that sharp wrote smaller numbers for the same green; converted back it is that green again.
  const wide = await jpeg("p3");
  const unconverted = await sharp(wide, { ignoreIcc: true }).raw().toBuffer();
  expect(unconverted[0] - plain[0]).toBeGreaterThan(40);
  (await pixel(wide)).forEach((value, channel) => {
    expect(Math.abs(value - plain[channel])).toBeLessThan(10);
  });
});
