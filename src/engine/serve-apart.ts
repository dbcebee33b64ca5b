/** The process that `askApart` starts: one question in, one answer out. */
import { writeSync } from "node:fs";
import { json } from "node:stream/consumers";
import { UserError } from "../protocol/errors.js";
import type { Answer } from "./apart.js";
import { configureEngine } from "./environment.js";

const OUTPUT = 3;

/** @param reply loads the engine itself, which has been configured only when it is called */
export async function serveApart<Question, Value>(reply: (question: Question) => Promise<Value>): Promise<void> {
  // The devices are the workers'.
  configureEngine({ threads: 1, device: "cpu" });
  const question = (await json(process.stdin)) as Question;
  let answer: Answer<Value>;
  try {
    answer = { value: await reply(question) };
  } catch (error) {
    if (!(error instanceof UserError)) throw error;
    answer = { error: { code: error.code, message: error.message } };
  }
  writeSync(OUTPUT, JSON.stringify(answer));
  process.exit();
}
