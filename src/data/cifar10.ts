/** CIFAR-10: ten classes, 50,000 training and 10,000 test pictures. */
import type { CifarFormat } from "./cifar.js";

export const CIFAR10: CifarFormat = {
  kind: "cifar10",
  title: "CIFAR-10",
  archiveFolder: "cifar-10-batches-bin",
  labelBytes: 1,
  files: { train: [1, 2, 3, 4, 5].map((number) => `data_batch_${number}.bin`), test: ["test_batch.bin"] },
  recordsPerFile: { train: 10_000, test: 10_000 },
  classes: ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"],
};
