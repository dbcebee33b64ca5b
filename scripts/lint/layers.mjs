/** ESLint rule: who may import whom. */
import { dirname, relative, resolve } from "node:path";

/** Layers of src/, lowest first. A folder imports from layers below its own, and from itself. */
const LAYERS = [
  ["native"],
  ["config", "protocol"],
  ["transport", "engine", "optim", "checkpoint", "telemetry"],
  ["data"],
  ["models"],
  ["objectives"],
  ["evaluation", "kubernetes", "dashboard", "explain"],
];

/** These two know each other: the config is part of what the protocol carries. */
const NEIGHBOURS = new Set(["config", "protocol"]);

/** Package → the one folder of src/ that may import it. */
const OWNERS = [
  { pattern: /^zeromq(\/|$)/, owner: "transport" },
  { pattern: /^@tensorflow\//, owner: "engine" },
];

/**
 * @typedef {{ program: "coordinator" | "worker" } | { program: "src", folder: string } | null} Place null: under no rule
 * @param {string} path relative to the repository
 * @returns {Place}
 */
function placeOf(path) {
  const [top = "", folder = ""] = path.split("/");
  if (top === "coordinator" || top === "worker") return { program: top };
  return top === "src" ? { program: "src", folder } : null;
}

/**
 * @param {string} importer path relative to the repository
 * @param {string} imported path relative to the repository, or a package's name
 * @param {boolean} isPackage
 * @returns {string | null} what is wrong; null where nothing is
 */
export function violation(importer, imported, isPackage) {
  const from = placeOf(importer);
  if (from === null) return null;
  if (isPackage) {
    const rule = OWNERS.find(({ pattern }) => pattern.test(imported));
    if (rule === undefined || (from.program === "src" && from.folder === rule.owner)) return null;
    return `only src/${rule.owner} imports ${imported}`;
  }
  const to = placeOf(imported);
  if (to === null)
    return from.program === "src" || imported.startsWith("tests/") ? `${importer} reaches outside: ${imported}` : null;
  if (to.program === "src" && to.folder === "cli") {
    return from.program === "src" && from.folder === "cli" ? null : "only src/cli imports src/cli";
  }
  if (from.program !== "src") {
    return to.program === "src" || to.program === from.program
      ? null
      : "the coordinator and the worker never import each other";
  }
  if (from.folder === "cli") return null;
  if (to.program !== "src") return `src/${from.folder} imports neither program, and this is ${to.program}`;
  return upward(from.folder, to.folder);
}

/** @param {string} from @param {string} to folders of src/ @returns {string | null} */
function upward(from, to) {
  if (from === to || (NEIGHBOURS.has(from) && NEIGHBOURS.has(to))) return null;
  const level = (/** @type {string} */ folder) => LAYERS.findIndex((names) => names.includes(folder));
  if (level(from) === -1 || level(to) === -1)
    return `src/${level(from) === -1 ? from : to} has no layer yet: give it one in scripts/lint/layers.mjs`;
  return level(to) < level(from) ? null : `src/${from} imports only from layers below it, and src/${to} is not below`;
}

/** @type {import("eslint").Rule.RuleModule} */
export const layers = {
  meta: {
    type: "problem",
    docs: { description: "imports go down the layers only" },
    schema: [],
    messages: { layer: "{{ why }}" },
  },
  create(context) {
    const importer = relative(context.cwd, context.filename);
    /** @param {any} source the import's literal */
    const check = (source) => {
      const name = source?.type === "TSLiteralType" ? source.literal.value : source?.value;
      if (typeof name !== "string" || name.startsWith("node:")) return;
      const isPackage = !name.startsWith(".");
      const imported = isPackage ? name : relative(context.cwd, resolve(dirname(context.filename), name));
      const why = violation(importer, imported, isPackage);
      if (why !== null) context.report({ node: source, messageId: "layer", data: { why } });
    };
    return {
      ImportDeclaration: (node) => check(node.source),
      ExportNamedDeclaration: (node) => check(node.source),
      ExportAllDeclaration: (node) => check(node.source),
      ImportExpression: (node) => check(node.source),
      TSImportType: (/** @type {any} */ node) => check(node.source ?? node.argument),
      // require(...), and createRequire(...)(...) as src/engine does it.
      CallExpression: (node) => {
        const { callee } = node;
        const required =
          (callee.type === "Identifier" && callee.name === "require") ||
          (callee.type === "CallExpression" &&
            callee.callee.type === "Identifier" &&
            callee.callee.name === "createRequire");
        if (required) check(node.arguments[0]);
      },
    };
  },
};
