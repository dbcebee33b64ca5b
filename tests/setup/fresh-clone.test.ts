/**
 * Set-up of a fresh clone with an empty cache, killed with SIGKILL in the middle of each long step, then run to its end.
 * It downloads libtensorflow (270 MB) once or twice: `npm run test:setup`, not part of `npm test`.
 */
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { cpSync, existsSync, mkdtempSync, readdirSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect, it, vi } from "vitest";

/** Of libtensorflow_cc.so.2, which has 788 MB: well within the unpacking. */
const HALF_UNPACKED_BYTES = 200e6;

const root = fileURLToPath(new URL("../..", import.meta.url));
let folder = "";
let clone = "";
let cache = "";

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "tandem-fresh-clone-"));
  clone = join(folder, "clone");
  cache = join(folder, "cache");
  const files = execFileSync("git", ["ls-files", "-co", "--exclude-standard"], { cwd: root, encoding: "utf8" });
  for (const file of files.trim().split("\n")) {
    if (existsSync(join(root, file))) cpSync(join(root, file), join(clone, file));
  }
});
afterAll(() => {
  rmSync(folder, { recursive: true });
});

function start() {
  const env = { ...process.env, TANDEM_CACHE: cache, TANDEM_DEVICE: "cpu" };
  const child = spawn(process.execPath, ["scripts/bootstrap.mjs"], {
    cwd: clone,
    env,
    stdio: ["ignore", "pipe", "pipe"],
  });
  let printed = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream.on("data", (bytes: Buffer) => {
      printed += bytes.toString();
    });
  }
  return { child, printed: () => printed };
}

async function killWhen(halfway: () => boolean): Promise<string> {
  const { child, printed } = start();
  await vi.waitUntil(() => halfway() || child.exitCode !== null, { timeout: 300_000, interval: 20 });
  expect(child.exitCode, printed()).toBeNull();
  child.kill("SIGKILL");
  await once(child, "close");
  return printed();
}

function unpackedBytes(): number {
  const partial = existsSync(cache) ? readdirSync(cache).find((name) => name.endsWith(".partial")) : undefined;
  if (partial === undefined) return 0;
  const library = join(cache, partial, "tensorflow/libtensorflow_cc.so.2");
  return statSync(library, { throwIfNoEntry: false })?.size ?? 0;
}

it("set-up is completed by running it again, wherever it was killed", async () => {
  const modules = join(clone, "node_modules");
  await killWhen(() => existsSync(modules) && readdirSync(modules).length > 20);
  await killWhen(() => unpackedBytes() > HALF_UNPACKED_BYTES);
  expect(existsSync(join(cache, "libtensorflow-2.21.0-cpu"))).toBe(false);
  const addon = join(modules, "@tensorflow/tfjs-node-gpu/lib/napi-v8/tfjs_binding.node");
  await killWhen(() => existsSync(join(modules, "@tensorflow/tfjs-node-gpu/deps/lib/libtensorflow_framework.so.2")));
  expect(existsSync(addon)).toBe(false);
  await killWhen(() => existsSync(join(clone, "src/protocol/generated/.stamp")));

  const last = start();
  const [code] = (await once(last.child, "close")) as [number | null];
  expect(code, last.printed()).toBe(0);
  expect(readdirSync(cache).sort()).toEqual([".lock", "libtensorflow-2.21.0-cpu"]);
  const report = execFileSync(process.execPath, ["dist/src/engine/probe.js"], {
    cwd: clone,
    stdio: ["ignore", "pipe", "ignore"],
  });
  expect(JSON.parse(report.toString())).toMatchObject({ libtensorflow: "2.21.0", computes: true });

  const again = start();
  await once(again.child, "close");
  expect(again.printed()).toMatch(/^\[set-up\] ready in 0\.\d s: nothing to do\n$/);
});
