/** Fetching archives from a server on this machine, which misbehaves as real ones do. */
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import type { Archive } from "../../src/cli/data/archives.js";
import { fetchArchive } from "../../src/cli/data/fetch-archive.js";

const folder = mkdtempSync(join(tmpdir(), "tandem-fetch-"));
/** 320 KB that no compression shortens. */
const noise = Buffer.concat(Array.from({ length: 10_000 }, (_, i) => createHash("sha256").update(String(i)).digest()));
let original: Buffer;
/** what the server has */
let archiveBytes: Buffer;
let archive: Archive;
let answer: (request: IncomingMessage, response: ServerResponse) => void;
let asked: { readonly path: string | undefined; readonly range: string | undefined }[];
let out: string;
let base: string;

const server = createServer((request, response) => {
  asked.push({ path: request.url, range: request.headers.range });
  answer(request, response);
});

beforeAll(async () => {
  mkdirSync(join(folder, "set-2/val"), { recursive: true });
  mkdirSync(join(folder, "set-2/train/cat"), { recursive: true });
  writeFileSync(join(folder, "set-2/train/cat/0.bin"), noise);
  writeFileSync(join(folder, "set-2/val/1.txt"), "one");
  original = execFileSync("tar", ["-czf", "-", "-C", folder, "set-2"]);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  base = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});

afterAll(() => {
  server.close();
  server.closeAllConnections();
  rmSync(folder, { recursive: true, force: true });
});

beforeEach(() => {
  asked = [];
  answer = serve;
  archiveBytes = original;
  out = mkdtempSync(join(folder, "out-"));
  const md5 = createHash("md5").update(archiveBytes).digest("hex");
  archive = { url: `${base}/set.tar.gz`, md5, folder: "set-2", scheme: "folder", renames: { val: "test" } };
});

/** As a plain file server does, ranges included. */
function serve(request: IncomingMessage, response: ServerResponse): void {
  const from = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? "")?.[1] ?? 0);
  const size = archiveBytes.length;
  if (from >= size) {
    response.writeHead(416, { "content-range": `bytes */${size}` }).end();
    return;
  }
  const part = archiveBytes.subarray(from);
  const headers = { "content-length": part.length, "content-range": `bytes ${from}-${size - 1}/${size}` };
  response.writeHead(from > 0 ? 206 : 200, headers).end(part);
}

/** Hangs up after `count` bytes of the whole. */
function cutAt(count: number): typeof answer {
  return (_, response) => {
    response.writeHead(200, { "content-length": archiveBytes.length });
    response.write(archiveBytes.subarray(0, count), () => response.destroy());
  };
}

const fetching = (from: string | null = null, signal = new AbortController().signal) =>
  fetchArchive(archive, { out, from, signal, onProgress: () => undefined });
const partial = () => join(out, "set.tar.gz.partial");

function expectWhole(): void {
  expect(readFileSync(join(out, "set-2/train/cat/0.bin")).equals(noise)).toBe(true);
  expect(readFileSync(join(out, "set-2/test/1.txt"), "utf8")).toBe("one");
  // Nothing else is left, hidden or not.
  expect(readdirSync(out)).toEqual(["set-2"]);
  expect(readdirSync(join(out, "set-2")).sort()).toEqual(["test", "train"]);
}

