/** A thread with the engine may be ended at any time: a worker is stopped while its engine starts, too. */
import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { expect, it } from "vitest";

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
