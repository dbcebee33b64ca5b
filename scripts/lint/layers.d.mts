import type { Rule } from "eslint";

export const layers: Rule.RuleModule;
export function violation(importer: string, imported: string, isPackage: boolean): string | null;
