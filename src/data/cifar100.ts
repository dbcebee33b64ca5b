/** CIFAR-100: a hundred fine classes in twenty coarse ones, 50,000 training and 10,000 test pictures. The fine label counts. */
import type { CifarFormat } from "./cifar.js";

/** As in the archive's `fine_label_names.txt`. */
const FINE_CLASSES =
  "apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle " +
  "caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant flatfish " +
  "forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree motorcycle " +
  "mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine " +
  "possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake spider squirrel streetcar " +
  "sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle wardrobe whale " +
  "willow_tree wolf woman worm";

export const CIFAR100: CifarFormat = {
  kind: "cifar100",
  title: "CIFAR-100",
  archiveFolder: "cifar-100-binary",
  // The coarse label, then the fine one.
  labelBytes: 2,
  files: { train: ["train.bin"], test: ["test.bin"] },
  recordsPerFile: { train: 50_000, test: 10_000 },
  classes: FINE_CLASSES.split(" "),
};
