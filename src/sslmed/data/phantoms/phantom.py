"""Synthetic B-mode ultrasound with masks: no download, as many as wanted, each known exactly."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from ... import _checks
from . import _breast_image, _heart, _lung
from ._shares import BREAST_SHARES, labels_by_share

_ORGANS = {
    "breast": (_breast_image.render, "phantom", BREAST_SHARES),
    "heart": (_heart.render, "phantom-heart", {"end-diastole": 1 / 2, "end-systole": 1 / 2}),
    "lung": (_lung.render, "phantom-lung", {"regular": 1 / 3, "b-lines": 1 / 3, "consolidation": 1 / 3}),
}


class Phantom(Dataset[dict[str, Any]]):
    """Ultrasound of breast, heart or lung made by physics.

    Tissue carries random scatterers and smooth reflectors. The echoes pass the point-spread function (a Gaussian pulse
    in depth; a Gaussian beam across, widening away from the focus, in eight zones of depth), receive gain that
    compensates a nominal attenuation only, envelope detection, log compression, and mild smoothing against speckle.
    Shadow and enhancement behind a structure come from its attenuation; they are not painted.

    Breast: 38 x 38 mm under a 8.5 MHz linear array; layers of skin, fat with septa, gland, and muscle. Benign lesions
    tend to be smooth ovals, wider than tall, anechoic to hyperechoic, with enhancement or edge shadows; malignant ones
    irregular or spiculated, as tall as wide, hypoechoic, with indistinct borders and shadows. The classes overlap. Some
    lesions carry measuring crosses, as in BUSI. Classes come in BUSI's proportions (437 : 210 : 133).

    Heart: the apical view to 155 mm under a 2.8 MHz phased array, black outside the sector, with four chambers in half
    of the images and two in the others. At end systole the left ventricle is smaller, its wall thicker, its atrium
    larger and the valve shut more often; hearts vary so much that the classes overlap. Walls parallel to the beam fade,
    haze lies over the apex, ribs and lung darken an edge of some sectors. The mask is the left ventricle's cavity,
    which the valve's plane closes, trabeculae included. Both classes are equally frequent.

    Lung: the pleura to 98 mm under a 4 MHz convex array, between two ribs with their shadows in most images. Below the
    pleura the chest wall repeats, with A-lines. Regular lungs have at most two thin B-lines; "b-lines" three to seven,
    which outshine the A-lines; "consolidation" a hypoechoic region below the pleura with a shredded border, in which
    some air is left, and B-lines behind it. The mask is that region, and empty in the other classes. The three are
    equally frequent.

    In every run of successive items the classes have these shares.

    Args:
        count: number of items.
        size: pixels a side, at least 32; the frame in mm is the same at every size, and so is an item's anatomy.
        seed: another seed gives other images.
        organ: "breast", "heart" or "lung".

    Items:
        image (1, size, size) float32 in [0, 1] in 256 steps, mask (1, size, size) bool (empty where the class has
        no structure to outline), label (a place in `classes`), id, group (each image its own). Item i depends on
        `organ`, `seed` and i alone, and its anatomy not on `size`.

    Attributes:
        classes: names of the labels, of `organ`; of the class itself, those of the breast.
        shares: the share of each.

    Raises:
        TypeError, ValueError: a setting is out of range.

    Example:
        >>> phantom = Phantom(780, size=64, seed=0)
        >>> item = phantom[3]
        >>> item["image"].shape, item["mask"].dtype, phantom.classes[item["label"]]
        (torch.Size([1, 64, 64]), torch.bool, 'benign')
        >>> phantom.counts
        {'benign': 437, 'malignant': 210, 'normal': 133}
        >>> Phantom(300, organ="lung").counts
        {'regular': 100, 'b-lines': 100, 'consolidation': 100}
    """

    classes: tuple[str, ...] = tuple(BREAST_SHARES)
    shares: Mapping[str, float] = BREAST_SHARES

    def __init__(self, count: int, *, size: int = 64, seed: int = 0, organ: str = "breast") -> None:
        self.count: int = _checks.integer("count", count, low=1)
        self.size: int = _checks.integer("size", size, low=32)
        self.seed: int = _checks.integer("seed", seed, low=0)
        self.organ: str = _checks.choice("organ", organ, tuple(_ORGANS))
        self._render, name, shares = _ORGANS[organ]
        self.shares = dict(shares)
        self.classes = tuple(shares)
        self.ids: list[str] = [f"{name}-{seed}-{i:06d}" for i in range(count)]
        self.groups: list[str] = list(self.ids)
        self.labels: list[int] = labels_by_share(shares, count, seed)

    @property
    def counts(self) -> dict[str, int]:
        """Number of items of each class."""
        return {name: self.labels.count(k) for k, name in enumerate(self.classes)}

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict[str, Any]:
        i = range(self.count)[operator.index(index)]
        image, mask = self._render(self.labels[i], self.size, np.random.default_rng([self.seed, i]))
        return {
            "image": torch.from_numpy(image)[None],
            "mask": torch.from_numpy(mask)[None],
            "label": self.labels[i],
            "id": self.ids[i],
            "group": self.groups[i],
        }
