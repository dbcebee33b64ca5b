export function writeSchemas(description: object, folder: string): void;
