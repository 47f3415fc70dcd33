"""What pretexts have learnt to see: the features of test images, drawn in two dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ..models import ResNetEncoder, load_encoder, pooled_features
from . import manifest
from .cells import SUPERVISED, Cell
from .runs import write_npz

if TYPE_CHECKING:
    from .experiment import Experiment


UNTRAINED = "untrained"  # in place of a method, in the manifest


def write_features(experiment: Experiment, cells: Sequence[Cell]) -> None:
    """Write features.npz into each pretext's folder of the first seed, and of an untrained network beside them.

    The images are the test cases, which neither pretext nor fine-tuning has seen; the encoder is the pretext's, not yet
    fine-tuned. t-SNE (van der Maaten and Hinton, 2008) shows neighbourhoods only: sizes and distances of clusters mean
    nothing.
    """
    done: set[str] = set()
    path = experiment.folder.path
    known = manifest.read(path)
    titles = {entry.folder: entry.title for entry in known.pretexts}
    for entry in known.of(cells):
        cell, domain = entry.cell, entry.domain
        name = entry.pretext or f"pretext/untrained-{domain}-s{cell.seed}"
        file = path / name / "features.npz"
        weights = file.with_name("encoder.pt")
        material = experiment.materials[domain]
        trained = cell.method == SUPERVISED or weights.exists()
        if name in done or file.exists() or cell.seed != experiment.config["seeds"][0] or not trained:
            continue
        done.add(name)
        torch.manual_seed(0)
        encoder = ResNetEncoder(experiment.preset.encoder, width=experiment.preset.width)
        if cell.method != SUPERVISED:
            load_encoder(encoder, weights)
        test = material.splits[cell.seed].test
        labels = material.small.labels or ["all"] * len(material.small)
        if entry.pretext is None:
            title = "untrained network" + (
                f", {experiment.paper.display.get(domain, domain)}" if domain else ""
            )
            manifest.record(path, pretexts=[manifest.PretextEntry(name, UNTRAINED, cell.seed, title)])
        else:
            title = titles[name]
        for part in file.parent.glob(f".{file.name}.*.part"):  # a kill's; no training comes here again
            part.unlink(missing_ok=True)
        write_npz(
            file,
            xy=tsne(features(encoder, material.small.images[test])),
            label=np.array([labels[i] for i in test], dtype=str),
            title=np.array(title, dtype=str),
        )


@torch.no_grad()
def features(encoder: ResNetEncoder, images: Tensor, *, batch_size: int = 64) -> np.ndarray:
    """Pooled features (N, F) float32 of images (N, 1, H, W), in evaluation mode."""
    encoder = encoder.to(memory_format=torch.channels_last).eval()
    return torch.cat([pooled_features(encoder, part) for part in images.split(batch_size)]).numpy()


def tsne(rows: np.ndarray) -> np.ndarray:
    """Two dimensions (N, 2) float32 of rows (N, F), from a fixed seed."""
    from sklearn.manifold import TSNE

    if len(rows) == 1:
        return np.zeros((1, 2), np.float32)
    perplexity = min(30.0, (len(rows) - 1) / 3)
    return TSNE(perplexity=perplexity, init="pca", random_state=0).fit_transform(rows).astype(np.float32)
