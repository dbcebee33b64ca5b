export type Flavour = "cpu" | "gpu";
export function chooseFlavour(wish: string | undefined, driver: boolean): Flavour;
export function hasNvidiaDriver(env: NodeJS.ProcessEnv): boolean;
