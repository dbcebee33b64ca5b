import { ESLint } from "eslint";
import { describe, expect, it } from "vitest";
import { violation } from "../../scripts/lint/layers.mjs";

describe("the layer rule, in ESLint with the repository's own config", () => {
  const eslint = new ESLint({
    // Typed rules need files of the project; this test lints text.
    overrideConfig: { languageOptions: { parserOptions: { projectService: false, program: null, programs: null } } },
    ruleFilter: ({ ruleId }) => ruleId === "tandem/layers",
  });

  async function complaints(filePath: string, text: string): Promise<readonly string[]> {
    const [result] = await eslint.lintText(text, { filePath });
    return result?.messages.map(({ message }) => message) ?? [];
  }

  it("reports an import from a layer above", async () => {
    const text = 'import { tinyEncoder } from "../models/index.js";\nexport const x = tinyEncoder;\n';
    expect(await complaints("src/optim/schedule.ts", text)).toEqual([
      "src/optim imports only from layers below it, and src/models is not below",
    ]);
  });

  it("reports every form of import", async () => {
    const text = [
      'export { a } from "../data/index.js";',
      'export * from "../data/index.js";',
      'export const b = await import("../data/index.js");',
      'export type C = import("../data/index.js").C;',
      'export const d = createRequire(import.meta.url)("zeromq");',
    ].join("\n");
    expect(await complaints("src/engine/index.ts", text)).toHaveLength(5);
  });

  it("is silent where all goes down", async () => {
    const text = 'import { tf } from "../engine/index.js";\nexport const x = tf;\n';
    expect(await complaints("src/models/index.ts", text)).toEqual([]);
  });
});

describe("who may import whom", () => {
  it.each([
    ["src/cli/train.ts", "coordinator/main.js"],
    ["src/cli/train.ts", "src/evaluation/knn.js"],
    ["coordinator/server.ts", "src/transport/index.js"],
    ["worker/session.ts", "worker/loader-thread.js"],
    ["src/config/schema.ts", "src/protocol/philox.js"],
    ["src/protocol/wire.ts", "src/config/index.js"],
    ["src/data/views.ts", "src/engine/index.js"],
    ["src/evaluation/knn.ts", "src/objectives/index.js"],
    ["tests/unit/any.test.ts", "worker/session.js"],
  ])("%s may import %s", (importer, imported) => {
    expect(violation(importer, imported, false)).toBeNull();
  });

  it.each([
    ["coordinator/server.ts", "worker/session.js"],
    ["worker/session.ts", "coordinator/server.js"],
    ["worker/main.ts", "src/cli/train.js"],
    ["src/transport/sockets.ts", "coordinator/server.js"],
    ["src/transport/sockets.ts", "src/engine/index.js"],
    ["src/engine/kernels.ts", "src/data/index.js"],
    ["src/data/views.ts", "src/models/index.js"],
    ["src/models/resnet.ts", "src/objectives/index.js"],
    ["src/objectives/moco.ts", "src/evaluation/knn.js"],
    ["src/objectives/moco.ts", "src/cli/doctor.js"],
    ["src/objectives/moco.ts", "tests/unit/fixture.js"],
    ["src/newcomer/index.ts", "src/config/index.js"],
  ])("%s may not import %s", (importer, imported) => {
    expect(violation(importer, imported, false)).not.toBeNull();
  });

  it.each([
    ["coordinator/server.ts", "zeromq"],
    ["src/cli/doctor.ts", "zeromq"],
    ["src/models/resnet.ts", "@tensorflow/tfjs-node-gpu"],
    ["worker/rank-computer.ts", "@tensorflow/tfjs"],
  ])("%s may not import the package %s", (importer, name) => {
    expect(violation(importer, name, true)).not.toBeNull();
  });

  it.each([
    ["src/transport/sockets.ts", "zeromq"],
    ["src/engine/tensorflow.ts", "@tensorflow/tfjs-node-gpu"],
    ["src/models/resnet.ts", "zod"],
  ])("%s may import the package %s", (importer, name) => {
    expect(violation(importer, name, true)).toBeNull();
  });
});
