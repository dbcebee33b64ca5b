/** Prints the counts of a test run, as vitest's JSON reporter wrote them: closing-line.mjs FILE */
import { readFileSync } from "node:fs";

const [file = ""] = process.argv.slice(2);
const text = readFileSync(file, "utf8");
if (text === "") {
  console.log("no counts: the test run did not reach its end");
  process.exit(1);
}
const { numPassedTests, numFailedTests, numPendingTests, numTodoTests, testResults } = JSON.parse(text);
// A file that does not load has no tests to fail.
const unloaded = testResults.filter(
  ({ status, assertionResults }) => status === "failed" && assertionResults.length === 0,
);
const also = unloaded.length === 0 ? "" : `, ${unloaded.length} files did not load`;
console.log(`${numPassedTests} passed, ${numFailedTests} failed, ${numPendingTests + numTodoTests} skipped${also}`);
