import { existsSync, readdirSync, utimesSync } from "node:fs";
import { afterEach, describe, expect, it } from "vitest";
import { SharedSegment } from "../../../src/transport/index.js";

const open: SharedSegment[] = [];
function created(size: number): SharedSegment {
  const segment = SharedSegment.create(size);
  if (segment === null) throw new Error("this machine has no /dev/shm");
  open.push(segment);
  return segment;
}

afterEach(() => {
  for (const segment of open.splice(0)) {
    segment.unlink();
    segment.close();
  }
});

describe("a shared segment", () => {
  it("carries vectors both ways between its two ends, up to its last byte", () => {
    const mine = created(40);
    const theirs = SharedSegment.open(mine.address, 40);
    expect(theirs).not.toBeNull();
    mine.write(4, Float32Array.of(1, 2, 3), Float32Array.of(4));
    const found = [new Float32Array(1), new Float32Array(3)] as const;
    theirs?.read(4, ...found);
    expect(found.map((vector) => [...vector])).toEqual([[1], [2, 3, 4]]);
    theirs?.write(28, Float32Array.of(7, 8, 9));
    const back = new Float32Array(3);
    mine.read(28, back);
    expect([...back]).toEqual([7, 8, 9]);
    expect(() => {
      mine.write(32, back);
    }).toThrow(RangeError);
    theirs?.close();
  });

  it("works on after its name is gone, and then nobody else finds it", () => {
    const mine = created(8);
    const theirs = SharedSegment.open(mine.address, 8);
    mine.unlink();
    expect(existsSync(`/dev/shm/${mine.address.name}`)).toBe(false);
    mine.write(0, Float32Array.of(5, 6));
    const found = new Float32Array(2);
    theirs?.read(0, found);
    expect([...found]).toEqual([5, 6]);
    expect(SharedSegment.open(mine.address, 8)).toBeNull();
    theirs?.close();
  });

  it("is opened only by who knows its token, and only at its whole size", () => {
    const { address } = created(8);
    expect(SharedSegment.open({ ...address, token: address.token.map((byte) => byte ^ 1) }, 8)).toBeNull();
    expect(SharedSegment.open({ ...address, token: new Uint8Array(0) }, 8)).toBeNull();
    expect(SharedSegment.open(address, 9)).toBeNull();
    expect(SharedSegment.open({ ...address, name: "../../etc/passwd" }, 8)).toBeNull();
    expect(SharedSegment.open({ ...address, name: `tandem-${"0".repeat(32)}` }, 8)).toBeNull();
  });

  it("removes names that a process which died in a handshake has left", () => {
    const { name } = created(8).address;
    const anHourAgo = Date.now() / 1000 - 3600;
    utimesSync(`/dev/shm/${name}`, anHourAgo, anHourAgo);
    const other = created(8).address.name;
    expect(readdirSync("/dev/shm")).not.toContain(name);
    expect(readdirSync("/dev/shm")).toContain(other);
  });

  it("is not made where there is too little memory", () => {
    const before = readdirSync("/dev/shm").length;
    expect(SharedSegment.create(2 ** 50)).toBeNull();
    expect(readdirSync("/dev/shm")).toHaveLength(before);
  });
});
