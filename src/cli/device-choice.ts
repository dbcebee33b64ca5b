/** `--device`. */
import type { DeviceChoice } from "../engine/environment.js";
import { UserError } from "../protocol/errors.js";

/** @throws UserError `DEVICE_UNKNOWN` */
export function deviceChoice(text: string): DeviceChoice {
  if (text === "auto" || text === "cpu" || /^gpu:\d+$/.test(text)) return text as DeviceChoice;
  throw new UserError(
    "DEVICE_UNKNOWN",
    `--device ${text}: give auto, cpu, or gpu:N with the number of a GPU, e.g. gpu:0`,
  );
}
