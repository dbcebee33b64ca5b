export function writeWhole(path: string, text: string): void;
export function linkTo(path: string, target: string): void;
export function sha256(...parts: readonly (string | Buffer)[]): string;
