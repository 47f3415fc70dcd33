"""Slice-wise segmentation of several structures, tested volume by volume in three dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ._report import TaskReport
from ._segmentation_report import VOLUMES
from .base import Cases, Evaluation, Learner, as_text, means_and_sds
from .metrics import metrics_of
from .segmentation import Segmentation, Segmenter, empty_counts, predict, predictions


@dataclass(frozen=True, kw_only=True)
class Volumes(Segmentation):
    """Segmentation of numbered structures; a test case is a volume, all slices of a group.

    Raises:
        ValueError: it is to decide which images show none (`decides`): that is for single images of one structure.
    """

    kind: ClassVar[str] = "volumes"
    report: ClassVar[TaskReport] = VOLUMES

    def __post_init__(self) -> None:
        if self.decides:
            raise ValueError("decides must be False for volumes: a confidence is of one structure in one image")

    def check(self, cases: Cases, *, option: str) -> None:
        """Raise ValueError where images have no numbered structures."""
        if not cases.has_label_maps:
            raise ValueError(f"{option}, read as {cases.name}, has no numbered structures; give a Decathlon task")

    def check_test_set(self, cases: Cases, trained: Cases, *, option: str) -> None:
        """Raise ValueError where the numbered structures differ."""
        super().check_test_set(cases, trained, option=option)
        if list(cases.structures) != list(trained.structures):
            raise ValueError(
                f"{option}, read as {cases.name}, has the structures {', '.join(cases.structures)}; "
                f"{trained.name} has {', '.join(trained.structures)}"
            )

    def pairs(self, cases: Cases, index: Sequence[int]) -> Dataset[Any]:
        """Pairs (slice, label map)."""
        return cases.mapped(index)

    def learner(self, cases: Cases, weights: Path | None) -> Segmenter:
        """The network with its loss; its first output is the background."""
        network = self.network(len(cases.structures) + 1, weights)
        return Segmenter(network, loss=self.loss, augment=self.augment, rates=self.rates, mirrored=self.mirrored)

    def metrics(self, cases: Cases) -> tuple[str, ...]:
        """Those of the mean over structures, and each structure's Dice."""
        return (*super().metrics(cases), *(f"dice_{name}" for name in cases.structures))

    def evaluate(self, learner: Learner, cases: Cases, index: Sequence[int]) -> Evaluation:
        """Test the network volume by volume.

        A metric of a volume is the mean over its structures, each of all slices together; distances are in voxels of
        the slices as the network sees them.

        Returns:
            Mean and SD over volumes, the counts of volumes with an empty mask, and the slice of each that shows most.
        """
        rows: list[dict[str, Any]] = []
        shown, values = [], dict[str, list[float]]()
        for name, slices in volumes(cases, index).items():
            pred, target = predict(learner, cases, slices), self.references(cases, slices)
            row = _scores(pred, target, cases.structures)
            for key, value in row.items():
                values.setdefault(key, []).append(value)
            empty = {"target_empty": int(not (target > 0).any()), "pred_empty": int(not (pred > 0).any())}
            found = {key: as_text(value) for key, value in row.items()}
            rows.append({"id": name, "group": name, **empty, **found})
            shown.append(pred[largest(target)])
        flags = [torch.tensor([row[key] for row in rows], dtype=torch.bool) for key in ("target_empty", "pred_empty")]
        arrays = {name: np.array(v) for name, v in values.items()}
        summary = means_and_sds(arrays) | {"cases": len(rows), "empty": empty_counts(*flags)}
        return Evaluation(rows, summary, predictions([row["id"] for row in rows], torch.stack(shown)))

    def structures(self, cases: Cases) -> Sequence[str]:
        """Those of the set."""
        return cases.structures

    def slices(self, cases: Cases, index: Sequence[int]) -> dict[str, int]:
        """The position of the slice of each volume in which the reference shows most."""
        return {name: slices[largest(self.references(cases, slices))] for name, slices in volumes(cases, index).items()}

    def references(self, cases: Cases, index: Sequence[int]) -> Tensor:
        """The numbers of the structures (N, H, W) in some slices."""
        return cases.label_maps(index)[:, 0].long()


def volumes(cases: Cases, index: Sequence[int]) -> dict[str, list[int]]:
    """The slices of each volume."""
    found: dict[str, list[int]] = {}
    for i in index:
        found.setdefault(cases.groups[i], []).append(i)
    return found


def largest(target: Tensor) -> int:
    """The first of the slices (N, H, W) with the most pixels of any structure."""
    return int((target > 0).flatten(1).sum(1).argmax())


def _scores(pred: Tensor, target: Tensor, structures: Sequence[str]) -> dict[str, float]:
    """The metrics of a volume (slices, H, W): the mean over structures, and each structure's Dice."""
    # The leading axes say that it is one volume, with one channel.
    pairs = [((pred == k)[None, None], (target == k)[None, None]) for k in range(1, len(structures) + 1)]
    each = {m.key: [m(*pair).item() for pair in pairs] for m in metrics_of("volumes", "cases")}
    means = {key: float(np.mean(values)) for key, values in each.items()}
    return means | {f"dice_{name}": value for name, value in zip(structures, each["dice"], strict=True)}
