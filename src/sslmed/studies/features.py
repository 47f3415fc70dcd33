"""The features of test images by pretrained encoders, in two dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from ..models import pooled_features
from . import manifest
from .cells import Cell
from .image_set import ImageSet
from .runs import write_npz

if TYPE_CHECKING:
    from .run import Run

UNTRAINED = "untrained"  # instead of a method, in the manifest


def write_features(run: Run, cells: Sequence[Cell]) -> None:
    """Write features.npz into each pretext's folder of the first seed, and of an untrained network beside them.

    The images are the test cases, which neither pretext nor fine-tuning has seen; the encoder is the pretext's, not yet
    fine-tuned. t-SNE (van der Maaten and Hinton, 2008) shows neighbourhoods only: sizes and distances of clusters mean
    nothing.
    """
    study, path, done = run.study, run.folder.path, set[str]()
    assert study.embedding is not None
    recorded = manifest.read(path)
    titles = {entry.folder: entry.title for entry in recorded.pretexts}
    for entry in recorded.of(cells):
        cell, domain = entry.cell, entry.domain
        name = entry.pretext or f"pretext/{UNTRAINED}-{domain}-s{cell.seed}"
        file = path / name / "features.npz"
        weights = None if entry.pretext is None else file.with_name("encoder.pt")
        missing = weights is not None and not weights.exists()
        if name in done or file.exists() or cell.seed != run.config["seeds"][0] or missing:
            continue
        done.add(name)
        torch.manual_seed(0)
        encoder = study.embedding(weights)
        images, test = run.images[domain], run.data[domain].splits[cell.seed].test
        title = titles.get(name, "")
        if entry.pretext is None:
            title = ", ".join(filter(None, ("untrained network", study.display.get(domain, domain))))
            manifest.record(path, pretexts=[manifest.PretextEntry(name, UNTRAINED, cell.seed, title)])
        for part in file.parent.glob(f".{file.name}.*.part"):  # left by a kill; no training comes here again
            part.unlink(missing_ok=True)
        write_npz(
            file,
            xy=tsne(features(encoder, images, test)),
            label=np.array([images.labels[i] if images.labels else "all" for i in test], dtype=str),
            title=np.array(title, dtype=str),
        )


@torch.no_grad()
def features(encoder: nn.Module, images: ImageSet, index: Sequence[int], *, batch_size: int = 64) -> np.ndarray:
    """Pooled features (N, F) float32 of some images, in evaluation mode."""
    encoder = encoder.to(memory_format=torch.channels_last).eval()
    parts = (images.images(index[k : k + batch_size]) for k in range(0, len(index), batch_size))
    return torch.cat([pooled_features(encoder, part) for part in parts]).numpy()


def tsne(rows: np.ndarray) -> np.ndarray:
    """Two dimensions (N, 2) float32 of rows (N, F), from a fixed seed."""
    from sklearn.manifold import TSNE

    if len(rows) == 1:
        return np.zeros((1, 2), np.float32)
    perplexity = min(30.0, (len(rows) - 1) / 3)
    return TSNE(perplexity=perplexity, init="pca", random_state=0).fit_transform(rows).astype(np.float32)
