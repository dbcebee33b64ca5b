/** Reading what Linux says in /proc and /sys/fs/cgroup. */

/** Text of a file; empty where there is none. */
export type Read = (path: string) => string;

/** `/proc/cpuinfo` → model and feature flags of the first core. */
export function parseCpuInfo(text: string): { readonly model: string; readonly flags: ReadonlySet<string> } {
  const field = (name: string): string => new RegExp(`^${name}\\s*: (.*)$`, "m").exec(text)?.[1] ?? "";
  return { model: field("model name").trim() || "unknown", flags: new Set(field("flags").split(" ")) };
}

/** Cores that the control group grants (v2, then v1); null: as many as there are. */
export function parseCpuLimit(read: Read): number | null {
  const [quota2, period2] = read("/sys/fs/cgroup/cpu.max").trim().split(" ");
  const v2 = ratio(quota2, period2);
  if (v2 !== null) return v2;
  return ratio(read("/sys/fs/cgroup/cpu/cpu.cfs_quota_us"), read("/sys/fs/cgroup/cpu/cpu.cfs_period_us"));
}

/** Bytes that the control group grants (v2, then v1); null: no limit. */
export function parseMemoryLimit(read: Read): number | null {
  const text = read("/sys/fs/cgroup/memory.max") || read("/sys/fs/cgroup/memory/memory.limit_in_bytes");
  const bytes = Number.parseInt(text, 10);
  // Version 1 says "none" by a number near 2^63.
  return Number.isFinite(bytes) && bytes < 2 ** 60 ? bytes : null;
}

/** `/proc/meminfo` → bytes that programs can still have; null: not said. */
export function parseMemAvailable(text: string): number | null {
  const kibibytes = /^MemAvailable:\s+(\d+) kB$/m.exec(text)?.[1];
  return kibibytes === undefined ? null : Number(kibibytes) * 1024;
}

function ratio(quota: string | undefined, period: string | undefined): number | null {
  const value = Number.parseInt(quota ?? "", 10) / Number.parseInt(period ?? "", 10);
  return Number.isFinite(value) && value > 0 ? value : null;
}
