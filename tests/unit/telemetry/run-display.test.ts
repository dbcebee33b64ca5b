/** What a run says of itself while it goes on. */
import { join } from "node:path";
import { expect, it } from "vitest";
import { RunDisplay } from "../../../src/cli/run-display.js";
import { resolveConfig } from "../../../src/config/index.js";
import { EventFile, openLogger, Progress } from "../../../src/telemetry/index.js";
import { temporaryFolder } from "../data/temporary-folder.js";

const folder = temporaryFolder();
const SCORES = { knn: 0.5, linear: null, nearest: [] };

it.each([
  ["untrained encoder", false],
  ["the weights of --init", true],
])("an accuracy at step 0 is that of the %s", async (name, isInitialised) => {
  let shown = "";
  const write = (text: string) => (shown += text);
  const logger = openLogger({ process: "coordinator", file: null, show: write });
  const config = await resolveConfig({ preset: "quickstart" });
  const events = new EventFile(join(folder.path, `${name}.jsonl`));
  const display = new RunDisplay(config, new Progress({ write }), events, logger);
  const report = {
    sha256: "0".repeat(64),
    prefix: "",
    matched: ["w"],
    missing: [],
    mismatched: [],
    unexpected: [],
    elsewhere: 0,
  };
  if (isInitialised) display.initialised(report);
  display.evaluated(0, SCORES);
  display.evaluated(1, SCORES);
  events.close();
  expect(shown).toContain(`kNN accuracy 50.0% at step 0 (${name})\n`);
  expect(shown).toContain("kNN accuracy 50.0% at step 1\n");
});
