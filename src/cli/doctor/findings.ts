/** What `tandem doctor` gathers about a machine before it judges. Plain data, so that every failure can be tested. */
import type { EngineReport } from "../../engine/probe.js";
import type { TransportReport } from "../../transport/probe.js";

/** What a probe's process reported, or the last line it left when it died. */
export type Probed<Report> =
  { readonly kind: "report"; readonly report: Report } | { readonly kind: "failed"; readonly why: string };

export interface PortState {
  readonly port: number;
  readonly state: "free" | "taken" | "refused";
}

export interface DiskState {
  readonly what: "working directory" | "cache";
  readonly path: string;
  /** null: cannot be told. */
  readonly freeBytes: number | null;
}

export interface Findings {
  readonly node: string;
  readonly engine: Probed<EngineReport>;
  readonly transport: Probed<TransportReport>;
  readonly gpu: {
    /** Whether an NVIDIA driver is installed. */
    readonly driver: boolean;
    /** Models, for example "NVIDIA H100 PCIe". */
    readonly models: readonly string[];
    /** TANDEM_DEVICE. */
    readonly wish: string | undefined;
  };
  readonly threads: {
    /** That the scheduler lets this process use. */
    readonly available: number;
    /** The control group's limit, in cores; null: none. */
    readonly limit: number | null;
  };
  readonly cpu: {
    readonly model: string;
    readonly flags: ReadonlySet<string>;
    /** TF_ENABLE_ONEDNN_OPTS. */
    readonly oneDnn: string | undefined;
  };
  readonly ports: readonly PortState[];
  readonly disks: readonly DiskState[];
  readonly memory: {
    readonly totalBytes: number;
    /** The control group's limit; null: none. */
    readonly limitBytes: number | null;
    readonly availableBytes: number;
  };
}
