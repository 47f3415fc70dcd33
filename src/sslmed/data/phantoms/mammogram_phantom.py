"""Synthetic mammograms with masses and their masks: no download, as many as wanted, each known exactly."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from torch.utils.data import Dataset

from ... import _checks
from ._mammogram import render
from ._shares import BREAST_SHARES, labels_by_share


class MammogramPhantom(Dataset[dict[str, Any]]):
    """Mediolateral oblique mammograms, 120 x 120 mm, the chest wall at the left or at the right.

    The glandular share of the breast is noise whose power falls with the third power of frequency, as measured in
    mammograms (Burgess, Jacobson and Judy, "Human observer detection experiments with mammograms and power-law noise",
    Medical Physics 28:419, 2001), with ducts and ligaments that run to the nipple; its mean varies from fatty to dense.
    The X-rays' loss in it, in the rounded edge of the compressed breast, in the pectoral muscle of most images and in
    vessels is blurred, grows noisy where few quanta pass, and is shown bright.

    Benign masses tend to be smooth ovals with a sharp border, sometimes with a coarse calcification; malignant ones
    irregular, denser, with spicules, and in some with a cluster of microcalcifications. The classes overlap, and glands
    hide parts of some masses. Classes come in the proportions of `Phantom`, in every run of successive items.

    Args:
        count: number of items.
        size: pixels a side, at least 32; the frame in mm is the same at every size, and so is an item's anatomy.
        seed: another seed gives other images.

    Items:
        image (1, size, size) float32 in [0, 1] in 256 steps, mask (1, size, size) bool (the mass without its spicules;
        empty in a normal), label (0 benign, 1 malignant, 2 normal), id, group (each image its own). Item i depends on
        `seed` and i alone.

    Raises:
        TypeError, ValueError: a setting is out of range.

    Example:
        >>> phantom = MammogramPhantom(780, size=64, seed=0)
        >>> item = phantom[3]
        >>> item["image"].shape, item["mask"].dtype, phantom.classes[item["label"]]
        (torch.Size([1, 64, 64]), torch.bool, 'benign')
        >>> phantom.counts
        {'benign': 437, 'malignant': 210, 'normal': 133}
    """

    classes: tuple[str, ...] = tuple(BREAST_SHARES)
    shares: ClassVar[Mapping[str, float]] = BREAST_SHARES

    def __init__(self, count: int, *, size: int = 64, seed: int = 0) -> None:
        self.count: int = _checks.integer("count", count, low=1)
        self.size: int = _checks.integer("size", size, low=32)
        self.seed: int = _checks.integer("seed", seed, low=0)
        self.ids: list[str] = [f"mammogram-{seed}-{i:06d}" for i in range(count)]
        self.groups: list[str] = list(self.ids)
        self.labels: list[int] = labels_by_share(self.shares, count, seed)

    @property
    def counts(self) -> dict[str, int]:
        """Number of items of each class."""
        return {name: self.labels.count(k) for k, name in enumerate(self.classes)}

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict[str, Any]:
        i = range(self.count)[operator.index(index)]
        image, mask = render(self.labels[i], self.size, np.random.default_rng([self.seed, i]))
        return {
            "image": torch.from_numpy(image)[None],
            "mask": torch.from_numpy(mask)[None],
            "label": self.labels[i],
            "id": self.ids[i],
            "group": self.groups[i],
        }
