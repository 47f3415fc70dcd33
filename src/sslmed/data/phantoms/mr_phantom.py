"""Synthetic MR volumes with two neighbouring structures: no download, as many as wanted, each known exactly."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from ... import _checks
from ..._latest import Latest
from ._pelvis import render
from ._prostate import HEIGHT_MM, SIDE_MM


class MRPhantom(Dataset[dict[str, Any]]):
    """T2-weighted volumes of the prostate, 54 x 150 x 150 mm, with its two zones; items and attributes as `Decathlon`.

    The transition zone lies within the horseshoe of the peripheral zone; glands differ in size, outline, nodules and
    in how much of them is transition zone, and change smoothly from slice to slice. Around them lie fat with veins,
    muscles, bones, bladder, seminal vesicles, and a rectum with gas, stool or gel. Each tissue's brightness varies by
    about 10 % between volumes; the receive coils shade the image smoothly, and its noise is Rician, as that of
    magnitudes is (Gudbjartsson and Patz, "The Rician distribution of noisy MRI data", Magnetic Resonance in Medicine
    34:910, 1995). Each volume is scaled from its least to its greatest value. Split slices by group, the volume.

    Args:
        count: number of volumes.
        depth: slices of each, at least 3.
        size: pixels a side, at least 32; the frame in mm is the same at every depth and size, and so is the anatomy.
        slices: items are axial slices; False for whole volumes.
        seed: another seed gives other volumes.

    Items:
        image (1, size, size) float32 in [0, 1], mask (1, size, size) bool, True on either zone, label_map (1, size,
        size) int64, the number of each zone; or, of whole volumes, all of shape (1, depth, size, size), from the feet
        upward with the patient's front up, with spacing_mm, millimetres along D, H and W; id such as "mr-0-000003#7",
        or "mr-0-000003"; group, the volume. A volume depends on `seed` and its number alone; slices at the ends may
        show no zone.

    Attributes:
        structures: name of each label, by number.
        sequences: name of each channel.
        volumes: name of each volume.

    Raises:
        TypeError, ValueError: a setting is out of range.

    Example:
        >>> phantom = MRPhantom(2, depth=8, size=64)
        >>> item = phantom[12]
        >>> item["image"].shape, item["id"], phantom.structures[2]
        (torch.Size([1, 64, 64]), 'mr-0-000001#4', 'transition zone')
        >>> MRPhantom(2, slices=False)[0]["spacing_mm"]
        (4.5, 2.34375, 2.34375)
    """

    labels: None = None

    def __init__(self, count: int, *, depth: int = 12, size: int = 64, slices: bool = True, seed: int = 0) -> None:
        self.count: int = _checks.integer("count", count, low=1)
        self.depth: int = _checks.integer("depth", depth, low=3)
        self.size: int = _checks.integer("size", size, low=32)
        self.seed: int = _checks.integer("seed", seed, low=0)
        self.slices = slices
        self.structures: dict[int, str] = {0: "background", 1: "peripheral zone", 2: "transition zone"}
        self.sequences: list[str] = ["T2"]
        self.volumes: list[str] = [f"mr-{seed}-{v:06d}" for v in range(count)]
        items = [(v, f"#{k}") for v in self.volumes for k in range(depth)]
        self.groups: list[str] = [v for v, _ in items] if slices else list(self.volumes)
        self.ids: list[str] = [v + k for v, k in items] if slices else list(self.volumes)
        self._last = Latest[int, dict[str, Any]]()

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> dict[str, Any]:
        i = range(len(self.ids))[operator.index(index)]
        names = {"id": self.ids[i], "group": self.groups[i]}
        if not self.slices:
            spacing_mm = (HEIGHT_MM / self.depth, SIDE_MM / self.size, SIDE_MM / self.size)
            return self._volume(i) | {"spacing_mm": spacing_mm} | names
        v, k = divmod(i, self.depth)
        volume = self._last.of(v, lambda: self._volume(v))
        return {name: stack[:, k].clone() for name, stack in volume.items()} | names

    def _volume(self, v: int) -> dict[str, Any]:
        values, zones = render(self.depth, self.size, np.random.default_rng([self.seed, v]))
        low, high = values.min(), values.max()
        label_map = torch.from_numpy(zones)[None]
        image = torch.from_numpy((values - low) / (high - low))[None]
        return {"image": image, "mask": label_map > 0, "label_map": label_map}
