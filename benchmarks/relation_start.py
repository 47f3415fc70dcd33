"""Why the relation loss stays near 0.5 from a random start, and what lets it fall.

    python benchmarks/relation_start.py [--busi FOLDER] [--seeds 0 1] [--only NAME ...]

Each run trains a small network on phantoms, or on images of BUSI, with one change of the settings. The file records, at
the start and at the end: the terms of the loss; the norms of their gradients; the scores of positives and of negatives,
and how often a positive scores higher than a negative (AUC), for the relation network and for the plain cosine; and how
many held-out images the encoder recognises in another view. The views are the plain
ones, whole image and jigsaw of 3 x 3 patches. Runs that benchmarks/results/relation_start.json holds are not repeated.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from measure import RESULTS, report, write
from sslmed.augment import MultiView, views
from sslmed.data import BUSI, Phantom
from sslmed.methods import PIRL, RelationContrast
from sslmed.metrics import effective_rank
from sslmed.models import ResNetEncoder, pooled_features
from sslmed.studies.modes import evaluation_mode
from sslmed.studies.monitor import found_views
from sslmed.studies.optimisers import Optimiser

GRID, WIDTH, BATCH, HELD = (3, 3), 8, 16, 64
SIZES = {"phantom": 48, "busi": 64}
SIDES = ("positive", "negative")
COUNTS = {"phantom": 256, "busi": 200}


@dataclass(frozen=True)
class Settings:
    """One run; the defaults are the `small` preset's, without the perceptual term."""

    loss: str = "rcl"
    lam: float | None = None  # weight of the relation loss against the perceptual one; None leaves that out
    optimiser: str = "sgd"
    lr: float = 0.01
    relation_factor: float = 1.0  # of the relation network's learning rate
    input_scale: float = 128.0
    momentum: float = 0.5  # of the bank
    negatives: int = 4096
    batch_norm: bool = False
    similarity_start: bool = False  # weights of the relation network start positive: its score rises with each product
    steps: int = 150


NORMED = Settings(batch_norm=True, lr=0.05)
SIMILAR = replace(NORMED, similarity_start=True)
RUNS = {
    "PIRL (NCE), lr 0.03": Settings(loss="nce", lr=0.03),
    "small preset: perceptual term, lam 0.1": Settings(lam=0.1),
    "no perceptual term": Settings(),
    "batch norm, lr 0.05": NORMED,
    "batch norm, lr 0.05, lam 0.9": replace(NORMED, lam=0.9),
    "batch norm, lr 0.05, lam 0.1": replace(NORMED, lam=0.1),
    "batch norm": replace(NORMED, lr=0.01),
    "lr 0.05": Settings(lr=0.05),
    "lr 0.1": Settings(lr=0.1),
    "batch norm, similarity start, lr 0.05": SIMILAR,
    "batch norm, similarity start, lr 0.05, lam 0.9": replace(SIMILAR, lam=0.9),
    "batch norm, similarity start, lr 0.05, lam 0.1": replace(SIMILAR, lam=0.1),
    "similarity start": replace(SIMILAR, batch_norm=False),
    "input_scale 1": Settings(input_scale=1.0),
    "Adam 1e-3": Settings(optimiser="adam", lr=1e-3),
    "relation network's lr 0.1": Settings(relation_factor=10.0),
    "15 negatives": Settings(negatives=15),
    "bank momentum 0.95": Settings(momentum=0.95),
    "batch norm, lr 0.05, 600 steps": replace(NORMED, steps=600),
    "no perceptual term, 600 steps": Settings(steps=600),
    "lr 0.05, 600 steps": Settings(lr=0.05, steps=600),
}


def load(data: str, folder: Path | None) -> Tensor:
    """Images (N, 1, H, W), the same at every call."""
    size, count = SIZES[data], COUNTS[data]
    if data == "phantom":
        images: Any = Phantom(count, size=size, seed=0)
        chosen = range(count)
    else:
        images = BUSI(folder, size=size, allow_partial=True)
        chosen = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))[:count].tolist()
    return torch.stack([images[i]["image"] for i in chosen])


