"""The methods in PyTorch, one process, at Tandem's settings: what `methods.mjs` puts beside Tandem's accuracy.

usage: methods_peer.py --data DIR --method moco-v2|moco-v2-across-ranks|simclr|supcon [--epochs 20] [--ranks 4] [--batch 64] [--bf16] --out FILE.npz
       methods_peer.py --probe FILE.npz|DIR    (kNN and linear accuracy of features from either side; DIR is of `tandem embed`)

Batch norm sees W ranks of B samples apart, as under DDP; the loss and its gradient are of the global batch. Views are
torchvision's, image by image. FILE.npz holds the backbone's features: train, trainLabels, test, testLabels.
"""
import argparse, glob, json, math, os, time
import numpy as np, torch, torch.nn as nn, torch.nn.functional as F
from PIL import Image
from torchvision import transforms as T

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def load(path, split):
    images, labels = [], []
    for label, name in enumerate(sorted(os.listdir(f"{path}/{split}"))):
        for file in sorted(glob.glob(f"{path}/{split}/{name}/*.jpg")):
            images.append(Image.open(file).convert("RGB"))
            labels.append(label)
    return images, torch.tensor(labels)


def augmentation(method):
    strong = method == "simclr"
    jitter = T.ColorJitter(*(0.8, 0.8, 0.8, 0.2) if strong else (0.4, 0.4, 0.4, 0.1))
    return T.Compose([T.RandomResizedCrop(32, scale=(0.08 if strong else 0.2, 1)), T.RandomHorizontalFlip(),
                      T.RandomApply([jitter], 0.8), T.RandomGrayscale(0.2), T.ToTensor(), T.Normalize(MEAN, STD)])


class Block(nn.Module):
    def __init__(self, i, o, stride):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(i, o, 3, stride, 1, bias=False), nn.BatchNorm2d(o)
        self.conv2, self.bn2 = nn.Conv2d(o, o, 3, 1, 1, bias=False), nn.BatchNorm2d(o)
        self.shortcut = nn.Sequential(nn.Conv2d(i, o, 1, stride, bias=False), nn.BatchNorm2d(o)) if stride != 1 or i != o else nn.Identity()

    def forward(self, x):
        return F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))) + self.shortcut(x))


