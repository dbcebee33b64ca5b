/** What a JPEG says of itself; and pictures with colour profiles, whose pixels are taken as they are. */
import sharp from "sharp";
import { expect, it } from "vitest";
import { decodeSquare } from "../../../src/data/decode.js";
import { jpegHeader } from "../../../src/data/jpeg-header.js";

const SIDE = 16;
const green = sharp({ create: { width: SIDE, height: SIDE, channels: 3, background: { r: 20, g: 200, b: 30 } } });

it("knows size, components and code", async () => {
  const wide = green.clone().resize(24, 17, { fit: "fill" });
  const size = { width: 24, height: 17, precision: 8, isHuffman: true };
  expect(jpegHeader(await wide.clone().jpeg().toBuffer())).toMatchObject({ ...size, components: 3 });
  expect(jpegHeader(await wide.clone().toColourspace("b-w").jpeg().toBuffer())).toMatchObject({
    ...size,
    components: 1,
  });
  expect(jpegHeader(await wide.clone().toColourspace("cmyk").jpeg().toBuffer())).toMatchObject({
    ...size,
    components: 4,
  });
  expect(jpegHeader(await wide.clone().jpeg({ progressive: true }).toBuffer())).toMatchObject(size);
});

it.each([1, 2, 3, 4, 5, 6, 7, 8])("knows whether orientation %i is upright", async (orientation) => {
  const turned = await green.clone().withMetadata({ orientation }).jpeg().toBuffer();
  expect(jpegHeader(turned)?.isUpright).toBe(orientation === 1);
});

it("passes over bytes that fill", async () => {
  const plain = await green.clone().jpeg().toBuffer();
  const filled = Buffer.concat([plain.subarray(0, 2), Buffer.from([0xff, 0xff, 0xff]), plain.subarray(2)]);
  expect(jpegHeader(filled)).toEqual(jpegHeader(plain));
  expect(jpegHeader(plain)?.sampling).toEqual(["22", "11", "11"]);
});

it("takes nothing else for a JPEG", async () => {
  expect(jpegHeader(await green.clone().png().toBuffer())).toBeNull();
  expect(jpegHeader(Buffer.from("no picture"))).toBeNull();
});

it("reads nothing beyond the end of a file that was cut anywhere", async () => {
  const whole = await green.clone().withMetadata({ orientation: 6 }).jpeg().toBuffer();
  for (let length = 0; length < whole.length; length++) {
    expect(() => jpegHeader(whole.subarray(0, length))).not.toThrow();
  }
});

it("takes the pixels of a picture with a profile as they are, as Pillow does", async () => {
  const wide = green.clone().withIccProfile("p3", { attach: true });
  for (const picture of [await wide.clone().jpeg().toBuffer(), await wide.clone().png().toBuffer()]) {
    const stored = await sharp(picture, { ignoreIcc: true }).raw().toBuffer();
    // Display P3 has a wider gamut: sharp has written smaller numbers for the same green.
    expect(Math.abs(stored[0] - 20)).toBeGreaterThan(40);
    (await decodeSquare(picture, SIDE)).subarray(0, 3).forEach((value, channel) => {
      expect(Math.abs(value - stored[channel])).toBeLessThan(2);
    });
  }
});
