export function obstacle(hasNodes: boolean): string | null;
export function until(condition: () => boolean | Promise<boolean>, what: string, patienceMs?: number): Promise<void>;
export class Cluster {
  static start(folder: string, nodes: readonly string[]): Promise<Cluster>;
  readonly folder: string;
  define(): void;
  extend(): Promise<void>;
  kubectl(args: readonly string[], input?: string): string;
  conform(args: readonly string[], manifests: string): string;
  load(archive: string): void;
}