def encoder():
    """Tandem's resnet-tiny with the two-layer head."""
    backbone = nn.Sequential(nn.Conv2d(3, 32, 3, 1, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU(), Block(32, 32, 1), Block(32, 64, 2),
                             Block(64, 128, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    for module in backbone.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return nn.ModuleDict(dict(backbone=backbone, head=nn.Sequential(nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 128)))).to(memory_format=torch.channels_last)


def embed(model, x, ranks):
    parts = [model["head"](model["backbone"](part)) for part in x.chunk(ranks)]
    return F.normalize(torch.cat(parts).float(), dim=1)


def in_batch_loss(z, classes, tau):
    """NT-Xent where every pair has a class of its own, L_out of SupCon otherwise."""
    logits = (z @ z.T / tau).masked_fill(torch.eye(len(z), dtype=torch.bool), -1e9)
    positive = ((classes[:, None] == classes[None, :]) & ~torch.eye(len(z), dtype=torch.bool)).float()
    log_share = logits - logits.logsumexp(1, keepdim=True)
    return -((log_share * positive).sum(1) / positive.sum(1)).mean()


def train(a):
    torch.set_num_threads(a.threads)
    torch.manual_seed(a.seed)
    (x, y), test = load(a.data, "train"), load(a.data, "test")
    view = augmentation(a.method)
    queue_based = a.method.startswith("moco")
    query = encoder()
    key = encoder()
    key.load_state_dict(query.state_dict())
    decayed = [p for p in query.parameters() if p.ndim > 1]
    others = [p for p in query.parameters() if p.ndim <= 1]
    optimizer = torch.optim.SGD([dict(params=decayed, weight_decay=5e-4), dict(params=others, weight_decay=0)], lr=a.lr, momentum=0.9)
    queue, place = F.normalize(torch.randn(4096, 128), dim=1), 0
    size = a.ranks * a.batch
    steps = len(x) // size
    for epoch in range(a.epochs):
        order, began, losses = torch.randperm(len(x)), time.time(), []
        for step in range(steps):
            for group in optimizer.param_groups:
                group["lr"] = a.lr * 0.5 * (1 + math.cos(math.pi * (epoch * steps + step) / (a.epochs * steps)))
            batch = order[step * size : (step + 1) * size]
            views = [torch.stack([view(x[i]) for i in batch]).contiguous(memory_format=torch.channels_last) for _ in range(2)]
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=a.bf16):
                if queue_based:
                    with torch.no_grad():
                        shuffle = torch.randperm(size) if a.method.endswith("across-ranks") else torch.arange(size)
                        shuffled = embed(key, views[1][shuffle], a.ranks)
                        k = torch.empty_like(shuffled)
                        k[shuffle] = shuffled
                    q = embed(query, views[0], a.ranks)
                else:
                    # A rank's two views pass together.
                    both = torch.stack([v.view(a.ranks, a.batch, 3, 32, 32) for v in views], 1).flatten(0, 2).contiguous(memory_format=torch.channels_last)
                    z = embed(query, both, a.ranks)
            if queue_based:
                logits = torch.cat([(q * k).sum(1, keepdim=True), q @ queue.T], 1) / a.tau
                loss = F.cross_entropy(logits, torch.zeros(size, dtype=torch.long))
            else:
                ids = y[batch] if a.method == "supcon" else torch.arange(size)
                loss = in_batch_loss(z, ids.view(a.ranks, 1, a.batch).expand(-1, 2, -1).flatten(), a.tau)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
            if queue_based:
                with torch.no_grad():
                    for pq, pk in zip(query.parameters(), key.parameters()):
                        pk.mul_(0.99).add_(pq, alpha=0.01)
                queue[(torch.arange(size) + place) % 4096] = k
                place = (place + size) % 4096
        print(json.dumps(dict(epoch=epoch + 1, loss=float(np.mean(losses)), seconds=round(time.time() - began, 1))), flush=True)
    backbone = query["backbone"].eval()
    plain = T.Compose([T.ToTensor(), T.Normalize(MEAN, STD)])
    with torch.no_grad():
        features = lambda images: torch.cat([backbone(torch.stack([plain(image) for image in images[at : at + 500]])) for at in range(0, len(images), 500)]).numpy()
        np.savez(a.out, train=features(x), trainLabels=y.numpy(), test=features(test[0]), testLabels=test[1].numpy())


def probe(path):
    if os.path.isdir(path):
        stored = {f"{s}{kind}": np.load(f"{path}/{s}{end}.npy") for s in ("train", "test") for kind, end in (("", ""), ("Labels", ".labels"))}
    else:
        stored = np.load(path)
    (a, ya), (b, yb) = ((torch.from_numpy(stored[s]).float(), torch.from_numpy(stored[f"{s}Labels"]).long()) for s in ("train", "test"))
    unit = lambda rows: F.normalize(rows, dim=1)
    similarity, index = (unit(b) @ unit(a).T).topk(200, 1)
    votes = torch.zeros(len(b), 10).scatter_add_(1, ya[index], (similarity / 0.1).exp())
    knn = (votes.argmax(1) == yb).float().mean().item()
    # Multinomial logistic regression on standardised features, L-BFGS to convergence.
    mean, deviation = a.mean(0), a.std(0) + 1e-6
    a, b = (a - mean) / deviation, (b - mean) / deviation
    linear = nn.Linear(a.shape[1], 10)
    nn.init.zeros_(linear.weight), nn.init.zeros_(linear.bias)
    optimizer = torch.optim.LBFGS(linear.parameters(), max_iter=300, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        loss = F.cross_entropy(linear(a), ya) + 1e-4 * linear.weight.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    accuracy = (linear(b).argmax(1) == yb).float().mean().item()
    print(json.dumps(dict(knn=round(100 * knn, 2), linear=round(100 * accuracy, 2))))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    add = parser.add_argument
    add("--probe"), add("--data"), add("--out"), add("--method", default="moco-v2")
    add("--epochs", type=int, default=20), add("--ranks", type=int, default=4), add("--batch", type=int, default=64), add("--threads", type=int, default=2)
    add("--tau", type=float, default=0.1), add("--lr", type=float, default=0.06), add("--seed", type=int, default=0), add("--bf16", action="store_true")
    arguments = parser.parse_args()
    probe(arguments.probe) if arguments.probe else train(arguments)
