/**
 * Metrics as Prometheus collects them: OpenMetrics for whoever asks for it, Prometheus' text format for others. Names and units follow
 * https://prometheus.io/docs/practices/naming/; docs/metrics.md lists them.
 */
import {
  collectDefaultMetrics,
  Counter,
  Gauge,
  Histogram,
  Registry,
  type OpenMetricsContentType,
  type PrometheusContentType,
} from "prom-client";

/** How often the event loop's lag is looked at, in ms: every 10 would wake each process a hundred times a second. */
const LAG_EVERY_MS = 100;

/** A process's metrics: its own (`process_…`, `nodejs_…`), and what is registered beside them. */
export class Metrics {
  private readonly registry = new Registry<PrometheusContentType | OpenMetricsContentType>();
  /** answers are made one after another: the registry has one format at a time */
  private last: Promise<unknown> = Promise.resolve();

  constructor() {
    collectDefaultMetrics({ register: this.registry, eventLoopMonitoringPrecision: LAG_EVERY_MS });
  }

  gauge<Label extends string>(name: string, help: string, ...labelNames: readonly Label[]): Gauge<Label> {
    return new Gauge({ registers: [this.registry], name, help, labelNames });
  }

  /** @param name ends with `_total` */
  counter<Label extends string>(name: string, help: string, ...labelNames: readonly Label[]): Counter<Label> {
    return new Counter({ registers: [this.registry], name, help, labelNames });
  }

  histogram(name: string, help: string, buckets: number[]): Histogram {
    return new Histogram({ registers: [this.registry], name, help, buckets });
  }

  /** @param accept HTTP's header @returns what is measured by now, and its content type */
  answer(accept: string): Promise<{ readonly contentType: string; readonly text: string }> {
    const isOpen = accept.includes("application/openmetrics-text");
    const contentType = isOpen ? Registry.OPENMETRICS_CONTENT_TYPE : Registry.PROMETHEUS_CONTENT_TYPE;
    const made = this.last.then(async () => {
      const named = this.registry.getMetricsAsArray().map((metric) => ({ metric, name: metric.name }));
      this.registry.setContentType(contentType);
      try {
        return { contentType, text: await this.registry.metrics() };
      } finally {
        // OpenMetrics' names of counters lack their _total, and prom-client leaves them so.
        for (const { metric, name } of named) metric.name = name;
      }
    });
    this.last = made.catch(() => undefined);
    return made;
  }
}
