import { execFileSync, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { chooseFlavour } from "../../scripts/setup/device.mjs";
import { linkTo, sha256, writeWhole } from "../../scripts/setup/files.mjs";
import { cacheFolder, libtensorflowPending, pinnedWheels } from "../../scripts/setup/libtensorflow.mjs";
import { holdsAll, packagesPending } from "../../scripts/setup/packages.mjs";
import { missing, thisMachine, type Machine } from "../../scripts/setup/toolchain.mjs";

const root = fileURLToPath(new URL("../..", import.meta.url));
let folder = "";

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "tandem-set-up-"));
});
afterEach(() => {
  rmSync(folder, { recursive: true });
});

describe("what is missing on a machine", () => {
  const fit: Machine = {
    node: "20.19.0",
    platform: "linux",
    arch: "x64",
    glibc: "2.36",
    python: true,
    pip: true,
    compiler: true,
  };

  it("is nothing on a machine that has it all", () => {
    expect(missing(fit)).toEqual([]);
    for (const node of ["22.1.0", "24.0.0"]) expect(missing({ ...fit, node })).toEqual([]);
  });

  it.each<[string, Partial<Machine>, string]>([
    ["an old Node", { node: "20.18.3" }, "Node 20.18.3 is too old: Tandem needs 20.19 or newer"],
    ["a much older Node", { node: "18.20.0" }, "Node 18.20.0 is too old"],
    ["no Python", { python: false, pip: false }, "apt-get install -y python3 python3-pip"],
    ["no pip", { pip: false }, "apt-get install -y python3-pip"],
    ["no compiler", { compiler: false }, "apt-get install -y g++"],
    ["another processor", { arch: "arm64" }, "linux arm64 is not supported"],
    ["another system", { platform: "darwin", glibc: undefined }, "darwin x64 is not supported"],
    ["another C library", { glibc: undefined }, "no glibc"],
  ])("names %s in one line with its remedy", (_, change, expected) => {
    const lines = missing({ ...fit, ...change });
    expect(lines).toHaveLength(1);
    expect(lines[0]).toContain(expected);
  });

  it("names all that is missing at once", () => {
    expect(missing({ ...fit, pip: false, compiler: false })).toHaveLength(2);
  });

  it("is found by looking: this machine runs the tests, so it is fit", () => {
    expect(missing(thisMachine())).toEqual([]);
  });
});

describe("the build of libtensorflow", () => {
  it("follows the driver unless TANDEM_DEVICE says otherwise", () => {
    expect(chooseFlavour(undefined, false)).toBe("cpu");
    expect(chooseFlavour(undefined, true)).toBe("gpu");
    expect(chooseFlavour("auto", true)).toBe("gpu");
    expect(chooseFlavour("cpu", true)).toBe("cpu");
    expect(chooseFlavour("gpu", false)).toBe("gpu");
    expect(() => chooseFlavour("cuda", false)).toThrow('TANDEM_DEVICE is "cuda": set it to cpu, gpu or auto');
  });

  it.each(["cpu", "gpu"] as const)("is pinned by version and sha256 (%s)", (flavour) => {
    const pins = pinnedWheels(flavour);
    expect(pins[0]).toMatch(/^tensorflow(-cpu)?==2\.21\.0 /);
    for (const pin of pins) expect(pin).toMatch(/^[a-z0-9-]+==[0-9.]+ --hash=sha256:[0-9a-f]{64}$/);
  });

  it("is cached outside the checkout", () => {
    expect(cacheFolder({ TANDEM_CACHE: "/a" })).toBe("/a");
    expect(cacheFolder({ XDG_CACHE_HOME: "/b" })).toBe("/b/tandem");
    expect(cacheFolder({ TANDEM_CACHE: "", XDG_CACHE_HOME: "" })).toMatch(/\/\.cache\/tandem$/);
  });

  it("is due where it is absent, of other pins, or damaged, and only there", () => {
    const names = ["libtensorflow_cc.so.2", "libtensorflow_framework.so.2"];
    expect(libtensorflowPending(folder, "cpu")).toContain("no libtensorflow");
    mkdirSync(join(folder, "tensorflow"));
    for (const name of names) writeFileSync(join(folder, "tensorflow", name), "1234");
    const bytes = Object.fromEntries(names.map((name) => [name, 4]));
    const record = (pins: string) => writeFileSync(join(folder, "contents.json"), JSON.stringify({ pins, bytes }));
    record("others");
    expect(libtensorflowPending(folder, "cpu")).toContain("pinned wheels have changed");
    record(sha256(...pinnedWheels("cpu")));
    expect(libtensorflowPending(folder, "cpu")).toBeNull();
    writeFileSync(join(folder, "tensorflow", "libtensorflow_cc.so.2"), "12");
    expect(libtensorflowPending(folder, "cpu")).toContain("libtensorflow_cc.so.2 in the cache is damaged");
  });
});

