/** Faults to plant into the compiled program, one at a time: the simulator must find each. */

export interface Mutation {
  /** what is wrong with the program that has it */
  readonly fault: string;
  /** compiled file, from the root of the build */
  readonly file: string;
  readonly find: string;
  readonly replace: string;
  /** where the search for a schedule that shows a rare fault begins; it goes on from there */
  readonly from?: number;
}

export const MUTATIONS: readonly Mutation[] = [
  {
    fault: "a message that is missing is not noticed",
    file: "src/protocol/numbering.js",
    find: 'return "gap"',
    replace: 'this.last = given; return "due"',
    from: 43,
  },
  {
    fault: "ranks of a lost worker are forgotten",
    file: "coordinator/work.js",
    find: "freed.push(unit);",
    replace: "",
  },
  {
    fault: "a rank that is late is given to everybody who is idle, again and again",
    file: "coordinator/work.js",
    find: "holders.set(unit, [first, worker]);",
    replace: "holders.set(unit, [...(holders.get(unit) ?? []), worker, first, worker]);",
  },
  {
    fault: "a step is applied when the results are in, whether or not the gradients are",
    file: "coordinator/run-transition.js",
    find: "phase.results.has(rank) && phase.gradients.has(rank)",
    replace: "phase.results.has(rank)",
  },
  {
    fault: "a step whose gradient is not finite is not skipped",
    file: "coordinator/run-transition.js",
    find: "const skip = phase.fault !== null;",
    replace: "const skip = false;",
  },
  {
    fault: "the last checkpoint is not tried again",
    file: "coordinator/run-transition.js",
    find: "retryAt: now + CHECKPOINT_RETRY_MS",
    replace: "retryAt: null",
    from: 142,
  },
  {
    fault: "a worker that joins amid an update gets no keys of that step",
    file: "coordinator/server.js",
    find: "this.sendKeys(step, skipped, late);",
    replace: "",
    from: 110,
  },
  {
    fault: "keys are queued although their step is skipped",
    file: "coordinator/server.js",
    find: "if (!skipped)\n",
    replace: "if (true)\n",
  },
  {
    fault: "a worker that joins after the exchange of embeddings gets none",
    file: "coordinator/server.js",
    find: 'if (kind === "exchange" || kind === "step")',
    replace: "if (false)",
    from: 280,
  },
  {
    fault: "gradients are computed with the embeddings of whatever step",
    file: "coordinator/server.js",
    find: 'step !== this.collection.step || phase.kind !== "exchange"',
    replace: 'phase.kind !== "exchange"',
    from: 3720,
  },
  {
    fault: "what a rank showed in an earlier round is taken for this one's",
    file: "coordinator/server.js",
    find: " || round !== phase.round)",
    replace: ")",
    from: 244,
  },
  {
    fault: "whatever weights a worker holds are taken for those of now",
    file: "coordinator/data-plane.js",
    find: "holding?.version === state.version && holding.sha256 === this.digestFor(peer)",
    replace: "holding !== null",
  },
  {
    fault: "a worker that has fallen behind is not sent the newest weights",
    file: "coordinator/data-plane.js",
    find: "if (version !== this.aggregator.state.version)",
    replace: "if (false)",
    from: 1356,
  },
  {
    fault: "weights are overwritten while they are being sent or stored",
    file: "coordinator/aggregator.js",
    find: "this.held.has(current.version) ? this.newState(version, updates)",
    replace: "false ? this.newState(version, updates)",
  },
  {
    fault: "an update counts as made when one aggregator has made it",
    file: "coordinator/aggregators.js",
    find: "if (applied?.size !== this.members.length)",
    replace: "if (false)",
  },
  {
    fault: "gradients count when one aggregator has them",
    file: "coordinator/aggregators.js",
    find: "by.every((own) => own.has(rank))",
    replace: "true",
  },
  {
    fault: "a worker computes as soon as one shard of a version is here",
    file: "worker/session.js",
    find: "if (this.data.some(({ arrived }) => arrived?.version !== newest))",
    replace: "if (false)",
  },
  {
    fault: "an aggregator that sent earlier weights than others is not asked for the newest",
    file: "worker/session.js",
    find: "if (arrived !== null && arrived.version < newest)",
    replace: "if (false)",
    from: 3078,
  },
  {
    fault: "gradients of any step are summed",
    file: "coordinator/aggregator.js",
    find: "step !== this.current.version || ",
    replace: "",
    from: 51,
  },
  {
    fault: "ranks of the step before are executed in the next",
    file: "worker/work-in-hand.js",
    find: 'if (step !== this.step)\n            this.open(step);\n        this.deal("ranks"',
    replace: 'if (this.step === -1)\n            this.open(step);\n        this.deal("ranks"',
  },
  {
    fault: "the sum of several devices stays with them",
    file: "worker/work-in-hand.js",
    find: "flushed && this.devices.length === 1",
    replace: "flushed",
  },
  {
    fault: "what was sent early of one rank counts as sent of the next",
    file: "worker/session.js",
    find: "this.sentEarly.clear();",
    replace: "",
  },
  {
    fault: "a shard that leaves early is that of whatever rank was computed before",
    file: "worker/session.js",
    find: "this.sendGradient(step, { level: 0, index: rank }, aggregator, parts);",
    replace: "this.sendGradient(step, { level: 0, index: rank - (rank % 2) }, aggregator, parts);",
  },
  {
    fault: "a worker computes with whatever weights it has",
    file: "worker/work-in-hand.js",
    find: "weights !== this.step || queue !== this.step",
    replace: "weights < 0 || queue !== this.step",
  },
  {
    fault: "a version counts as whole before all of its buckets are here",
    file: "worker/incoming-weights.js",
    find: "if (arriving.buckets.size < this.buckets.length)",
    replace: "if (false)",
  },
  {
    fault: "workers let the key encoder follow by another step's momentum",
    file: "coordinator/data-plane.js",
    find: "bucket, rates.keyMomentum)",
    replace: "bucket, 0.9)",
  },
  {
    fault: "a difference is taken from whatever version there are codes of",
    file: "coordinator/packed-weights.js",
    find: "base.version !== state.version - 1 || ",
    replace: "base.version < 0 || ",
  },
];
