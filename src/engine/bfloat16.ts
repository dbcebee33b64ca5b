/** Whether this machine computes in bfloat16 faster than in float32. Loads no engine. */
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";

/** x86 since Cooper Lake and Zen 4, matrix units since Sapphire Rapids; ARM since Neoverse V1. */
const PROCESSOR_FLAGS = /\b(avx512_bf16|amx_bf16|bf16|svebf16)\b/;
/** NVIDIA's compute capability of Ampere, the first with bfloat16 in its tensor cores. */
const LEAST_CAPABILITY = 8;

/** A GPU where there is one; otherwise the processor. */
export function hasBfloat16(): boolean {
  const query = ["--query-gpu=compute_cap", "--format=csv,noheader"];
  const { status, stdout } = spawnSync("nvidia-smi", query, { encoding: "utf8", timeout: 10_000 });
  if (status === 0)
    return stdout
      .trim()
      .split("\n")
      .every((capability) => Number(capability) >= LEAST_CAPABILITY);
  try {
    return PROCESSOR_FLAGS.test(readFileSync("/proc/cpuinfo", "utf8"));
  } catch {
    return false;
  }
}
