/** Fills a disk with TensorBoard's events until it refuses, makes room and goes on; says as JSON what it was told, and its last step. */
import { rmSync } from "node:fs";
import { EventWriter, image } from "../../src/telemetry/tensorboard/index.js";

const [directory = "", ballast = ""] = process.argv.slice(2);
const warnings: string[] = [];
const writer = new EventWriter(directory, (message) => warnings.push(message));
/** no whole number of them fills a disk, whose blocks are 4 KiB */
const encoded = new Uint8Array(50_001);
let step = 0;
const add = async () => {
  writer.add(++step, [image("pairs", { width: 1, height: 1, encoded })]);
  await writer.flush();
};
while (warnings.length === 0) await add();
await add();
rmSync(ballast);
await add();
await writer.close();
process.stdout.write(JSON.stringify({ warnings, step }));