describe("npm's packages", () => {
  const wanted = {
    packages: {
      "": {},
      "node_modules/a": { version: "1.0.0", integrity: "x" },
      "node_modules/b": { version: "2.0.0", optional: true },
    },
  };

  it("hold where each is there in its version; optional ones may be absent", () => {
    const a = { version: "1.0.0", integrity: "x" };
    expect(holdsAll(wanted, { packages: { "node_modules/a": a } })).toBe(true);
    expect(holdsAll(wanted, { packages: {} })).toBe(false);
    expect(holdsAll(wanted, { packages: { "node_modules/a": { ...a, version: "1.0.1" } } })).toBe(false);
    expect(holdsAll(wanted, { packages: { "node_modules/a": { ...a, integrity: "y" } } })).toBe(false);
    expect(holdsAll(wanted, { packages: { "node_modules/a": a, "node_modules/c": { version: "1.0.0" } } })).toBe(false);
  });

  it("are due without node_modules, after a change of the lockfile, and after an installation that did not end", () => {
    writeFileSync(join(folder, "package-lock.json"), JSON.stringify(wanted));
    expect(packagesPending(folder)).toBe("node_modules is missing");
    // npm writes its record at the end.
    mkdirSync(join(folder, "node_modules"));
    expect(packagesPending(folder)).toBe("node_modules differs from package-lock.json");
    writeFileSync(join(folder, "node_modules/.package-lock.json"), JSON.stringify(wanted));
    expect(packagesPending(folder)).toBeNull();
    const newer = { packages: { ...wanted.packages, "node_modules/a": { version: "1.1.0" } } };
    writeFileSync(join(folder, "package-lock.json"), JSON.stringify(newer));
    expect(packagesPending(folder)).toBe("node_modules differs from package-lock.json");
  });
});

describe("files", () => {
  it("are written whole, with nothing left beside them", () => {
    const path = join(folder, "deep", "stamp");
    writeWhole(path, "one");
    writeWhole(path, "two");
    expect(readFileSync(path, "utf8")).toBe("two");
    expect(readdirSync(dirname(path))).toEqual(["stamp"]);
  });

  it("become links whatever was there: nothing, a folder, a link to nowhere", () => {
    const target = join(folder, "target");
    mkdirSync(join(folder, "a-folder", "inner"), { recursive: true });
    symlinkSync("/nowhere", join(folder, "dangling"));
    for (const name of ["nothing", "a-folder", "dangling", "dangling"]) {
      linkTo(join(folder, name), target);
      expect(readlinkSync(join(folder, name))).toBe(target);
    }
  });
});

describe("unpacking a wheel", () => {
  const unpack = join(root, "scripts/setup/unpack.py");

  function wheel(members: Record<string, string>): string {
    const path = join(folder, "some.whl");
    const code =
      "import json,sys,zipfile\nz=zipfile.ZipFile(sys.argv[1],'w')\nfor k,v in json.loads(sys.argv[2]).items(): z.writestr(k,v)\nz.close()";
    execFileSync("python3", ["-c", code, path, JSON.stringify(members)]);
    return path;
  }

  it("takes the named parts only", () => {
    const path = wheel({ "lib/a.so": "A", "lib/b.so": "B", "other/c": "C" });
    execFileSync("python3", [unpack, path, join(folder, "out"), "lib/a.so", "nothing/"]);
    expect(readdirSync(join(folder, "out"), { recursive: true })).toEqual(["lib", "lib/a.so"]);
  });

  it("refuses a member that points outside, a wheel without the parts, and damaged bytes", () => {
    const run = (path: string, part: string) =>
      spawnSync("python3", [unpack, path, join(folder, "out"), part], { encoding: "utf8" });
    expect(run(wheel({ "lib/../../evil": "E" }), "lib/").stderr).toContain("points outside");
    expect(run(wheel({ "lib/a": "A" }), "no/").stderr).toContain("holds none of no/");
    const path = wheel({ "lib/a": "AAAA" });
    const bytes = readFileSync(path);
    writeFileSync(path, Buffer.from(bytes.toString("latin1").replace("AAAA", "AABA"), "latin1"));
    expect(run(path, "lib/").stderr).toContain("Bad CRC-32");
    expect(existsSync(join(folder, "evil"))).toBe(false);
  });
});

