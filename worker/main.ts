/** A worker process: one device or several, an engine thread and a loader thread for each, and the session that ties them to a run. */
import { randomBytes } from "node:crypto";
import { hostname } from "node:os";
import { clearInterval, setInterval } from "node:timers";
import type { RunConfig } from "../src/config/schema.js";
import type { DeviceChoice } from "../src/engine/environment.js";
import { parameterBuckets } from "../src/models/buckets.js";
import { VectorArena } from "../src/optim/index.js";
import { PROTOCOL_VERSION } from "../src/protocol/wire.js";
import type { Health, WorkerMetrics } from "../src/telemetry/index.js";
import { SOFTWARE_VERSION } from "../src/protocol/version.js";
import type { ClientKeys } from "../src/transport/index.js";
import { Connection } from "./connection.js";
import { startDeviceTeam } from "./device-team.js";
import { startExecutor, type Executor } from "./executor.js";
import type { SampleOrigin } from "./session-ports.js";
import { WorkerSession } from "./session.js";
import { digestsOf, ShardedWeights } from "./sharded-weights.js";
import type { SharedExchange } from "./shared-exchange.js";
import { ownSlots, sharedSlots } from "./weight-slots.js";

export interface WorkerOptions {
  /** the coordinator's control plane, `tcp://HOST:PORT` */
  readonly connect: string;
  /** null: the run uses none */
  readonly keys: ClientKeys | null;
  /** one, or several that compute at once and give one sum */
  readonly devices: readonly [DeviceChoice, ...DeviceChoice[]];
  /** must be what the run's config says, if given */
  readonly threads?: number | undefined;
  /** where this machine keeps the run's data set; what a config that comes from elsewhere says is no path of this machine */
  readonly data?: string | undefined;
  /** where this machine keeps the run's encoder, if it is a file; as with `data` */
  readonly encoder?: string | undefined;
  /** where this machine keeps the run's tokenizer, if it has one; as with `data` */
  readonly tokenizer?: string | undefined;
  /** where this machine keeps the run's method, if it is a file; as with `data` */
  readonly method?: string | undefined;
  /** how long a coordinator may be away before the worker gives up, in ms */
  readonly patienceMs: number;
  /** how long a worker that was asked to leave may go on with the rank in hand, in ms */
  readonly graceMs: number;
  /** asks the worker to leave in order */
  readonly signal: AbortSignal;
  /** is told at every turn of the loop */
  readonly health?: Health | undefined;
  /** null: nobody asks for them */
  readonly metrics?: WorkerMetrics | null;
  readonly log?: (message: string) => void;
  /** hears what its user should know even where a log is kept */
  readonly warn?: (message: string) => void;
}

/** How often the session looks at the clock, in ms. */
const TICK_MS = 50;

/**
 * Serves one run until the coordinator ends it or `signal` aborts, through any number of connections.
 * @returns whether it has left a run that goes on
 */