describe("fetching an archive", () => {
  it("unpacks what was verified, under the names that Tandem looks for", async () => {
    expect(await fetching()).toBe(join(out, "set-2"));
    expectWhole();
    expect(asked).toEqual([{ path: "/set.tar.gz", range: undefined }]);
    // As readable as any folder that is made, whatever the temporary one was.
    expect(statSync(join(out, "set-2")).mode).toBe(statSync(join(folder, "set-2")).mode);
  });

  it("goes on where a download was cut off, and asks for the rest alone", async () => {
    answer = cutAt(100_000);
    await expect(fetching()).rejects.toMatchObject({
      name: "UserError",
      code: "FETCH_CUT_OFF",
      message: expect.stringContaining("give the same command again"),
    });
    const kept = statSync(partial()).size;
    expect(kept).toBeGreaterThan(0);
    expect(readFileSync(partial()).equals(archiveBytes.subarray(0, kept))).toBe(true);
    answer = serve;
    await fetching();
    expectWhole();
    expect(asked[1].range).toBe(`bytes=${kept}-`);
  });

  it("begins again where the server knows no ranges", async () => {
    writeFileSync(partial(), "other bytes, and fewer");
    answer = (_, response) => response.writeHead(200).end(archiveBytes);
    await fetching();
    expectWhole();
  });

  it("does not download again what was whole already", async () => {
    writeFileSync(partial(), archiveBytes);
    await fetching();
    expectWhole();
    expect(asked[0].range).toBe(`bytes=${archiveBytes.length}-`);
  });

  it.each([
    ["a server's wrong bytes", "", Buffer.alloc(5000, "x")],
    ["a rest that does not fit what was there", "y".repeat(1000), null],
  ])("removes %s, as the checksum tells", async (_, before, body) => {
    if (before !== "") writeFileSync(partial(), before);
    if (body !== null) answer = (_request, response) => response.writeHead(200).end(body);
    await expect(fetching()).rejects.toMatchObject({
      name: "UserError",
      code: "FETCH_BAD_CHECKSUM",
      message: expect.stringContaining(`${archive.md5} is published`),
    });
    expect(readdirSync(out)).toEqual([]);
  });

  it("takes another place: the archive's own, or its folder's", async () => {
    archive = { ...archive, url: "http://127.0.0.1:9/set.tar.gz" };
    await fetching(`${base}/mirror/other-name`);
    expectWhole();
    rmSync(join(out, "set-2"), { recursive: true });
    await fetching(`${base}/mirror/`);
    expect(asked.map(({ path }) => path)).toEqual(["/mirror/other-name", "/mirror/set.tar.gz"]);
  });

  it("refuses a name that is taken, before it asks anybody", async () => {
    mkdirSync(join(out, "set-2/kept"), { recursive: true });
    await expect(fetching()).rejects.toMatchObject({ code: "OUT_EXISTS", message: expect.stringContaining("set-2") });
    rmSync(join(out, "set-2"), { recursive: true });
    writeFileSync(join(out, "set-2"), "a file");
    await expect(fetching()).rejects.toMatchObject({ code: "OUT_EXISTS" });
    expect(asked).toEqual([]);
  });

  it("leaves nothing of an archive that does not unpack, and refuses what lies outside its folder", async () => {
    archiveBytes = Buffer.from("no archive");
    archive = { ...archive, md5: createHash("md5").update(archiveBytes).digest("hex") };
    await expect(fetching()).rejects.toMatchObject({ code: "FETCH_BAD_ARCHIVE" });
    expect(readdirSync(out)).toEqual(["set.tar.gz.partial"]);
    writeFileSync(join(folder, "evil"), "evil");
    const transform = "--transform=s,^,set-2/../,";
    archiveBytes = execFileSync("tar", ["-czPf", "-", "-C", folder, transform, "evil"]);
    archive = { ...archive, md5: createHash("md5").update(archiveBytes).digest("hex") };
    rmSync(partial());
    await expect(fetching()).rejects.toMatchObject({ code: "FETCH_BAD_ARCHIVE" });
    expect(readdirSync(out)).toEqual(["set.tar.gz.partial"]);
  });

  it.each([
    ["404", 404, "answers 404"],
    ["503", 503, "answers 503"],
  ])("says what a server answers: %s", async (_, status, part) => {
    answer = (_request, response) => response.writeHead(status).end();
    await expect(fetching()).rejects.toMatchObject({ code: "FETCH_REFUSED", message: expect.stringContaining(part) });
  });

  it("says where nobody answers, and what is no URL", async () => {
    await expect(fetching("http://127.0.0.1:9/a")).rejects.toMatchObject({ code: "FETCH_UNREACHABLE" });
    for (const from of ["mirror.local/a", "file:///a", "ftp://h/a"]) {
      await expect(fetching(from)).rejects.toMatchObject({ code: "FETCH_BAD_URL" });
    }
  });

  it("stops when it is told to", async () => {
    const stop = new AbortController();
    answer = (_, response) => {
      response.writeHead(200, { "content-length": archiveBytes.length });
      response.write("ten bytes.", () => setImmediate(() => stop.abort(new Error("enough"))));
    };
    await expect(fetching(null, stop.signal)).rejects.toThrow("enough");
    expect(existsSync(join(out, "set-2"))).toBe(false);
  });
});
