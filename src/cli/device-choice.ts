/** `--device` and `--devices`. */
import type { DeviceChoice } from "../engine/environment.js";
import { UserError } from "../protocol/errors.js";
import { MOST_DEVICES } from "../protocol/wire.js";

/** One device, or several of one machine. */
export type Devices = readonly [DeviceChoice, ...DeviceChoice[]];

export const DEVICE_OPTIONS = {
  device: {
    type: "string",
    requiresArg: true,
    defaultDescription: "auto",
    describe: "Device of a worker: auto (a GPU if there is one), cpu, or gpu:N for one GPU",
  },
  devices: {
    type: "string",
    requiresArg: true,
    describe: "Several devices of this machine for one worker, which sums what they give: gpu:0,gpu:1",
  },
} as const;

/** @throws UserError `DEVICE_UNKNOWN` */
export function deviceChoice(text: string): DeviceChoice {
  if (text === "auto" || text === "cpu" || /^gpu:\d+$/.test(text)) return text as DeviceChoice;
  throw new UserError(
    "DEVICE_UNKNOWN",
    `--device ${text}: give auto, cpu, or gpu:N with the number of a GPU, e.g. gpu:0`,
  );
}

/**
 * @param device as `--device` names it; undefined: not given
 * @param list as `--devices` names them; undefined: not given
 * @throws UserError `DEVICE_UNKNOWN`, `DEVICES_INVALID`
 */
export function devicesOf(device: string | undefined, list: string | undefined): Devices {
  if (list === undefined) return [deviceChoice(device ?? "auto")];
  const refused = (reason: string) => new UserError("DEVICES_INVALID", `--devices ${list}: ${reason}`);
  if (device !== undefined) throw refused("--device names one device, --devices several: give one of the two");
  const names = list.split(",");
  const wrong = names.find((name) => name !== "cpu" && !/^gpu:\d+$/.test(name));
  if (wrong !== undefined)
    throw refused(`${wrong === "" ? "a name is empty" : `${wrong} is no device`}, give e.g. gpu:0,gpu:1 or cpu,cpu`);
  const twice = names.find((name, index) => name !== "cpu" && names.indexOf(name) !== index);
  if (twice !== undefined) throw refused(`${twice} is named twice: one device computes one rank at a time`);
  if (names.length > MOST_DEVICES) throw refused(`a worker has ${String(MOST_DEVICES)} devices at most`);
  return names as unknown as Devices;
}
