export interface Lockfile {
  readonly packages: Record<
    string,
    { readonly version?: string; readonly integrity?: string; readonly optional?: boolean }
  >;
}

export function holdsAll(wanted: Lockfile, installed: Lockfile): boolean;
export function packagesPending(root: string): string | null;
