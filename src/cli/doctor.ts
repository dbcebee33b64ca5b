/** `tandem doctor`: is this machine fit, and if not, what to do. */
import { examine, type Verdict } from "./doctor/checks.js";
import { gather } from "./doctor/gather.js";
import type { CommandBody } from "./commands.js";

interface DoctorArguments {
  readonly json: boolean;
}

export const doctorCommand: CommandBody<DoctorArguments> = {
  builder: (yargs) =>
    yargs
      .option("json", { type: "boolean", default: false, describe: "Print one JSON object instead of lines" })
      .example("$0 doctor", "Look at everything; exits 1 where something FAILs"),
  handler: async ({ json }) => {
    const verdicts = await gather().then(examine);
    process.stdout.write(json ? `${JSON.stringify({ fit: isFit(verdicts), checks: verdicts })}\n` : page(verdicts));
    if (!isFit(verdicts)) process.exitCode = 1;
  },
};

/** Whether nothing FAILs; warnings are no hindrance. */
export function isFit(verdicts: readonly Verdict[]): boolean {
  return verdicts.every(({ status }) => status !== "FAIL");
}

/** One line for each verdict, in columns. */
export function page(verdicts: readonly Verdict[]): string {
  const width = Math.max(...verdicts.map(({ name }) => name.length));
  const lines = verdicts.map(({ name, status, line, remedy }) => {
    const advice = remedy === "" ? "" : ` → ${remedy}`;
    return `${status.padEnd(4)}  ${name.padEnd(width)}  ${line}${advice}\n`;
  });
  return lines.join("");
}
