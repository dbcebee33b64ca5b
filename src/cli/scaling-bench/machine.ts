/** What measured. */
import { arch, availableParallelism, cpus, loadavg, release, totalmem, type } from "node:os";
import { SOFTWARE_VERSION } from "../../protocol/version.js";

export interface Machine {
  readonly processor: string;
  /** that this process may use */
  readonly cores: number;
  readonly memoryBytes: number;
  readonly system: string;
  readonly node: string;
  readonly tandem: string;
  /** processes that ran or wanted to in the minute before */
  readonly load: number;
}

export function thisMachine(): Machine {
  return {
    processor: cpus()[0]?.model.trim() ?? "unknown",
    cores: availableParallelism(),
    memoryBytes: totalmem(),
    system: `${type()} ${release()} ${arch()}`,
    node: process.version,
    tandem: SOFTWARE_VERSION,
    load: loadavg()[0],
  };
}
