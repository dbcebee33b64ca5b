/** Which page a run's method is on. */
import { moco } from "./moco.js";
import { mocoV3 } from "./moco-v3.js";
import type { Objective } from "./objective.js";
import { ownMethod } from "./own-method.js";
import { simClr } from "./simclr.js";
import { supCon, supConWithQueue } from "./supcon.js";
import type { MethodConfig } from "./try-method.js";

/** @throws UserError `METHOD_…` where the method is a file of the user's own, and does not serve */
export async function objectiveOf(config: MethodConfig): Promise<Objective> {
  const { method, supcon } = config;
  const { temperature } = config.moco;
  switch (method) {
    case "moco-v1":
    case "moco-v2":
      return moco(temperature);
    case "moco-v3":
      return mocoV3(temperature);
    case "simclr":
      return simClr(temperature);
    case "supcon":
      return supCon(temperature, supcon.form);
    case "supcon-queue":
      return supConWithQueue(temperature, supcon.form);
    case "own":
      return ownMethod(config.ownMethod, temperature);
  }
}
