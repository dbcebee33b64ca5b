import { closeSync, mkdtempSync, openSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, describe, expect, it } from "vitest";
import { VectorArena } from "../../../src/optim/index.js";
import { pagedBytes, SharedSegment } from "../../../src/transport/index.js";

const arena = new VectorArena();
const open: SharedSegment[] = [];
function created(size: number): SharedSegment {
  const segment = SharedSegment.create(size);
  if (segment === null) throw new Error("this machine has no /dev/shm");
  open.push(segment);
  return segment;
}

/** As another process opens it. */
function theirs(segment: SharedSegment, size: number): SharedSegment {
  const opened = SharedSegment.open(segment.address, size);
  if (opened === null) throw new Error("it cannot be opened");
  open.push(opened);
  return opened;
}

afterEach(() => {
  for (const segment of open.splice(0)) segment.close();
});

describe("a shared segment", () => {
  it("shows at one end what is written at the other, mapped or not, up to its last value", () => {
    const length = 1500;
    const mine = created(pagedBytes(length));
    const other = theirs(mine, pagedBytes(length));
    const [here, there] = [mine, other].map(({ file }) => arena.map(length, file, mine.position(0)));
    expect(here).toEqual(new Float32Array(length));
    here.fill(2, 1000);
    expect([there[999], there[1000], there[1499]]).toEqual([0, 2, 2]);
    arena.mix(there, there, 0.5, there, 3);
    expect(here[1499]).toBe(4);
    mine.write(4, Float32Array.of(7, 8));
    expect([...there.subarray(0, 4)]).toEqual([0, 7, 8, 0]);
    expect(() => {
      mine.write(pagedBytes(length) - 4, Float32Array.of(7, 8));
    }).toThrow(RangeError);
    for (const vector of [here, there]) arena.unmap(vector);
    expect(here[1]).toBe(0);
  });

  it("is still there, mapped, after both ends have closed it, and grows meanwhile", () => {
    const mine = created(4096);
    const other = theirs(mine, 4096);
    expect([other.holds(4096), other.holds(8192)]).toEqual([true, false]);
    expect(mine.grow(4096)).toBe(true);
    expect(other.holds(8192)).toBe(true);
    const [here, there] = [mine, other].map(({ file }) => arena.map(1024, file, mine.position(4096)));
    for (const segment of open.splice(0)) segment.close();
    here[1023] = 5;
    expect(there[1023]).toBe(5);
    for (const vector of [here, there]) arena.unmap(vector);
  });

  it("is opened only by who knows its token, and only at its whole size", () => {
    const { address } = created(4096);
    expect(SharedSegment.open({ ...address, token: address.token.map((byte) => byte ^ 1) }, 4096)).toBeNull();
    expect(SharedSegment.open({ ...address, token: new Uint8Array(0) }, 4096)).toBeNull();
    expect(SharedSegment.open(address, 4097)).toBeNull();
    expect(SharedSegment.open({ ...address, file: 100_000 }, 4096)).toBeNull();
    expect(SharedSegment.open({ ...address, process: 2 ** 22 + 1 }, 4096)).toBeNull();
  });

  it("is nothing but what another process has made as one, whatever a message says", () => {
    const { address } = created(4096);
    const folder = mkdtempSync(join(tmpdir(), "tandem-segment-"));
    const like = Buffer.concat([address.token, Buffer.alloc(8192)]);
    writeFileSync(join(folder, "file"), like);
    const named = `/dev/shm/tandem-${"0".repeat(32)}`;
    writeFileSync(named, like);
    for (const path of ["/dev/zero", folder, join(folder, "file"), named]) {
      const file = openSync(path, "r");
      expect(SharedSegment.open({ ...address, file }, 0), path).toBeNull();
      closeSync(file);
    }
    rmSync(folder, { recursive: true });
    rmSync(named);
  });

  it("leaves no name behind, and is not made where there is too little memory", () => {
    const before = readdirSync("/dev/shm");
    created(4096);
    expect(SharedSegment.create(2 ** 50)).toBeNull();
    expect(created(4096).grow(2 ** 50)).toBe(false);
    expect(readdirSync("/dev/shm")).toEqual(before);
  });
});
