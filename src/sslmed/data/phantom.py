"""Synthetic B-mode ultrasound with lesion masks: no download, as many as wanted, each known exactly."""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional as F
from torch.utils.data import Dataset

from .. import _checks
from ._bmode import Map, Scanner, b_mode_db, display
from ._breast import BENIGN, MALIGNANT, NORMAL, draw_lesion, place, tissue

_GOLDEN = 0.6180339887498949
_FINEST_MM = 0.32  # the grid of the physics; displayed pixels average over it where they are coarser


class Phantom(Dataset[dict[str, Any]]):
    """Breast ultrasound made by physics: 38 x 38 mm under a 8.5 MHz linear array.

    Layers of skin, fat with septa, gland, and muscle carry random scatterers and smooth reflectors; a lesion differs in
    backscatter, border and attenuation. The echoes pass the point-spread function (a Gaussian pulse in depth; a
    Gaussian beam across, widening away from the focus, in eight zones of depth), receive gain that compensates a
    nominal attenuation only, envelope detection, log compression to 42 to 58 dB, and mild smoothing against speckle.
    Shadow and enhancement behind a lesion come from its attenuation; they are not painted.

    Benign lesions tend to be smooth ovals, wider than tall, anechoic to hyperechoic, with enhancement or edge shadows;
    malignant ones irregular or spiculated, as tall as wide, hypoechoic, with indistinct borders and shadows. The
    classes overlap. Some lesions carry measuring crosses, as in BUSI. Classes come in BUSI's proportions (437 : 210 :
    133), in every run of successive items.

    Args:
        count: number of items.
        size: pixels a side, at least 32; the frame in mm is the same at every size, and so is an item's anatomy.
        seed: another seed gives other images.
        organ: "breast".

    Items:
        image (1, size, size) float32 in [0, 1] in 256 steps, mask (1, size, size) bool (empty in a normal), label (0
        benign, 1 malignant, 2 normal), id, group (each image its own). Item i depends on `seed` and i alone.

    Raises:
        TypeError, ValueError: a setting is out of range.

    Example:
        >>> phantom = Phantom(780, size=64, seed=0)
        >>> item = phantom[3]
        >>> item["image"].shape, item["mask"].dtype, phantom.classes[item["label"]]
        (torch.Size([1, 64, 64]), torch.bool, 'benign')
        >>> phantom.counts
        {'benign': 437, 'malignant': 210, 'normal': 133}
    """

    classes: ClassVar[tuple[str, ...]] = ("benign", "malignant", "normal")
    shares: ClassVar[Mapping[str, float]] = MappingProxyType(
        {"benign": 437 / 780, "malignant": 210 / 780, "normal": 133 / 780}
    )

    def __init__(self, count: int, *, size: int = 64, seed: int = 0, organ: str = "breast") -> None:
        self.count = _checks.integer("count", count, low=1)
        self.size = _checks.integer("size", size, low=32)
        self.seed = _checks.integer("seed", seed, low=0)
        self.organ = _checks.choice("organ", organ, ("breast",))
        self.ids = [f"phantom-{seed}-{i:06d}" for i in range(count)]
        self.groups = list(self.ids)
        self.labels = [self._label(i) for i in range(count)]

    def _label(self, i: int) -> int:
        # Multiples of the golden ratio fill [0, 1) evenly: every run of items has the classes' shares.
        place = (0.5 + self.seed * math.sqrt(2) + i * _GOLDEN) % 1.0
        benign, malignant = self.shares["benign"], self.shares["malignant"]
        return BENIGN if place < benign else MALIGNANT if place < benign + malignant else NORMAL

    @property
    def counts(self) -> dict[str, int]:
        """Number of items of each class."""
        return {name: self.labels.count(k) for k, name in enumerate(self.classes)}

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict[str, Any]:
        i = range(self.count)[operator.index(index)]
        image, mask = _render(self.labels[i], self.size, np.random.default_rng([self.seed, i]))
        return {
            "image": torch.from_numpy(image)[None],
            "mask": torch.from_numpy(mask)[None],
            "label": self.labels[i],
            "id": self.ids[i],
            "group": self.groups[i],
        }


def _render(label: int, size: int, rng: np.random.Generator) -> tuple[Map, npt.NDArray[np.bool_]]:
    """Draw the anatomy first, whose draws do not depend on `size`, then the scatterers."""
    scanner = Scanner()
    fine = max(1, math.ceil(scanner.width_mm / size / _FINEST_MM))
    echo, specular, attenuation = tissue(rng, size * fine, scanner)
    dynamic_range_db, middle_db = rng.uniform(42, 58), rng.uniform(-6, 4)
    mask: npt.NDArray[np.bool_] = np.zeros((size, size), dtype=bool)
    crosses: list[tuple[float, float]] = []
    if label != NORMAL:
        lesion = draw_lesion(label, rng, scanner)
        distance = place(lesion, echo, specular, attenuation, rng, scanner)
        mask = (F.avg_pool2d(torch.from_numpy(distance)[None], fine)[0] < 0).numpy()
        if rng.uniform() < 0.12:
            crosses = _ends(
                lesion.x_mm + scanner.width_mm / 2, lesion.z_mm, lesion.half_width_mm, lesion.half_height_mm
            )
    envelope_db = b_mode_db(echo, specular, attenuation, scanner, rng)
    image = display(envelope_db, size, scanner, dynamic_range_db=dynamic_range_db, middle_db=middle_db)
    for x_mm, z_mm in crosses:
        _cross(image, round(z_mm / scanner.depth_mm * size), round(x_mm / scanner.width_mm * size))
    return np.rint(image * 255) / np.float32(255), mask


def _ends(x_mm: float, z_mm: float, half_width_mm: float, half_height_mm: float) -> list[tuple[float, float]]:
    return [
        (x_mm - half_width_mm, z_mm),
        (x_mm + half_width_mm, z_mm),
        (x_mm, z_mm - half_height_mm),
        (x_mm, z_mm + half_height_mm),
    ]


def _cross(image: Map, row: int, column: int) -> None:
    """Burn a measuring cross of about 1.5 mm into the image, as far as it lies inside."""
    arm = max(1, len(image) // 50)
    image[max(row, 0) : row + 1, max(column - arm, 0) : max(column + arm + 1, 0)] = 0.9
    image[max(row - arm, 0) : max(row + arm + 1, 0), max(column, 0) : column + 1] = 0.9
