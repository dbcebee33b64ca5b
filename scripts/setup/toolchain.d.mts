export interface Platform {
  readonly node: string;
  readonly platform: string;
  readonly arch: string;
  readonly glibc: string | undefined;
}

export interface Machine extends Platform {
  readonly python: boolean;
  readonly pip: boolean;
  readonly compiler: boolean;
}

export function missing(machine: Machine): string[];
export function platformProblems(platform: Platform): string[];
export function thisMachine(): Machine;