export async function runWorker(options: WorkerOptions): Promise<boolean> {
  const engine = new AbortController();
  const threads: { close(): Promise<void> }[] = [];
  const log = options.log ?? (() => undefined);
  const metrics = options.metrics ?? null;
  let timer: NodeJS.Timeout | null = null;
  let connection: Connection | null = null;
  try {
    return await new Promise<boolean>((resolve, reject) => {
      let moved: (origin: SampleOrigin) => void = () => undefined;
      const start = async (config: RunConfig, origin: SampleOrigin) => {
        const onCorrupt = (name: string) => {
          session.corruptSample(name);
        };
        const origins = {
          first: origin,
          onMove: (heard: typeof moved) => {
            moved = heard;
          },
        };
        const { devices, connect, keys, data, encoder, tokenizer, method, warn = () => undefined } = options;
        const others = { connect, keys, data, encoder, tokenizer, method, warn, log, signal: engine.signal };
        const [device] = devices;
        const isTeam = devices.length > 1;
        const { executor, ...found } = await (isTeam
          ? startDeviceTeam(config, origins, devices, others, onCorrupt, threads)
          : startExecutor(config, origins, { ...others, device }, onCorrupt, threads));
        const arena = new VectorArena();
        // A team's weights lie where all of it sees them.
        const slots = isTeam ? sharedSlots(arena) : ownSlots(arena);
        const weights = new ShardedWeights(executor.layout, found.takesBfloat16, arena, parameterBuckets, slots);
        engineParts = { executor, weights };
        session.prepared(found);
      };
      const link = new Connection(options.connect, options.keys, () => session, reject);
      connection = link;
      let engineParts: { executor: Executor; weights: ShardedWeights } | null = null;
      const parts = () => {
        if (engineParts === null) throw new Error("the engine was used before it was started");
        return engineParts;
      };
      const session = new WorkerSession(
        {
          endpoint: options.connect,
          hello: {
            protocolVersion: PROTOCOL_VERSION,
            softwareVersion: SOFTWARE_VERSION,
            host: hostname(),
            pid: process.pid,
            threads: options.threads ?? 0,
            instance: randomBytes(16).toString("hex"),
          },
          patienceMs: options.patienceMs,
        },
        {
          now: () => performance.now(),
          random: Math.random,
          connect: (number) => {
            link.connect(number);
          },
          disconnect: () => {
            link.disconnect();
          },
          say: (message, frames) => {
            link.say(message, frames);
            if (message.body === "rankResult") metrics?.rankDone(message.rankResult);
          },
          tell: (aggregator, message, frames) => {
            link.tell(aggregator, message, frames);
          },
          openData: (number, aggregators, open) => {
            const { weights } = parts();
            link.openData(number, aggregators, open, weights.cut(aggregators.length), weights.arena);
            weights.restart(link.memories);
          },
          takeMemory: (aggregator, theirs) => {
            link.takeMemory(aggregator, theirs);
          },
          prepare: (config, origin) => {
            start(config, origin).catch(reject);
          },
          samplesAt: (origin) => {
            moved(origin);
          },
          prove: (number, queueVersion) => {
            const weights = parts().weights.whole();
            if (weights === null || queueVersion < 0) {
              session.proved(number, null);
              return;
            }
            const [weightsVersion, weightsSha256] = [weights.version, digestsOf(weights)];
            const prove = async () => {
              const queueSha256 = await parts().executor.queueDigest();
              session.proved(number, { weightsVersion, weightsSha256, queueVersion, queueSha256 });
            };
            prove().catch(reject);
          },
          takeWeights: (aggregator, header, frames) => parts().weights.take(aggregator, header, frames),
          loadWeights: (number) => {
            const { executor, weights } = parts();
            const whole = weights.whole();
            if (whole === null) throw new Error("weights were to be loaded before all shards were there");
            executor
              .setWeights(whole)
              .then((isThere) => {
                if (isThere) session.weightsLoaded(number);
                else session.linkLost(number, "the aggregator's memory is gone");
              })
              .catch(reject);
          },
          setQueue: (position, frames) => {
            parts().executor.setQueue(position, frames).catch(reject);
          },
          appendKeys: (frames) => {
            parts().executor.appendKeys(frames).catch(reject);
          },
          embed: (number, device, step, rank, round) => {
            parts()
              .executor.embed(device, step, rank, round)
              .then((embeddings) => {
                session.embeddingsDone(number, step, rank, round, embeddings);
              })
              .catch(reject);
          },
          setEmbeddings: (step, round, frames) => {
            parts().executor.setEmbeddings(step, round, frames).catch(reject);
          },
          run: (number, device, step, rank, flush, early) => {
            const { memories } = link;
            const isHandedOut = flush && parts().executor.devices === 1;
            const claims = isHandedOut ? claim(memories, step) : memories.map(() => null);
            parts()
              .executor.run(device, {
                ...{ link: number, step, rank, flush, memories: gradientsOf(claims) },
                onShard: early
                  ? (shard, slice) => {
                      session.shardReady(number, step, rank, shard, slice);
                    }
                  : null,
              })
              .then((report) => {
                written(claims);
                session.rankDone(number, step, rank, flush, report);
              })
              .catch(reject);
          },
          flush: (number, step) => {
            const claims = claim(link.memories, step);
            parts()
              .executor.flush({ link: number, step, memories: gradientsOf(claims) })
              .then((nodes) => {
                written(claims);
                session.flushed(number, step, nodes);
              })
              .catch(reject);
          },
          prefetch: (device, step, ranks, use) => {
            parts().executor.prefetch(device, step, ranks, use);
          },
          features: (number, device, request, slice) => {
            parts()
              .executor.features(device, slice)
              .then((features) => {
                session.featuresDone(number, request, features);
              })
              .catch(reject);
          },
          log,
          ended: (error, isGone) => {
            if (error === null) resolve(isGone);
            else reject(error);
          },
        },
      );
      const drain = () => {
        session.drain(options.graceMs);
      };
      session.start();
      if (options.signal.aborted) drain();
      else options.signal.addEventListener("abort", drain, { once: true });
      timer = setInterval(() => {
        session.tick();
        options.health?.turned(session.waitsFor);
        metrics?.takesPart(session.waitsFor === null);
      }, TICK_MS);
    });
  } finally {
    if (timer !== null) clearInterval(timer);
    engine.abort();
    try {
      await (connection as Connection | null)?.end();
    } finally {
      await Promise.all(threads.map((thread) => thread.close()));
    }
  }
}

/** Memory of each aggregator into which the gradients of a step are about to be written; null: they travel. */
type Claims = readonly (SharedExchange | null)[];

function claim(memories: readonly (SharedExchange | null)[], step: number): Claims {
  return memories.map((memory) => (memory?.claimGradient(step) === true ? memory : null));
}

function gradientsOf(claims: Claims): readonly (Float32Array | null)[] {
  return claims.map((memory) => memory?.gradient ?? null);
}

function written(claims: Claims): void {
  for (const memory of claims) memory?.gradientWritten();
}
