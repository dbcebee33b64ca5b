/** Several observers of one run. */
import type { RunObserver } from "./server.js";

/** @returns one that tells each of them what it cares for */
export function toAll(...all: readonly Partial<RunObserver>[]): RunObserver {
  const tell =
    <Name extends keyof RunObserver>(name: Name) =>
    (...args: Parameters<RunObserver[Name]>): void => {
      for (const observer of all)
        (observer[name] as ((...args: unknown[]) => void) | undefined)?.call(observer, ...args);
    };
  return {
    stepDone: tell("stepDone"),
    stepSkipped: tell("stepSkipped"),
    evaluated: tell("evaluated"),
    pictured: tell("pictured"),
    notPictured: tell("notPictured"),
    workerJoined: tell("workerJoined"),
    workerLeft: tell("workerLeft"),
    straggler: tell("straggler"),
    notReproducible: tell("notReproducible"),
    explained: tell("explained"),
    dropped: tell("dropped"),
    corrupt: tell("corrupt"),
    checkpointed: tell("checkpointed"),
    wentBack: tell("wentBack"),
    happened: tell("happened"),
  };
}
