/** How a linear probe is trained. Apart, so that the command line knows them without the engine. */
export const SOLVERS = ["lbfgs", "sgd"] as const;
export type Solver = (typeof SOLVERS)[number];
