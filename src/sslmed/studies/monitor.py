"""Is it learning? Measures an encoder before, during and after its pretext, for at most 3 % of the training time.

The start and the end are always measured; in between, an epoch is measured if the time allows it. Only which epochs
have values depends on the clock: the values depend on the weights alone, and the training on none of this.

The start is measured twice, with its own batch statistics and with those of the measured images, and the better one
counts: every training adapts these statistics to its images, and this alone shall not look like learning.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .. import metrics
from ..models import pooled_features
from .learned import compared, verdict
from .modes import batch_statistics, evaluation_mode, running_statistics
from .processes import rank
from .results import arrays, columns, csv_rows
from .runs import write_csv, write_npz
from .sample import Sample

SHARE = 0.03  # of the training time
VIEWS = 4  # of an image; a multiple of 2
BATCH = 64  # images of a forward pass
SHOWN, NEIGHBOURS = 5, 3  # images of the picture, and neighbours of each
ROWS, ARRAYS = "monitor.csv", "monitor.npz"


class Monitor:
    """Measures an encoder while it learns, and keeps the values in monitor.csv.

    Args:
        encoder: the network, which is trained elsewhere; its features are as `pooled_features` takes them.
        sample: what to measure it on.
        folder: for monitor.csv, a row for each measurement, and monitor.npz, what start and end are compared by.
        clock: the time in seconds.
    """

    def __init__(
        self, encoder: nn.Module, sample: Sample, folder: Path, *, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self.encoder: nn.Module = encoder
        self.sample: Sample = sample
        self.folder: Path = folder
        self._clock = clock
        self.rows: list[dict[str, float]] = [
            {name: float(value) for name, value in row.items()} for row in csv_rows(folder / ROWS)
        ]
        self._trained = 0.0  # seconds
        self._since: float | None = None

    def after(self, epochs: int, *, last: bool) -> dict[str, float] | None:
        """Measure the encoder after so many epochs of training, if it is due.

        Call it before the first epoch, or where a training is resumed, and after each epoch.

        Returns:
            The values, or None where nothing was measured.
        """
        if rank() > 0:
            return None
        now = self._clock()
        if self._since is None:  # values of epochs that a killed run did not keep are measured again
            self.rows = [row for row in self.rows if row["epoch"] <= epochs]
            self._trained = self.rows[-1]["training_seconds"] if self.rows else 0.0
        else:
            self._trained += now - self._since
        if self._due(epochs, last):
            self._measure_at(epochs, last)
            self._since = self._clock()
            row = self.rows[-1]
            row["seconds"] = self._since - now
            write_csv(self.folder / ROWS, self.rows, columns=list(row))
            return {name: value for name, value in row.items() if name not in {"epoch", "seconds", "training_seconds"}}
        self._since = now
        return None

    def _due(self, epochs: int, last: bool) -> bool:
        known = {row["epoch"] for row in self.rows}
        if last:
            return epochs not in known or "end_matched" not in arrays(self.folder / ARRAYS)
        if epochs in known:
            return False
        if epochs == 0:
            return True
        seconds = [row["seconds"] for row in self.rows]
        # This measurement and the last one must fit as well.
        return sum(seconds) + 2 * min(seconds, default=0.0) <= SHARE * self._trained

    def _measure_at(self, epochs: int, last: bool) -> None:
        values, kept = measure(self.encoder, self.sample)
        if epochs == 0 and running_statistics(self.encoder):
            with adapted(self.encoder, self.sample):
                others = measure(self.encoder, self.sample)
            values, kept = max(
                (values, kept), others, key=lambda found: found[0].get("knn_accuracy", found[0]["matched"])
            )
        self.rows = [row for row in self.rows if row["epoch"] != epochs]
        self.rows.append({"epoch": epochs, **values, "training_seconds": self._trained, "seconds": 0.0})
        if epochs == 0 or last:
            part = "end" if last else "start"
            file = self.folder / ARRAYS
            write_npz(file, **(arrays(file) | {f"{part}_{name}": value for name, value in kept.items()}))


def adapted(encoder: nn.Module, sample: Sample) -> AbstractContextManager[None]:
    """The encoder with batch statistics of the sample's images, for a while."""

    def run(images: Tensor) -> Tensor:
        return pooled_features(encoder, images.to(next(encoder.parameters()).device))

    return batch_statistics(encoder, run, sample.images.tensor_split(-(-len(sample) // BATCH)))


def measure(encoder: nn.Module, sample: Sample) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """Measure an encoder on a sample; torch's random state and the modes of the encoder's parts stay as they are.

    Returns:
        Scalars by name, and by name what start and end are compared by: whether each image is classified and found,
        and pictures of the nearest neighbours.
    """
    device = next(encoder.parameters()).device
    with evaluation_mode(encoder), torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(0)
        batches = (images.to(device) for images in sample.images.split(BATCH))
        parts, seen = [pooled_features(encoder, images).float() for images in batches], []
        for images in sample.images[: sample.viewed].to(device).split(BATCH):
            views = [view for _ in range(VIEWS // 2) for view in sample.pair(images)]
            seen.append(torch.stack([pooled_features(encoder, view).float() for view in views], dim=1))
    features, of_views = torch.cat(parts), torch.cat(seen)
    values: dict[str, Tensor] = {}
    kept: dict[str, np.ndarray] = {}
    if sample.labels is not None:
        correct = _correct(metrics.knn_predictions, features, sample)
        values["knn_accuracy"] = correct.float().mean()
        values["linear_accuracy"] = _correct(metrics.linear_probe_predictions, features, sample).float().mean()
        kept["correct"] = correct.cpu().numpy()
        kept["most_frequent"] = (sample.labels.bincount().amax() / len(sample)).numpy()
    found = found_views(of_views[: sample.held_out or None])
    # At one scale, since LiDAR adds a constant to the variances, and features grow during a training.
    scale = (of_views - of_views.mean(dim=(0, 1))).square().mean().sqrt()
    values |= {
        "matched": found.float().mean(),
        "effective_rank": metrics.effective_rank(features),
        "lidar": metrics.lidar(of_views / scale.clamp(min=1e-12)),
        "feature_std": metrics.feature_std(features),
        "alignment": metrics.alignment(of_views[:, 0], of_views[:, 1]),
        "uniformity": metrics.uniformity(features),
    }
    kept |= {"matched": found.cpu().numpy(), "held_out": np.array(sample.held_out), **_neighbours(features, sample)}
    return {name: float(value) for name, value in values.items()}, kept


def found_views(views: Tensor) -> Tensor:
    """For each image, whether the nearest second view to its first view is its own; views (N, Q, F), Q >= 2."""
    first, second = (nn.functional.normalize(views[:, k], dim=1) for k in (0, 1))
    return (first @ second.T).argmax(dim=1) == torch.arange(len(views), device=views.device)


def _correct(predict: Callable[..., Tensor], features: Tensor, sample: Sample) -> Tensor:
    """Whether each image is classified correctly by the images of other folds."""
    assert sample.labels is not None
    labels, folds = sample.labels.to(features.device), sample.folds().to(features.device)
    predicted = torch.empty_like(labels)
    for fold in folds.unique():
        held = folds == fold
        fewer: Any = {"k": min(20, int((~held).sum()))} if predict is metrics.knn_predictions else {}
        predicted[held] = predict(features[~held], labels[~held], features[held], classes=sample.classes, **fewer)
    return predicted == labels


def _neighbours(features: Tensor, sample: Sample) -> dict[str, np.ndarray]:
    """The first images, and those of other groups whose features are nearest, as 8-bit pictures."""
    rows, groups = nn.functional.normalize(features, dim=1).cpu(), sample.groups
    similar = (rows[:SHOWN] @ rows.T).masked_fill(groups[:SHOWN, None] == groups, -torch.inf)
    count = min(NEIGHBOURS, int((groups[:SHOWN, None] != groups).sum(dim=1).min()))
    if not count:
        return {}
    nearest = similar.topk(count, dim=1).indices
    pictures = (sample.images[:, 0].clamp(0, 1) * 255).round().to(torch.uint8).numpy()
    return {"queries": pictures[:SHOWN], "neighbours": pictures[nearest.numpy()]}


def statement(folder: Path) -> str:
    """Whether the encoder of a finished pretext is better than its start, and by how much; "" where that is unknown."""
    found = arrays(folder / ARRAYS)
    if not {"start_matched", "end_matched"} <= found.keys():
        return ""
    if "start_correct" not in found:
        return str(verdict_of(folder)["sentence"])
    better, p = compared(found["start_correct"], found["end_correct"])
    values = columns(folder / ROWS)
    knn, linear = (f"{values[name][0]:.0%} to {values[name][-1]:.0%}" for name in ("knn_accuracy", "linear_accuracy"))
    head = {1: "Better than its start", -1: "Worse than its start", 0: "Not shown to be better than its start"}[better]
    return (
        f"{head}: kNN accuracy {knn} (p = {p:.2g}), linear probe accuracy {linear}, of {len(found['end_correct'])} "
        f"images, {found['end_most_frequent']:.0%} of them of the most frequent class."
    )


def verdict_of(folder: Path) -> dict[str, Any]:
    """`verdict` of the start and the end of a finished pretext."""
    found = arrays(folder / ARRAYS)
    return verdict(found["start_matched"].tolist(), found["end_matched"].tolist(), held_out=bool(found["end_held_out"]))
