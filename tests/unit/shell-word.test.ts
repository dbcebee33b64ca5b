import { execFileSync } from "node:child_process";
import { expect, it } from "vitest";
import { shellWord } from "../../src/config/shell-word.js";

it.each([
  "webdataset:a-{0..3}.tar,test=b.tar",
  "folder:my photos/it's $HOME `here` *",
  "synthetic:classes=10,size=32",
  'a"b\\c',
  "",
])("a shell gives %j back as one word", (text) => {
  const printed = execFileSync("bash", ["-c", `printf '%s|' ${shellWord(text)}`]).toString();
  expect(printed).toBe(`${text}|`);
});

it("leaves plain text as it is", () => {
  expect(shellWord("cifar10:/data/cifar-10_batches")).toBe("cifar10:/data/cifar-10_batches");
});
