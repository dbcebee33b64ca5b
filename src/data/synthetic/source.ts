/** The synthetic set as a data set: each sample is drawn when it is read. */
import { createHash } from "node:crypto";
import { Purpose, Stream } from "../../protocol/philox.js";
import type { ImageDataset, ImageSource, Split } from "../dataset.js";
import { resizeSquare } from "../decode.js";
import type { SyntheticSpec } from "../spec.js";
import { className, syntheticClass } from "./classes.js";
import { renderPicture } from "./render.js";
import { drawScene } from "./scene.js";

/** Version of the drawings, part of the manifest hash: raise it with every change that moves a pixel. */
const DRAWING_VERSION = 1;

/** Plays the epoch's part in the address of a sample's draws. */
const SPLIT_NUMBER: Readonly<Record<Split, number>> = { train: 0, test: 1 };

/** @param decodeSize samples are drawn at `spec.size`, then scaled to this side */
export function openSynthetic(spec: SyntheticSpec, decodeSize: number): ImageDataset {
  const { classes, size, train, test, seed } = spec;
  const parameters = JSON.stringify(["tandem synthetic", DRAWING_VERSION, classes, size, train, test, seed]);
  return {
    modality: "image",
    classes: Array.from({ length: classes }, (_, label) => className(syntheticClass(label))),
    decodeSize,
    splits: {
      train: new SyntheticSource(spec, "train", decodeSize),
      test: new SyntheticSource(spec, "test", decodeSize),
    },
    manifestHash: createHash("sha256").update(parameters).digest("hex"),
  };
}

class SyntheticSource implements ImageSource {
  readonly length: number;
  /** classes in turn, so that every stretch of the set is balanced */
  readonly labels: Int32Array;

  constructor(
    private readonly spec: SyntheticSpec,
    private readonly split: Split,
    private readonly decodeSize: number,
  ) {
    this.length = spec[split];
    this.labels = Int32Array.from({ length: this.length }, (_, index) => index % spec.classes);
  }

  nameOf(index: number): string {
    return `synthetic ${this.split} ${index}`;
  }

  async read(index: number, target: Uint8Array, offset: number): Promise<void> {
    const { size, seed } = this.spec;
    const stream = new Stream(seed, {
      purpose: Purpose.syntheticImage,
      epoch: SPLIT_NUMBER[this.split],
      sample: index,
    });
    const scene = drawScene(stream);
    const kind = syntheticClass(this.labels[index]);
    if (size === this.decodeSize) {
      renderPicture(scene, kind, size, target, offset);
      return;
    }
    const pixels = new Uint8Array(size * size * 3);
    renderPicture(scene, kind, size, pixels, 0);
    target.set(await resizeSquare(pixels, size, this.decodeSize), offset);
  }
}
