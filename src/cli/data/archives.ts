/** Data sets that `tandem data fetch` knows, where their authors publish them. */

export interface Archive {
  /** a gzipped tar with one folder at its top */
  readonly url: string;
  /** hex; what the publisher gives, against damage rather than malice */
  readonly md5: string;
  /** what its folder is called on disk */
  readonly folder: string;
  /** the spec's scheme that reads it */
  readonly scheme: string;
  /** folders to give the name that Tandem looks for */
  readonly renames: Readonly<Record<string, string>>;
}

export const ARCHIVES = {
  /** md5: https://www.cs.toronto.edu/~kriz/cifar.html */
  cifar10: {
    url: "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
    md5: "c32a1d4ab5d03f1284b67883e8d87530",
    folder: "cifar-10-batches-bin",
    scheme: "cifar10",
    renames: {},
  },
  /** md5: the same page */
  cifar100: {
    url: "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
    md5: "03b5dce01913d631647c71ecec9e9cb8",
    folder: "cifar-100-binary",
    scheme: "cifar100",
    renames: {},
  },
  /** md5: torchvision.datasets.STL10 */
  stl10: {
    url: "http://ai.stanford.edu/~acoates/stl10/stl10_binary.tar.gz",
    md5: "91f7769df0f17e558f3565bffb0c7dfb",
    folder: "stl10_binary",
    scheme: "stl10",
    renames: {},
  },
  /** shorter side 320 pixels; md5: torchvision.datasets.Imagenette */
  imagenette: {
    url: "https://s3.amazonaws.com/fast-ai-imageclas/imagenette2-320.tgz",
    md5: "3df6f0d01a2c9592104656642f5e78a3",
    folder: "imagenette2-320",
    scheme: "folder",
    renames: { val: "test" },
  },
} as const satisfies Record<string, Archive>;

export type ArchiveName = keyof typeof ARCHIVES;
export const ARCHIVE_NAMES = Object.keys(ARCHIVES) as readonly ArchiveName[];
