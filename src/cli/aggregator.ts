/** `tandem aggregator`: owns a parameter shard of a run. */
import { ownEndpoint, runAggregator } from "../../coordinator/aggregator-process.js";
import { UserError } from "../protocol/errors.js";
import { openLogger } from "../telemetry/index.js";
import { addressOf, isHost, isWildcard, nextPort, readClientKeys } from "../transport/index.js";
import type { CommandBody } from "./commands.js";
import { drainedCode, EXIT_WHEN_DRAINED_OPTION } from "./exit-when-drained.js";
import { HEALTH_OPTION, healthAt } from "./health-option.js";
import { once, pathOf } from "./run-options.js";
import { requireKeysOrInsecure } from "./require-keys.js";
import { milliseconds } from "./seconds.js";
import { stopSignal } from "./stop-signal.js";
import { tcpEndpoint } from "./tcp-endpoint.js";

interface AggregatorArguments {
  readonly connect: string;
  readonly listen: string | undefined;
  readonly advertise: string | undefined;
  readonly keys: string | undefined;
  readonly insecure: boolean;
  readonly patience: number;
  readonly grace: number;
  readonly "exit-when-drained": number;
  readonly log: string | undefined;
  readonly health: string | undefined;
  readonly name: string;
}

export const aggregatorCommand: CommandBody<AggregatorArguments> = {
  builder: (yargs) =>
    yargs
      .option("connect", {
        type: "string",
        demandOption: true,
        requiresArg: true,
        describe: "The coordinator's address, tcp://HOST:PORT, as for workers; it must run with --aggregators",
      })
      .option("listen", {
        type: "string",
        requiresArg: true,
        describe: "Address for gradients [default: this machine's address towards the coordinator, a free port]",
      })
      .option("advertise", {
        type: "string",
        requiresArg: true,
        describe: "Name or address by which workers reach --listen [default: its address]",
      })
      .option("keys", {
        type: "string",
        requiresArg: true,
        describe: "Folder with this process's keys, as tandem keys new makes them for a worker",
      })
      .option("insecure", {
        type: "boolean",
        default: false,
        describe: "Listen beyond this machine without keys: whoever reaches the port can read and change the run",
      })
      .option("patience", {
        type: "number",
        default: 600,
        requiresArg: true,
        describe: "Seconds for which a coordinator may be away before the aggregator gives up",
      })
      .option("grace", {
        type: "number",
        default: 25,
        requiresArg: true,
        describe: "Seconds for the run to store its state when SIGTERM or SIGINT asks the aggregator to leave",
      })
      .option("exit-when-drained", EXIT_WHEN_DRAINED_OPTION)
      .option("health", HEALTH_OPTION)
      .option("log", { type: "string", requiresArg: true, describe: "Append JSON logs to this file" })
      .option("name", {
        type: "string",
        default: "aggregator",
        requiresArg: true,
        describe: "What to be called in logs",
      })
      .example(
        "$0 aggregator --connect tcp://10.0.0.5:5555 --keys keys/node-1",
        "Take a shard of the run's parameters",
      ),
  handler: async ({ log, name, ...given }) => {
    const logger = openLogger({ process: name, file: log ?? null, show: (line) => process.stderr.write(`${line}\n`) });
    const say = (message: string) => {
      logger.info(message);
      // Where nobody keeps a log, the terminal is it.
      if (log === undefined) process.stderr.write(`${name}: ${message}\n`);
    };
    const drained = drainedCode(given["exit-when-drained"]);
    const { health, close } = await healthAt(given.health, say);
    try {
      const connect = tcpEndpoint(once("connect", given.connect), "connect");
      // Before anything is waited for.
      nextPort(connect);
      const asked = once("listen", given.listen);
      const own = asked === undefined ? null : tcpEndpoint(asked, "listen");
      const advertise = once("advertise", given.advertise) ?? null;
      if (advertise !== null && !isHost(advertise))
        throw new UserError("USAGE", `--advertise ${advertise}: give a name or an address, without a port`);
      const folder = pathOf("--keys", given.keys);
      const keys = folder === undefined ? null : await readClientKeys(folder);
      if (keys === null && own !== null) requireKeysOrInsecure(own, given.insecure);
      const patienceMs = milliseconds("patience", given.patience);
      const graceMs = milliseconds("grace", given.grace);
      const signal = stopSignal();
      const waiting = (reason: string) => {
        health.turned(reason);
      };
      // Nobody can connect to all addresses of a machine: others are told the one towards the coordinator.
      const needsOwn = own === null || (advertise === null && isWildcard(own));
      const towards = needsOwn ? await ownEndpoint(connect, { patienceMs, signal, waiting }) : own;
      let hasLeft = true;
      if (towards !== null) {
        const listen = own ?? towards;
        if (keys === null) requireKeysOrInsecure(listen, given.insecure);
        const told = advertise ?? (isWildcard(listen) ? addressOf(towards).host : null);
        const links = { connect, listen, advertise: told, keys };
        hasLeft = await runAggregator({ ...links, patienceMs, graceMs, signal, health, log: say });
      }
      say("done");
      if (hasLeft) process.exitCode = drained;
    } catch (error) {
      if (log !== undefined) logger.info({ error: String(error) }, "ended by an error");
      throw error;
    } finally {
      close();
      // An IPC channel to `tandem train` would keep the process.
      if (process.connected) process.disconnect();
    }
  },
};
