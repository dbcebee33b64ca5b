/** Checkpoints and the run directory: what a run leaves on disk. */
export {
  checkpointDirectory,
  checkpointSteps,
  digests,
  latestCheckpoint,
  readCheckpoint,
  writeCheckpoint,
} from "./checkpoint.js";
export {
  defaultRunDirectory,
  holdsRun,
  logFile,
  openRunDirectory,
  readRunConfig,
  readRunId,
  runFiles,
  type RunIdentity,
} from "./run-directory.js";
export { lockRun, runHolder, type RunHolder, type RunLock } from "./run-lock.js";
export { syncDirectory, writeSynced } from "./durable.js";
export { decodeSafetensors, encodeSafetensors, SafetensorsError, type Dtype, type NamedTensor } from "./safetensors.js";
export {
  CHECKPOINT_GROUPS,
  digestsOf,
  type CheckpointGroup,
  type CheckpointMeta,
  type CheckpointState,
  type Digests,
} from "./state.js";
