"""A set of labelled images in memory, as tasks see it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.utils.data import TensorDataset


@dataclass
class TensorCases:
    """Images (N, 1, S, S), with what a set may have of them."""

    pixels: Tensor
    outlines: Tensor | None = None  # masks (N, 1, S, S) bool, or label maps uint8
    labels: list[str] | None = None
    classes: tuple[str, ...] = ()
    structures: tuple[str, ...] = ()
    groups: list[str] = field(default_factory=list)
    name: str = "set"

    def __post_init__(self) -> None:
        self.ids = [f"case {i}" for i in range(len(self.pixels))]
        self.groups = self.groups or [str(i) for i in range(len(self.pixels))]
        self.has_masks = self.outlines is not None
        self.outlined = () if self.outlines is None else tuple((self.outlines > 0).flatten(1).any(1).tolist())
        self.has_label_maps = self.outlines is not None and bool(self.structures)

    def images(self, index: Sequence[int]) -> Tensor:
        return self.pixels[list(index)]

    def masks(self, index: Sequence[int]) -> Tensor:
        return self.outlines[list(index)] > 0

    def label_maps(self, index: Sequence[int]) -> Tensor:
        return self.outlines[list(index)]

    def pairs(self, index: Sequence[int]) -> TensorDataset:
        return TensorDataset(self.images(index), self.masks(index))

    def mapped(self, index: Sequence[int]) -> TensorDataset:
        return TensorDataset(self.images(index), self.label_maps(index))

    def classified(self, index: Sequence[int]) -> TensorDataset:
        return TensorDataset(self.images(index), torch.tensor([self.classes.index(self.labels[i]) for i in index]))