describe("set-up killed half-way", () => {
  /** A python3 whose pip "downloads" a small wheel, and which stops for ever after unpacking where HANG is set. */
  function standIn(): NodeJS.ProcessEnv {
    const real = execFileSync("python3", ["-c", "import sys; print(sys.executable)"], { encoding: "utf8" }).trim();
    const make =
      "import sys,zipfile\nz=zipfile.ZipFile(sys.argv[1],'w')\nfor n in ('cc','framework'): z.writestr(f'tensorflow/libtensorflow_{n}.so.2',n*9)\nz.close()";
    const script = [
      "#!/bin/sh",
      `if [ "$2" = pip ]; then while [ "$1" != -d ]; do shift; done; exec ${real} -c "$MAKE" "$2/w.whl"; fi`,
      `${real} "$@" || exit 1`,
      `case "$1" in *unpack.py) [ -z "$HANG" ] || { echo $$ > "$HANG.new"; mv "$HANG.new" "$HANG"; exec sleep 600; };; esac`,
    ];
    mkdirSync(join(folder, "bin"));
    writeFileSync(join(folder, "bin/python3"), script.join("\n") + "\n");
    chmodSync(join(folder, "bin/python3"), 0o755);
    return { ...process.env, PATH: `${join(folder, "bin")}:${process.env["PATH"] ?? ""}`, MAKE: make };
  }

  const program = `
    const { takeLock } = await import(${JSON.stringify(join(root, "scripts/setup/lock.mjs"))});
    const { fetchLibtensorflow } = await import(${JSON.stringify(join(root, "scripts/setup/libtensorflow.mjs"))});
    const lock = takeLock(process.env.CACHE + "/.lock");
    await fetchLibtensorflow(process.env.CACHE + "/engine", "cpu", lock.fd);
    lock.release();`;

  function start(env: NodeJS.ProcessEnv) {
    const child = spawn(process.execPath, ["--input-type=module", "-e", program], {
      env,
      stdio: ["ignore", "pipe", "inherit"],
    });
    let printed = "";
    child.stdout.on("data", (bytes: Buffer) => {
      printed += bytes.toString();
    });
    return { child, printed: () => printed };
  }

  it("leaves nothing that passes for whole; the next one waits for its orphans, clears up and completes", async () => {
    const cache = join(folder, "cache");
    const env = { ...standIn(), CACHE: cache };
    const hang = join(folder, "orphan.pid");
    const first = start({ ...env, HANG: hang });
    await vi.waitUntil(() => existsSync(hang), { timeout: 20_000 });
    first.child.kill("SIGKILL");
    await once(first.child, "exit");
    expect(readdirSync(cache).filter((name) => name.endsWith(".partial"))).toHaveLength(1);
    expect(libtensorflowPending(join(cache, "engine"), "cpu")).not.toBeNull();

    const second = start(env);
    await vi.waitUntil(() => second.printed().includes("another set-up is at work here"), { timeout: 20_000 });
    process.kill(Number(readFileSync(hang, "utf8")), "SIGKILL");
    const [code] = (await once(second.child, "exit")) as [number | null];
    expect(code).toBe(0);
    expect(libtensorflowPending(join(cache, "engine"), "cpu")).toBeNull();
    expect(readdirSync(cache).sort()).toEqual([".lock", "engine"]);
  });

  it("lets two at once take turns", async () => {
    const env = { ...standIn(), CACHE: join(folder, "cache") };
    const both = [start(env), start(env)];
    const codes = await Promise.all(both.map(async ({ child }) => ((await once(child, "exit")) as [number | null])[0]));
    expect(codes).toEqual([0, 0]);
    expect(readdirSync(env.CACHE).sort()).toEqual([".lock", "engine"]);
  });
});

describe("scripts/bootstrap.mjs", () => {
  const bootstrap = join(root, "scripts/bootstrap.mjs");

  it("names Python and the compiler at once and exits 2 where both are missing", () => {
    const env = { PATH: folder, HOME: folder, TANDEM_CACHE: join(folder, "cache"), TANDEM_DEVICE: "cpu" };
    const { status, stderr } = spawnSync(process.execPath, [bootstrap], { env, encoding: "utf8" });
    expect(stderr.trim().split("\n")).toEqual([
      "[set-up] Python 3 is missing: sudo apt-get install -y python3 python3-pip",
      "[set-up] a C++17 compiler (g++) is missing: sudo apt-get install -y g++",
    ]);
    expect(status).toBe(2);
    expect(readdirSync(folder)).toEqual([]);
  });

  it("refuses an unknown TANDEM_DEVICE in one line", () => {
    const env = { ...process.env, TANDEM_DEVICE: "tpu" };
    const { status, stderr } = spawnSync(process.execPath, [bootstrap], { env, encoding: "utf8" });
    expect(stderr).toBe('[set-up] TANDEM_DEVICE is "tpu": set it to cpu, gpu or auto, or leave it unset\n');
    expect(status).toBe(2);
  });

  it("has nothing to do the second time, and says so in under a second", () => {
    const run = () => spawnSync(process.execPath, [bootstrap], { encoding: "utf8" });
    expect(run().status).toBe(0);
    const began = performance.now();
    const { stdout } = run();
    expect(stdout).toMatch(/^\[set-up\] ready in [0-9.]+ s: nothing to do\n$/);
    expect(performance.now() - began).toBeLessThan(1000);
  });
});

describe("bin/tandem.js", () => {
  it("says how to build where nothing is built, and exits 2", () => {
    mkdirSync(join(folder, "bin"));
    writeFileSync(join(folder, "bin/tandem.mjs"), readFileSync(join(root, "bin/tandem.js")));
    const { status, stderr } = spawnSync(process.execPath, [join(folder, "bin/tandem.mjs")], { encoding: "utf8" });
    expect(stderr).toBe("tandem: not built yet: run npm run build\n");
    expect(status).toBe(2);
  });
});
