import { describe, expect, it } from "vitest";
import { DropLog } from "../../../coordinator/drop-log.js";
import { Numbering } from "../../../src/protocol/numbering.js";

describe("dropped messages", () => {
  it("are all counted, and a flood of them is told in a few lines", () => {
    let now = 0;
    const lines: string[] = [];
    const log = new DropLog(
      () => now,
      (peer, reason) => lines.push(`${peer}: ${reason}`),
    );
    for (let i = 0; i < 1_000_000; i++) log.count("p", "garbage");
    expect(log.total).toBe(1_000_000);
    expect(lines).toHaveLength(20);
    log.tick();
    expect(lines).toHaveLength(20);
    now = 1000;
    log.tick();
    expect(lines.at(-1)).toBe("several: 999980 more, of which nothing is said one by one");
  });
});

describe("numbers of a connection's messages", () => {
  it("are due in order; one that has come is repeated, and one that comes too early tells of a gap", () => {
    const [out, incoming] = [new Numbering(), new Numbering()];
    expect([out.next(), out.next(), out.next()]).toEqual([1, 2, 3]);
    expect(incoming.arrived(2)).toBe("gap");
    expect(incoming.arrived(1)).toBe("due");
    expect(incoming.arrived(1)).toBe("repeated");
    expect(incoming.arrived(3)).toBe("gap");
    expect(incoming.arrived(2)).toBe("due");
    expect(incoming.arrived(undefined)).toBe("repeated");
  });
});
