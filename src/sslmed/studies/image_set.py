"""A set of images whose pixels lie in a cache on disk."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from ..data import DiskCache
from .cached import resized
from .pixels import Items, Pairs


@dataclass(frozen=True)
class ImageSet:
    """Cases of one or several caches on disk.

    Attributes:
        name: of the data set.
        source: where it comes from, as results may print it.
        ids: of the cases.
        groups: cases that must stay in one part of a split: patient, volume, case or near duplicates.
        labels: class of each case by name, or None.
        counts: numbers of images, of each class, and of volumes.
        caches: where the pixels lie.
        rows: of each case, the number of its cache and the position there.
        size: pixels a side.
        published: number of images of each class as published, where it is comparable.
        notes: what a reader of the results should know.
        classes: names of all classes, in the order of the set; empty where it has none.
        structures: names of the numbers in label maps from 1 on.
        contents: hash of each file that was read, by its name, and of each case's class and group, by its id.
        tiny: ids of the cases with a structure smaller than a pixel, of which one pixel was kept.
        skipped: the reason for each file that was left out, by its name.
        outlined: whether each case's mask shows anything; empty where there are no masks.
        grouped: whether the groups came with the images; else they are near duplicates that were found.
        origins: scanner or set that each case comes from; empty where it is unknown.
    """

    name: str
    source: str
    ids: list[str]
    groups: list[str]
    labels: list[str] | None
    counts: dict[str, int]
    caches: tuple[DiskCache, ...]
    rows: list[tuple[int, int]]
    size: int
    published: Mapping[str, int] | None = None
    notes: list[str] = field(default_factory=list)
    classes: tuple[str, ...] = ()
    structures: tuple[str, ...] = ()
    contents: Mapping[str, str] = field(default_factory=dict)
    tiny: tuple[str, ...] = ()
    skipped: Mapping[str, str] = field(default_factory=dict)
    outlined: tuple[bool, ...] = ()
    grouped: bool = False
    origins: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def has_masks(self) -> bool:
        """Whether all cases have masks."""
        return all("mask" in cache.layout for cache in self.caches)

    @property
    def has_label_maps(self) -> bool:
        """Whether all cases have label maps."""
        return all("label_map" in cache.layout for cache in self.caches)

    def images(self, index: Sequence[int]) -> Tensor:
        """Images (n, 1, S, S) float32 in [0, 1] of the cases at these positions."""
        return self._pixels("image", index)

    def masks(self, index: Sequence[int]) -> Tensor:
        """Masks (n, 1, S, S) bool."""
        if not self.has_masks:
            raise ValueError(f"{self.name} has no masks: it can be used for pretext learning only")
        return self._pixels("mask", index)

    def label_maps(self, index: Sequence[int]) -> Tensor:
        """Label maps (n, 1, S, S) uint8, the number of each structure."""
        if not self.has_label_maps:
            raise ValueError(f"{self.name} has no numbered structures")
        return self._pixels("label_map", index).to(torch.uint8)

    def class_numbers(self, index: Sequence[int]) -> list[int]:
        """Number of the class of each of the cases."""
        if self.labels is None:
            raise ValueError(f"{self.name} has no classes")
        return [self.classes.index(self.labels[i]) for i in index]

    def pairs(self, index: Sequence[int]) -> Pairs:
        """Pairs (image, mask), for segmentation."""
        self.masks([])
        return Pairs(self, index, "masks")

    def mapped(self, index: Sequence[int]) -> Pairs:
        """Pairs (image, label map), for the segmentation of several structures."""
        self.label_maps([])
        return Pairs(self, index, "label_maps")

    def classified(self, index: Sequence[int]) -> Pairs:
        """Pairs (image, number of its class), for classification."""
        self.class_numbers([])
        return Pairs(self, index, "class_numbers")

    def items(self, index: Sequence[int]) -> Items:
        """Cases as the splits module compares them: id, group and image."""
        return Items(self, index)

    def only(self, index: Sequence[int]) -> ImageSet:
        """A part of the set, as a set."""
        keep = list(index)
        labels = None if self.labels is None else [self.labels[i] for i in keep]
        ids = [self.ids[i] for i in keep]
        return replace(
            self,
            ids=ids,
            groups=[self.groups[i] for i in keep],
            labels=labels,
            counts={"images": len(keep)} | dict(sorted(Counter(labels or ()).items())),
            rows=[self.rows[i] for i in keep],
            notes=list(self.notes),
            tiny=tuple(name for name in self.tiny if name in set(ids)),
            outlined=tuple(self.outlined[i] for i in keep) if self.outlined else (),
            origins=tuple(self.origins[i] for i in keep) if self.origins else (),
        )

    def at(self, size: int) -> ImageSet:
        """The same cases at a smaller size, resized from the cache into another, so that no file is decoded again.

        Raises:
            ValueError: `size` is above that of the images.
        """
        if size == self.size:
            return self
        if size > self.size:
            raise ValueError(f"size must be at most {self.size}, at which {self.name} was read, got {size}")
        folder = self.caches[0].path.parent
        caches = tuple(
            resized(cache, size, folder, title=f"resizing {self.name} to {size} px") for cache in self.caches
        )
        tiny = {(k, name) for k, cache in enumerate(caches) for name in cache.tiny}
        known = set(self.tiny)
        lost = tuple(
            name
            for name, (k, row) in zip(self.ids, self.rows, strict=True)
            if name in known or (k, caches[k].rows[row].get("id")) in tiny
        )
        return replace(self, caches=caches, size=size, tiny=lost)

    def _pixels(self, name: str, index: Sequence[int]) -> Tensor:
        found = [self.caches[k].pixels(name, [row])[:, :1] for k, row in (self.rows[i] for i in index)]
        shape, dtype = self.caches[0].layout[name]
        return torch.cat(found) if found else torch.from_numpy(np.empty((0, 1, *shape[1:]), dtype))
