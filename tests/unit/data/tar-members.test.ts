import { execFileSync } from "node:child_process";
import {
  closeSync,
  mkdirSync,
  openSync,
  readFileSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { PositionedFile, readRange } from "../../../src/data/positioned-file.js";
import { TarError, tarMembers, type TarMember } from "../../../src/data/tar-members.js";
import { type Files, writeTar } from "./system-tar.js";
import { temporaryFolder } from "./temporary-folder.js";

const folder = temporaryFolder();

async function membersOf(path: string): Promise<TarMember[]> {
  const file = await PositionedFile.open(path);
  try {
    const members: TarMember[] = [];
    for await (const member of tarMembers(file)) members.push(member);
    return members;
  } finally {
    await file.close();
  }
}

/** Names and contents as found by offset and size. */
async function contentsOf(path: string): Promise<Files> {
  const members = await membersOf(path);
  return Promise.all(
    members.map(async ({ name, offset, bytes }) => [name, (await readRange(path, offset, bytes)).toString()] as const),
  );
}

const SHORT: Files = [
  ["a.jpg", "first"],
  ["b/c.cls", "7"],
  ["empty.txt", ""],
  ["block.bin", "x".repeat(512)],
  ["large.bin", "y".repeat(40_000)],
  ["last.png", "z"],
];
/** 100 bytes fill the name field, 101 overflow it; the second is split at its slash into ustar's prefix. */
const LONG: Files = [
  [`${"n".repeat(96)}.jpg`, "exactly 100"],
  [`${"p".repeat(90)}/${"q".repeat(60)}.jpg`, "prefix"],
  ["after.jpg", "after"],
];
const LONGEST: Files = [
  [`${"d".repeat(200)}/${"e".repeat(200)}/${"ü".repeat(60)}.jpg`, "long"],
  ["plain.jpg", "plain"],
];

describe("the members of a tar", () => {
  it.each([
    ["v7", SHORT],
    ["ustar", [...SHORT, ...LONG]],
    ["oldgnu", [...SHORT, ...LONG, ...LONGEST]],
    ["gnu", [...SHORT, ...LONG, ...LONGEST]],
    ["posix", [...SHORT, ...LONG, ...LONGEST]],
  ] as const)("lie where the headers say in format %s", async (format, files) => {
    expect(await contentsOf(writeTar(join(folder.path, `${format}.tar`), files, format))).toEqual(files);
  });

  it("are the regular files alone, without the ./ before their names", async () => {
    const root = join(folder.path, "tree");
    mkdirSync(join(root, "sub"), { recursive: true });
    writeFileSync(join(root, "sub/a.jpg"), "a");
    symlinkSync("sub/a.jpg", join(root, "link.jpg"));
    const path = join(folder.path, "tree.tar");
    execFileSync("tar", ["-cf", path, "-C", root, "."]);
    expect(await contentsOf(path)).toEqual([["sub/a.jpg", "a"]]);
  });

  it("may be larger than octal digits tell, and lie past 8 GiB", async () => {
    const path = join(folder.path, "huge.tar");
    const size = 9 * 2 ** 30 + 5;
    const second = 512 + size + (512 - (size % 512));
    writeFileSync(path, header("huge.bin", size));
    truncateSync(path, second + 512 + 512 + 1024);
    const file = openSync(path, "r+");
    writeSync(file, header("next.txt", 4), 0, 512, second);
    writeSync(file, Buffer.from("here"), 0, 4, second + 512);
    closeSync(file);
    expect(await membersOf(path)).toEqual([
      { name: "huge.bin", offset: 512, bytes: size },
      { name: "next.txt", offset: second + 512, bytes: 4 },
    ]);
    expect((await readRange(path, second + 512, 4)).toString()).toBe("here");
  });

  it("are refused where the archive is cut short, at whatever byte before its end mark", async () => {
    const whole = readFileSync(writeTar(join(folder.path, "whole.tar"), SHORT));
    const path = join(folder.path, "cut.tar");
    const endMark = 6 * 512 + (1 + 1 + 1 + 79 + 1) * 512;
    for (const length of [
      0,
      1,
      511,
      512,
      513,
      1024,
      5000,
      40_000,
      endMark - 512,
      endMark - 1,
      endMark,
      endMark + 511,
    ]) {
      writeFileSync(path, whole.subarray(0, length));
      await expect(membersOf(path), `${length} bytes`).rejects.toThrow(/is cut short/);
    }
    writeFileSync(path, whole.subarray(0, endMark + 512));
    expect(await membersOf(path)).toHaveLength(SHORT.length);
  });

  it("are refused where it is compressed, damaged, sparse or no tar", async () => {
    const path = writeTar(join(folder.path, "good.tar"), SHORT);
    const refused = async (bytes: Uint8Array, reason: RegExp) => {
      const bad = folder.write("bad.tar", bytes);
      const error = await membersOf(bad).catch((caught: unknown) => caught);
      expect(error).toBeInstanceOf(TarError);
      expect(error).toMatchObject({ message: expect.stringMatching(reason) });
    };
    await refused(execFileSync("gzip", ["-c", path]), /compressed by gzip/);
    await refused(Buffer.alloc(2048, "no tar"), /is no tar file/);
    const damaged = readFileSync(path);
    damaged[1024 + 3] ^= 1;
    await refused(damaged, /is damaged: no tar header at byte 1024/);
    const holes = join(folder.path, "holes.bin");
    writeFileSync(holes, "");
    truncateSync(holes, 1_000_000);
    for (const format of ["gnu", "posix"]) {
      const sparse = execFileSync("tar", [
        "--sparse",
        `--format=${format}`,
        "-cf",
        "-",
        "-C",
        folder.path,
        "holes.bin",
      ]);
      await refused(sparse, /holds the sparse file/);
    }
  });
});

/** A ustar header with its size in base 256, as GNU tar writes it past 8 GiB. */
function header(name: string, size: number): Buffer {
  const block = Buffer.alloc(512);
  block.write(name);
  block[124] = 0x80;
  block.writeBigUInt64BE(BigInt(size), 128);
  block.write("0", 156);
  block.write("ustar\x0000", 257);
  block.fill(" ", 148, 156);
  const sum = block.reduce((total, byte) => total + byte, 0);
  block.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148);
  return block;
}