def build(s: Settings, count: int, size: int) -> PIRL:
    """The method of a run."""
    encoder = ResNetEncoder("resnet18", width=WIDTH)
    shared: dict[str, Any] = {
        "views": views.pirl(size // GRID[0] * GRID[0], grid=GRID, frequency=False, cross_patch=False),
        "grid": GRID,
        "momentum": s.momentum,
        "most_negatives": s.negatives,
        "batch_norm": s.batch_norm,
    }
    if s.loss == "nce":
        return PIRL(encoder, count, **shared)
    method = RelationContrast(
        encoder,
        count,
        input_scale=s.input_scale,
        perceptual=s.lam is not None,
        lam=1.0 if s.lam is None else s.lam,
        **shared,
    )
    if s.similarity_start:
        head = method.contrast.head
        with torch.no_grad():
            head.hidden.weight.abs_()
            head.score.weight.abs_()
    return method


def recognised(encoder: nn.Module, images: Tensor, pair: MultiView) -> dict[str, float]:
    """Shares of held-out images whose other view is the nearest, and the effective rank of their features.

    "as trained": with the batch norms' running statistics, which mix whole images and patches. The others: with the
    statistics of these images, which a network has that is trained further.
    """

    def first_views(x: Tensor) -> tuple[Tensor, Tensor]:
        return pair(x)[0], pair(x)[0]

    now = copy.deepcopy(encoder)
    for norm in now.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.track_running_stats, norm.running_mean, norm.running_var = False, None, None
    return {
        "jigsaw, as trained": share(encoder, images, pair),
        "jigsaw": share(now, images, pair),
        "two whole views": share(now, images, first_views),
        "effective rank": float(effective_rank(nn.functional.normalize(embedded(now, images), dim=1))),
    }


@torch.no_grad()
def embedded(encoder: nn.Module, images: Tensor) -> Tensor:
    """Features (N, F) in evaluation mode, of all images as one batch."""
    with evaluation_mode(encoder):
        return pooled_features(encoder, images)


def share(encoder: nn.Module, images: Tensor, pair: Any) -> float:
    """Share of the images whose other view is the nearest of all images' views."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        first, second = pair(images)
    views_ = torch.stack([embedded(encoder, first), embedded(encoder, second)], dim=1)
    return float(found_views(views_).float().mean())


def norm_of_gradient(term: Tensor, parameters: list[nn.Parameter]) -> float:
    gradients = torch.autograd.grad(term, parameters, retain_graph=True, allow_unused=True)
    return float(torch.stack([g.square().sum() for g in gradients if g is not None]).sum().sqrt())


def auc(positive: Tensor, negatives: Tensor) -> float:
    """How often a positive scores higher than a negative of the same image."""
    return float((positive[:, None] > negatives).float().mean())


class Watch:
    """What goes into the losses of a step, and comes out."""

    def __init__(self, method: PIRL) -> None:
        self.method = method
        self.contrasts: list[tuple[tuple[Tensor, ...], Tensor]] = []
        self.perceptual: list[Tensor] = []
        method.contrast.register_forward_hook(lambda _, inputs, out: self.contrasts.append((inputs[:3], out)))
        if method.perceptual is not None:
            method.perceptual.register_forward_hook(lambda _, inputs, out: self.perceptual.append(out))

    def clear(self) -> None:
        """Forget the last step."""
        self.contrasts.clear()
        self.perceptual.clear()

    def measured(self) -> dict[str, float]:
        """Scores and gradients of the last step, before its backward pass."""
        encoder, relation = list(self.method.encoder.parameters()), list(self.method.contrast.parameters())
        row = {}
        for level, (inputs, out) in zip(("image", "patch"), self.contrasts, strict=True):
            anchor, positive, negatives = (x.detach() for x in inputs)
            cosines = (anchor * positive).sum(1), (anchor[:, None] * negatives).sum(2)
            row |= {f"{level} cosine {k}": float(v.mean()) for k, v in zip(SIDES, cosines, strict=True)}
            row[f"{level} AUC of the cosine"] = auc(*cosines)
            row[f"{level} gradient, encoder"] = norm_of_gradient(out, encoder)
            if relation:
                with torch.no_grad():
                    scores = [
                        self.method.contrast.head(*pair) for pair in ((anchor, positive), (anchor[:, None], negatives))
                    ]
                row |= {f"{level} score {k}": float(v.mean()) for k, v in zip(SIDES, scores, strict=True)}
                row[f"{level} AUC of the score"] = auc(*scores)
                row[f"{level} gradient, relation network"] = norm_of_gradient(out, relation)
        if self.perceptual:
            row["perceptual gradient, encoder"] = norm_of_gradient(self.perceptual[0], encoder)
        return row


def run(s: Settings, images: Tensor, seed: int) -> dict[str, Any]:
    """Train, and measure at the start, after 10 and 50 steps and at the end."""
    began = time.process_time()
    train, held = images[:-HELD], images[-HELD:]
    torch.manual_seed(seed)
    method = build(s, len(train), images.shape[-1])
    watch, before = Watch(method), recognised(method.encoder, held, method.views)
    relation = {id(p) for p in method.contrast.parameters()}
    parts = [[p for p in method.parameters() if (id(p) in relation) is inside] for inside in (False, True)]
    groups = [{"params": parts[0]}, {"params": parts[1], "lr_factor": s.relation_factor}]
    decay = 1e-4 if s.optimiser == "sgd" else 0.0
    optimizer, _ = Optimiser(s.optimiser, s.lr, weight_decay=decay).build(groups, epochs=1)
    method.start([(train[i], i) for i in torch.arange(len(train)).split(50)])
    curve, order = [], torch.empty(0, dtype=torch.long)
    for step in range(s.steps + 1):
        if len(order) < BATCH:
            order = torch.randperm(len(train))
        index, order = order[:BATCH], order[BATCH:]
        watch.clear()
        result = method(train[index], index)
        if step in (0, 10, 50, s.steps):
            curve.append({"step": step} | {k: float(v) for k, v in result.terms.items()} | watch.measured())
        optimizer.zero_grad()
        result.loss.backward()
        optimizer.step()
    after = recognised(method.encoder, held, method.views)
    seconds = time.process_time() - began
    return {"settings": asdict(s), "before": before, "after": after, "curve": curve, "cpu_seconds": seconds}


def main() -> None:
    """Do the runs that are missing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--busi", type=Path, help="learn from images of BUSI instead of phantoms")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--only", nargs="+", choices=list(RUNS), default=list(RUNS), metavar="NAME")
    args = parser.parse_args()
    torch.set_num_threads(1)
    data = "busi" if args.busi else "phantom"
    file = RESULTS / "relation_start.json"
    content = json.loads(file.read_text()) if file.exists() else report("cpu", 1, 1)
    images = load(data, args.busi)
    for seed in args.seeds:
        for name in args.only:
            job = f"{data}, seed {seed}: {name}"
            if job not in content["jobs"]:
                row = content["jobs"][job] = run(RUNS[name], images, seed)
                last = row["curve"][-1]
                print(job, {k: round(v, 3) for k, v in last.items()}, row["before"], row["after"], flush=True)
                write("relation_start", content)


if __name__ == "__main__":
    main()
