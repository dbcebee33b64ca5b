export function obstacle(): string | null;
export function until(condition: () => boolean | Promise<boolean>, what: string, patienceMs?: number): Promise<void>;
export class Cluster {
  static start(nodes: readonly string[]): Promise<Cluster>;
  readonly folder: string;
  kubectl(args: readonly string[], input?: string): string;
  load(archive: string): void;
  stop(): Promise<void>;
}
