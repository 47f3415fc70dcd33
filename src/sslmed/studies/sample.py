"""The images by which a pretext is watched while it learns."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..augment import MultiView

FEWEST, MOST = 64, 256  # images
FEWEST_VIEWED = 32
FOLDS = 5  # of the probes
FEWEST_GROUPS = 5  # with which a class counts


@dataclass(frozen=True)
class Sample:
    """Images to measure an encoder on, always the same ones.

    Attributes:
        images: (N, 1, S, S) float32 in [0, 1].
        pair: draws two views of them.
        groups: (N,) integers; images of one group are of one patient, volume or clip.
        labels: (N,) numbers of the classes, or None.
        classes: number of classes.
        held_out: how many images, the first ones, the pretext does not learn from; 0 where all are like the others.
    """

    images: Tensor
    pair: MultiView
    groups: Tensor
    labels: Tensor | None = None
    classes: int = 0
    held_out: int = 0

    @classmethod
    def of(
        cls,
        images: Tensor,
        pair: MultiView,
        groups: Sequence[Hashable],
        labels: Sequence[int] | None = None,
        *,
        classes: int = 0,
        held_out: int = 0,
    ) -> Sample:
        """A sample of groups by name; labels are left out where fewer than two classes have enough groups."""
        numbers = {name: k for k, name in enumerate(dict.fromkeys(groups))}
        of_group = [numbers[name] for name in groups]
        groups_of = [set[int]() for _ in range(classes)]
        for group, label in zip(of_group, labels or (), strict=False):
            groups_of[label].add(group)
        if sum(len(found) >= FEWEST_GROUPS for found in groups_of) < 2:
            labels = None
        return cls(
            images,
            pair,
            torch.tensor(of_group),
            None if labels is None else torch.tensor(labels),
            classes,
            held_out,
        )

    def __len__(self) -> int:
        return len(self.images)

    @property
    def viewed(self) -> int:
        """How many images, the first ones, several views are drawn of, which costs as much as all images once."""
        return min(len(self), max(self.held_out, FEWEST_VIEWED, len(self) // 4))

    def folds(self) -> Tensor:
        """The fold (N,) of each image, for cross-validation by whole groups: folds of about the same size."""
        found = torch.empty(len(self), dtype=torch.int64)
        sizes = [0] * FOLDS
        for group in np.random.default_rng(0).permutation(int(self.groups.max()) + 1).tolist():
            members = self.groups == group
            fold = sizes.index(min(sizes))
            sizes[fold] += int(members.sum())
            found[members] = fold
        return found


def sample_size(images: int, epochs: int) -> int:
    """How many images to watch a training by, so that a measurement takes about a third of a percent of its time.

    A measurement is two forward passes of each; a step on an image about seven, with two views and their gradients.
    """
    return min(MOST, max(FEWEST, images * epochs // 100))
