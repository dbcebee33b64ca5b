/** Writes checkpoint after checkpoint until it is killed; says the number of each that is whole. */
import { writeCheckpoint, type CheckpointState } from "../../src/checkpoint/index.js";
import { PRESETS } from "../../src/config/index.js";

const [directory = ""] = process.argv.slice(2);
const VALUES = 200_000;

function stateOf(step: number): CheckpointState {
  const tensor = { name: "t", dtype: "F32" as const, shape: [VALUES], data: new Float32Array(VALUES).fill(step) };
  const groups = { query: [tensor], key: [tensor], optimizer: [tensor], buffers: [tensor], queue: [tensor] };
  const meta = {
    ...{
      runId: "r",
      config: PRESETS.quickstart,
      manifestHash: "m",
      engineFingerprint: null,
      architecture: "resnet-tiny",
    },
    ...{ reproducible: true, knn: null },
  };
  return { step, meta, groups };
}

for (let step = Number(process.argv[3]); ; step++) {
  await writeCheckpoint(directory, stateOf(step), { keep: 2 });
  process.stdout.write(`${step}\n`);
}
