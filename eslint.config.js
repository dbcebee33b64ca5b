import { defineConfig } from "eslint/config";
import tseslint from "typescript-eslint";
import { layers } from "./scripts/lint/layers.mjs";

export default defineConfig(
  { ignores: ["dist/", "runs/", "node_modules/", "src/*/generated/", "src/*/assembly/"] },
  {
    files: ["**/*.ts"],
    extends: [tseslint.configs.strictTypeChecked],
    languageOptions: { parserOptions: { projectService: { allowDefaultProject: ["*.config.ts"] } } },
    plugins: { tandem: { rules: { layers } } },
    rules: {
      "tandem/layers": "error",
      "@typescript-eslint/no-explicit-any": "error",
      "@typescript-eslint/no-non-null-assertion": "error",
      "@typescript-eslint/no-floating-promises": "error",
      "@typescript-eslint/switch-exhaustiveness-check": "error",
      "@typescript-eslint/restrict-template-expressions": ["error", { allowNumber: true, allowBoolean: true }],
      // A shorthand that returns nothing, and a type parameter that only names a result, read well.
      "@typescript-eslint/no-confusing-void-expression": "off",
      "@typescript-eslint/no-unnecessary-type-parameters": "off",
      // Arrays are indexed in numeric loops all over, and tsconfig leaves noUncheckedIndexedAccess off.
      "@typescript-eslint/no-unnecessary-condition": "off",
    },
  },
  {
    // Matchers such as expect.any() are typed any.
    files: ["tests/**/*.ts"],
    rules: {
      "@typescript-eslint/no-unsafe-assignment": "off",
      "@typescript-eslint/no-unsafe-return": "off",
      "@typescript-eslint/no-unsafe-argument": "off",
      "@typescript-eslint/no-unsafe-member-access": "off",
    },
  },
  {
    files: ["**/*.mjs", "**/*.js"],
    languageOptions: {
      globals: {
        process: "readonly",
        performance: "readonly",
        URL: "readonly",
        Buffer: "readonly",
        console: "readonly",
        fetch: "readonly",
        AbortController: "readonly",
      },
    },
    rules: {
      "no-undef": "error",
      "no-unused-vars": "error",
      "no-var": "error",
      "prefer-const": "error",
      eqeqeq: "error",
    },
  },
  {
    // What browsers have.
    files: ["src/dashboard/page/*.js"],
    languageOptions: {
      globals: Object.fromEntries(
        ["document", "getComputedStyle", "ResizeObserver", "matchMedia", "uPlot", "fetch", "EventSource"].map(
          (name) => [name, "readonly"],
        ),
      ),
    },
  },
);
