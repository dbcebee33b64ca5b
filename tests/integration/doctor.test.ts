/** `tandem doctor` as a process, on this very machine. */
import { execFile } from "node:child_process";
import { createServer } from "node:net";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import type { Verdict } from "../../src/cli/doctor/checks.js";

const program = fileURLToPath(new URL("../../bin/tandem.js", import.meta.url));
const root = fileURLToPath(new URL("../..", import.meta.url));

interface Outcome {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

function doctor(options: { readonly json: boolean; readonly env?: NodeJS.ProcessEnv }): Promise<Outcome> {
  const args = [program, "doctor", ...(options.json ? ["--json"] : [])];
  return new Promise((resolve) => {
    execFile(
      process.execPath,
      args,
      { cwd: root, env: { ...process.env, ...options.env } },
      (error, stdout, stderr) => {
        resolve({ code: typeof error?.code === "number" ? error.code : 0, stdout, stderr });
      },
    );
  });
}

function verdictsOf({ stdout }: Outcome): ReadonlyMap<string, Verdict> {
  const { checks } = JSON.parse(stdout) as { readonly checks: readonly Verdict[] };
  return new Map(checks.map((verdict) => [verdict.name, verdict]));
}

describe("tandem doctor", () => {
  it("finds this machine's engine and ZeroMQ in order, in lines without noise", async () => {
    const { code, stdout, stderr } = await doctor({ json: false });
    expect(stdout).toMatch(/^ok {4}engine .* tfjs-node 4\.22\.0 on libtensorflow 2\.21\.0$/m);
    expect(stdout).toMatch(/^ok {4}ZeroMQ .* with CURVE$/m);
    for (const line of stdout.trimEnd().split("\n")) expect(line).toMatch(/^(ok {2}|warn|FAIL) {2}\S/);
    expect(stderr).toBe("");
    expect(code).toBe(/^FAIL/m.test(stdout) ? 1 : 0);
  });

  it("says it in JSON too, and that a port is in use", async () => {
    const server = createServer().listen(5556, "127.0.0.1");
    await Promise.race([once(server, "listening"), once(server, "error")]);
    try {
      const outcome = await doctor({ json: true });
      expect(verdictsOf(outcome).get("port 5556")?.status).toBe("warn");
      expect(verdictsOf(outcome).get("engine")?.status).toBe("ok");
    } finally {
      server.close();
    }
  });

  it("survives an engine that dies, says so and exits 1", async () => {
    // The probe's process gets an environment in which Node itself gives up.
    const outcome = await doctor({ json: true, env: { NODE_OPTIONS: preloadThatAborts } });
    expect(verdictsOf(outcome).get("engine")).toMatchObject({ status: "FAIL", remedy: "run npm run build" });
    expect(outcome.code).toBe(1);
  });
});

/** Loaded by every Node process of a test; kills those that are a probe of the engine. */
const preloadThatAborts = `--import=data:text/javascript,${encodeURIComponent(
  'if (process.argv[1]?.endsWith("engine/probe.js")) process.abort();',
)}`;
