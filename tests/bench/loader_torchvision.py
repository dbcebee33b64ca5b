"""torchvision and Pillow's way from image files to batches: decode, random-resized-crop to 224, in processes of a DataLoader.

usage: python tests/bench/loader_torchvision.py --data DIR [--images 1000] [--batch 32] [--workers 2]
The last line is JSON: imagesPerSecond.
"""

import argparse
import json
import pathlib
import time

import torch
from PIL import Image
from torchvision import transforms

parser = argparse.ArgumentParser()
parser.add_argument("--data", required=True, type=pathlib.Path)
parser.add_argument("--images", type=int, default=1000)
parser.add_argument("--batch", type=int, default=32)
parser.add_argument("--workers", type=int, default=2)
given = parser.parse_args()

names = sorted(path for path in given.data.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png", ".webp"))
# Bytes, not floats, as Tandem hands them on; the rest of a recipe is left out on both sides.
crop = transforms.Compose([transforms.RandomResizedCrop(224, scale=(0.2, 1.0)), transforms.PILToTensor()])
batches = -(-given.images // given.batch)


class Images(torch.utils.data.Dataset):
    def __len__(self):
        return (batches + 1) * given.batch

    def __getitem__(self, index):
        with Image.open(names[index % len(names)]) as image:
            return crop(image.convert("RGB"))


loader = iter(torch.utils.data.DataLoader(Images(), batch_size=given.batch, num_workers=given.workers))
next(loader)
start = time.perf_counter()
count = sum(len(batch) for batch in loader)
print(json.dumps({"imagesPerSecond": count / (time.perf_counter() - start)}))
