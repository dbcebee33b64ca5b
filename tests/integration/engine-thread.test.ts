/** A thread with native code may be ended at any time: a worker is stopped while its engine starts, and while pictures are decoded. */
import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { expect, it } from "vitest";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const DECODE = fileURLToPath(new URL("../../dist/src/data/decode.js", import.meta.url));
const ENGINE = fileURLToPath(new URL("../../dist/src/engine/index.js", import.meta.url));

it("ends in order right after it has loaded the engine", () => {
  const thread = `import(${JSON.stringify(ENGINE)}).then(() => require("node:worker_threads").parentPort.postMessage(1));`;
  const main = `
    const { Worker } = require("node:worker_threads");
    const thread = new Worker(${JSON.stringify(thread)}, { eval: true });
    thread.once("message", () => thread.terminate().then(() => console.log("ended")));`;
  const { status, signal, stdout } = spawnSync(process.execPath, ["-e", main], { encoding: "utf8" });
  expect({ status, signal, stdout }).toEqual({ status: 0, signal: null, stdout: "ended\n" });
});

it("ends in order while it decodes", { timeout: 120_000 }, () => {
  const thread = `
    const { parentPort } = require("node:worker_threads");
    const side = { width: 500, height: 400, channels: 3, background: "red" };
    require("sharp")({ create: side }).jpeg().toBuffer().then(async (picture) => {
      const { decodeSquare } = await import(${JSON.stringify(DECODE)});
      // Ended before the first one is done, too.
      parentPort.postMessage(1);
      for (;;) await Promise.all(Array.from({ length: 20 }, () => decodeSquare(picture, 256)));
    });`;
  const main = `
    const { Worker } = require("node:worker_threads");
    (async () => {
      for (let i = 0; i < 10; i++) {
        const thread = new Worker(${JSON.stringify(thread)}, { eval: true });
        await new Promise((resolve) => thread.once("message", resolve));
        await new Promise((resolve) => setTimeout(resolve, i));
        await thread.terminate();
      }
      console.log("ended");
    })();`;
  const { status, signal, stdout } = spawnSync(process.execPath, ["-e", main], { encoding: "utf8", cwd: ROOT });
  expect({ status, signal, stdout }).toEqual({ status: 0, signal: null, stdout: "ended\n" });
});
