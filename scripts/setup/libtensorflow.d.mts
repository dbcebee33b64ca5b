import type { Flavour } from "./device.mjs";

export const VERSION: string;
export function cacheFolder(env: NodeJS.ProcessEnv): string;
export function pinnedWheels(flavour: Flavour): string[];
export function libtensorflowPending(folder: string, flavour: Flavour): string | null;
