/** Images that cannot be decoded are named and skipped up to the limit, then the run is refused. */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import sharp from "sharp";
import { beforeAll, expect, it } from "vitest";
import { eventsOf, SMALL_RUN, tandem, temporaryFolder } from "./tandem.js";

const folder = temporaryFolder();
const photos = join(folder, "photos");
const run = (out: string, maxCorrupt: number) => [
  ...[
    "train",
    ...SMALL_RUN,
    "--set",
    `data.spec=folder:${photos}`,
    "--steps",
    "2",
    "--workers",
    "2",
    "--out",
    join(folder, out),
  ],
  ...["--set", `data.maxCorrupt=${maxCorrupt}`],
];

beforeAll(async () => {
  for (const label of ["light", "dark"]) {
    mkdirSync(join(photos, "train", label), { recursive: true });
    for (let number = 0; number < 32; number++) {
      const background = { r: label === "light" ? 200 : 40, g: 4 * number, b: 99 };
      const picture = sharp({ create: { width: 20, height: 24, channels: 3, background } });
      await picture.jpeg().toFile(join(photos, "train", label, `${number}.jpg`));
    }
  }
  writeFileSync(join(photos, "train/dark/0.jpg"), "no picture at all");
  writeFileSync(join(photos, "train/light/1.jpg"), Buffer.of(0xff, 0xd8, 0xff));
});

it("as many as data.maxCorrupt are skipped, each named once", { timeout: 60_000 }, async () => {
  const { code, stderr } = await tandem(run("tolerant", 2));
  expect(code, stderr).toBe(0);
  for (const name of ["train/dark/0.jpg", "train/light/1.jpg"]) {
    expect(stderr.split("\n").filter((line) => line.includes(`image ${name} cannot be decoded`))).toHaveLength(1);
  }
  expect(eventsOf(join(folder, "tolerant")).at(-1)).toMatchObject({ kind: "run-ended", outcome: "finished" });
});

it("one more than data.maxCorrupt refuses the run, by name", { timeout: 60_000 }, async () => {
  const { code, stderr } = await tandem(run("strict", 1));
  expect(code).toBe(2);
  expect(stderr).toMatch(
    /tandem: more than 1 images cannot be decoded \("train\/\w+\/\d\.jpg", "train\/\w+\/\d\.jpg"\)/,
  );
});
