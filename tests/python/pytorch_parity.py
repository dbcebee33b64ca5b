"""Exports a run's encoder, loads it in torchvision or timm with strict=True, and compares the features of both on the same
pictures; and back: begins a run with their weights, plain and as facebookresearch/moco names them, and finds them in its export.

usage: python tests/python/pytorch_parity.py RUN [RUN ...]     (needs torch, torchvision, timm, safetensors, Pillow)

RUN holds a ResNet-18, 34, 50 or 101 with the ImageNet stem, or a ViT; the program must be built (npm run build).
"""
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import timm
import torch
import torchvision
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

TANDEM = ["node", str(pathlib.Path(__file__).parents[2] / "bin" / "tandem.js")]
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
TOLERANCE = 1e-4


def tandem(*arguments):
    subprocess.run([*TANDEM, *map(str, arguments)], check=True)


def make_pictures(folder, side, count=12):
    """PNG, at the size to which the run decodes: both sides see the same pixels."""
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (count, side, side, 3), dtype=np.uint8)
    for index, pixels in enumerate(pictures):
        place = folder / "train" / f"class{index % 2}"
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(place / f"{index:02}.png")


def model_of(architecture, side, patch):
    """The backbone: the head stays behind."""
    if architecture.startswith("vit-"):
        name = architecture.replace("-", "_") + "_patch16_224"
        return timm.create_model(name, pretrained=False, img_size=side, patch_size=patch, num_classes=0)
    model = getattr(torchvision.models, architecture)(weights=None)
    model.fc = torch.nn.Identity()
    return model


def exported_model(file):
    with safe_open(file, "pt") as opened:
        metadata = opened.metadata()
    config = json.loads(metadata["config"])
    model = model_of(metadata["architecture"], config["data"]["imageSize"], config["model"]["patchSize"])
    model.load_state_dict(load_file(file), strict=True)
    return model.eval(), config


def features_of(model, files):
    pixels = np.stack([np.asarray(Image.open(file)) for file in files]).astype(np.float32) / 255
    images = torch.from_numpy((pixels - MEAN) / DEVIATION).float().permute(0, 3, 1, 2)
    with torch.no_grad():
        return model(images).numpy()


def compare(run):
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        for side in ("query", "key"):
            weights, output = folder / f"{side}.safetensors", folder / f"{side}.npy"
            tandem("export", "--checkpoint", run, "--out", weights, "--encoder", side)
            model, config = exported_model(weights)
            assert config["model"]["stem"] == "imagenet" or "vit" in config["model"]["encoder"], "torchvision's ResNets have the ImageNet stem"
            assert config["data"]["decodeSize"] == config["data"]["imageSize"], "choose a run without resizing"
            pictures = folder / "pictures"
            make_pictures(pictures, config["data"]["imageSize"])
            tandem("embed", "--checkpoint", run, "--data", f"folder:{pictures}", "--out", output, "--encoder", side)
            names = [json.loads(line)["name"] for line in output.with_suffix(".jsonl").read_text().splitlines()]
            expected = features_of(model, [pictures / name for name in names])
            given = np.load(output)
            error = np.abs(given - expected).max() / np.abs(expected).max()
            print(f"{run}, {side}: features {given.shape}, greatest difference {error:.1e} of the greatest feature")
            assert given.shape == expected.shape and error < TOLERANCE


def and_back(architecture, prefix):
    """A learning rate that rounds away: after a step the weights are still those that the run began with."""
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        torch.manual_seed(1)
        model = model_of(architecture, 32, 8)
        given = {prefix + key: value.contiguous() for key, value in model.state_dict().items()}
        if prefix:
            given |= {"module.queue": torch.zeros(128, 8), "module.queue_ptr": torch.zeros(1, dtype=torch.long)}
        save_file(given, folder / "given.safetensors")
        flags = "--workers 1 --eager --data synthetic:size=32,train=16,test=4 --world-size 1 --batch 8 --steps 1".split()
        sets = ["model.stem=imagenet", "model.patchSize=8", "data.imageSize=32", "data.decodeSize=32", "moco.queueSize=16"]
        sets += ["evaluation.everyEpochs=0", "checkpoint.everySteps=0", "optimizer.learningRate=1e-37", "optimizer.weightDecay=0"]
        sets += ["moco.keyMomentum=1"]
        flags += [part for value in sets for part in ("--set", value)]
        tandem("train", *flags, "--encoder", architecture, "--init", folder / "given.safetensors", "--out", folder / "run")
        for side in ("query", "key"):
            tandem("export", "--checkpoint", folder / "run", "--out", folder / "back.safetensors", "--encoder", side)
            back = load_file(folder / "back.safetensors")
            names = [key for key, _ in model.named_parameters()]
            # What was 0, such as the shifts of batch norm, is as far from it as the learning rate.
            assert all(torch.allclose(back[key], model.state_dict()[key], rtol=0, atol=1e-30) for key in names)
            print(f"{architecture}, {side}: {len(names)} tensors {f'behind {prefix} ' if prefix else ''}came back")


if __name__ == "__main__":
    for path in sys.argv[1:]:
        compare(path)
    for architecture in ("resnet18", "resnet50", "vit-small"):
        for prefix in ("", "module.encoder_q."):
            and_back(architecture, prefix)
