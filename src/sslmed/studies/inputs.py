"""Images in memory: every one decoded and checked before any training."""

from __future__ import annotations

import functools
import hashlib
import json
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import TensorDataset

from ..data import splits
from .sets import Source, open_set


@dataclass(frozen=True)
class ImageSet:
    """A data set in memory.

    Attributes:
        images: (N, 1, S, S) float32 in [0, 1].
        masks: (N, 1, S, S) bool; None for unlabelled images.
        labels: class of each case by name, or None.
        groups: what must stay on one side of a split: patient, volume, case or near duplicates.
        classes: names of all classes, in the order of the set; empty where it has none.
        label_maps: (N, 1, S, S) uint8, the number of each structure, of sets that outline several.
        structures: names of these numbers from 1 on.
        contents: hash of each file that was read, by its name, and of each case's class and group, by its id.
        tiny: ids of the cases with a structure smaller than a pixel, of which one pixel was kept.
    """

    name: str
    source: str
    images: torch.Tensor
    masks: torch.Tensor | None
    labels: list[str] | None
    ids: list[str]
    groups: list[str]
    counts: dict[str, int]
    published: Mapping[str, int] | None = None
    notes: list[str] = field(default_factory=list)
    classes: tuple[str, ...] = ()
    label_maps: torch.Tensor | None = None
    structures: tuple[str, ...] = ()
    contents: Mapping[str, str] = field(default_factory=dict)
    tiny: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.ids)

    def pairs(self, index: Sequence[int]) -> TensorDataset:
        """Pairs (image, mask), for segmentation."""
        if self.masks is None:
            raise ValueError(f"{self.name} has no masks: it serves pretext learning only")
        return TensorDataset(self.images[list(index)], self.masks[list(index)])

    def mapped(self, index: Sequence[int]) -> TensorDataset:
        """Pairs (image, label map), for the segmentation of several structures."""
        if self.label_maps is None:
            raise ValueError(f"{self.name} has no numbered structures")
        return TensorDataset(self.images[list(index)], self.label_maps[list(index)])

    def classified(self, index: Sequence[int]) -> TensorDataset:
        """Pairs (image, number of its class), for classification."""
        if self.labels is None:
            raise ValueError(f"{self.name} has no classes to learn")
        numbers = [self.classes.index(self.labels[i]) for i in index]
        return TensorDataset(self.images[list(index)], torch.tensor(numbers))

    def items(self, index: Sequence[int]) -> list[dict[str, Any]]:
        """Cases as the splits module compares them: id, group and image."""
        return [{"id": self.ids[i], "group": self.groups[i], "image": self.images[i]} for i in index]

    def only(self, index: Sequence[int]) -> ImageSet:
        """A part of the set, as a set."""
        keep = list(index)
        labels = None if self.labels is None else [self.labels[i] for i in keep]
        return ImageSet(
            name=self.name,
            source=self.source,
            images=self.images[keep],
            masks=None if self.masks is None else self.masks[keep],
            labels=labels,
            ids=[self.ids[i] for i in keep],
            groups=[self.groups[i] for i in keep],
            counts={"images": len(keep)} | dict(sorted(Counter(labels or ()).items())),
            published=self.published,
            notes=list(self.notes),
            classes=self.classes,
            label_maps=None if self.label_maps is None else self.label_maps[keep],
            structures=self.structures,
            contents=self.contents,
            tiny=tuple(name for name in self.tiny if name in {self.ids[i] for i in keep}),
        )


def read(source: Source, *, size: int, fit: str = "stretch") -> ImageSet:
    """Read the synthetic set, a known one, or any folder of images, at size x size pixels.

    Args:
        source: what to read.
        size: pixels a side.
        fit: how images become square: "stretch" or "pad", as in the readers.

    Raises:
        ValueError, OSError: the folder is missing or empty, or a file in it is broken; the message names it.
    """
    name, shown, data = open_set(source, size=size, fit=fit)
    print(f"reading {len(data)} images of {name}{_inside(data, source)} at {size} px", flush=True)
    items = _decoded(data, source)
    # Of several sequences the first, which in the Decathlon's prostate is T2.
    images = torch.stack([item["image"][:1] for item in items])
    ids = [item["id"] for item in items]
    if not torch.isfinite(images).all():
        bad = [i for i, image in zip(ids, images, strict=True) if not torch.isfinite(image).all()]
        raise ValueError(f"{name}: NaN or infinite pixels in {', '.join(bad[:3])}")
    labelled = all("mask" in item for item in items)
    labels = [data.classes[item["label"]] for item in items] if "label" in items[0] else None
    maps = labelled and all("label_map" in item for item in items)
    notes = []
    if "group" in items[0]:
        groups = [str(item["group"]) for item in items]
    else:
        groups = [ids[int(first)] for first in splits.near_duplicates(images)]
        notes.append(
            f"no groups come with these images: {len(ids) - len(set(groups))} near duplicates were found by "
            "correlation above 0.95" + (" and kept on one side of each split" if labelled or labels else "")
        )
    counts = {"images": len(ids)} | dict(sorted(Counter(labels or ()).items()))
    volumes = getattr(data, "volumes", None)
    if volumes is not None:
        counts["volumes"] = len(volumes)
    published = (getattr(data, "published", None) if volumes is None else None) or None
    if published:
        found, whole = sum(data.counts.values()), sum(published.values())
        if found != whole:
            notes.append(f"a partial set: {found} of {whole} published")
        if found != len(ids):
            published = None  # it counts clips or patients, so it stands beside no number of images
    if labelled:
        counts["of all without structures" if maps else "of all without lesion"] = sum(
            not bool(item["mask"].any()) for item in items
        )
    return ImageSet(
        name=name,
        source=shown,
        images=images,
        masks=torch.stack([item["mask"] for item in items]) if labelled else None,
        labels=labels,
        ids=ids,
        groups=groups,
        counts=counts,
        published=published,
        notes=notes,
        classes=tuple(data.classes) if labels else (),
        label_maps=torch.stack([item["label_map"].to(torch.uint8) for item in items]) if maps else None,
        structures=tuple(name for k, name in sorted(data.structures.items()) if k) if maps else (),
        contents=contents_of(data, items),
        tiny=tuple(getattr(data, "tiny", ())),
    )


def contents_of(data: Any, items: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Hash what a run must find unchanged when it is continued: files, and each case's class and group.

    Files are hashed and not the pixels of items, which another processor may round differently.
    """
    root = getattr(data, "root", None)
    contents = {}
    for path in getattr(data, "files", ()):
        name = path.relative_to(root).as_posix() if root else path.name
        contents[f"file {name}"] = _file_hash(path, path.stat().st_mtime_ns)
    for item in items:
        known = [data.classes[item["label"]] if "label" in item else None, str(item.get("group"))]
        digest = hashlib.sha256(json.dumps(known).encode()).hexdigest()
        contents[f"class and group of {item['id']}"] = digest[:16]
    return contents


@functools.cache  # a set is read once for each size of its images
def _file_hash(path: Path, changed_ns: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def _inside(data: Any, source: Source) -> str:
    """Which folder in the given one is read, where it is not that one itself: what lies beside it is left aside."""
    place = getattr(data, "root", None)
    return "" if place is None or Path(place) == Path(source.place) else f" in {Path(place).name}"


def _decoded(data: Any, source: Source) -> list[dict[str, Any]]:
    """All items; files that are damaged are told at once, not one at each attempt."""
    items, broken = [], []
    for i in range(len(data)):
        try:
            items.append(data[i])
        except (ValueError, OSError) as error:
            broken.append(str(error))
    if broken:
        others = len(set(broken)) - 1  # frames of one file fail alike
        more = f", and {others} more cannot be read" if others else ""
        raise ValueError(
            f"{broken[0]}{more}; `python -m sslmed.data.audit {shlex.quote(source.place)}` lists what cannot be read"
        )
    return items


def part_of(data: ImageSet, *, share: float, seed: int) -> ImageSet:
    """A share of a set, by whole groups, the classes in proportion."""
    index = splits.label_fraction(
        np.arange(len(data)), share, groups=data.groups, labels=data.labels, seed=seed
    )
    return data.only(sorted(int(i) for i in index))


def joined(parts: Sequence[ImageSet], *, share: float, seed: int) -> ImageSet:
    """One set of a share of each of several, by whole groups and classes in proportion.

    Classes are told by their names; ids and groups stand behind their set's name. Two sets of one kind, as both of
    one's own, may be of the same patients: their ids are told apart, and groups of one name stay together.

    Raises:
        ValueError: a class of one set and a class of another differ in upper and lower case only.
    """
    taken = [part_of(part, share=share, seed=seed) for part in parts]
    masks = [part.masks for part in taken if part.masks is not None]
    labels = [label for part in taken for label in part.labels or ()]
    images = torch.cat([part.images for part in taken])
    kinds = [part.name for part in taken]
    names = [
        f"{kind} {kinds[: k + 1].count(kind)}" if kinds.count(kind) > 1 else kind
        for k, kind in enumerate(kinds)
    ]
    classes = tuple(dict.fromkeys(name for part in taken for name in part.classes))
    if len({name.lower() for name in classes}) < len(classes):
        raise ValueError(
            f"{' and '.join(names)} have classes that differ in upper and lower case only: {', '.join(classes)}"
        )
    return ImageSet(
        name=" and ".join(names),
        source=" and ".join(part.source for part in taken),
        images=images,
        masks=torch.cat(masks) if len(masks) == len(taken) else None,
        labels=labels if len(labels) == len(images) else None,
        ids=[f"{name}/{i}" for name, part in zip(names, taken, strict=True) for i in part.ids],
        contents={
            f"{name}: {k}": v
            for name, part in zip(names, taken, strict=True)
            for k, v in part.contents.items()
        },
        tiny=tuple(f"{name}/{i}" for name, part in zip(names, taken, strict=True) for i in part.tiny),
        groups=[f"{part.name}/{name}" for part in taken for name in part.groups],
        counts={"images": len(images)} | dict(sorted(Counter(labels).items())),
        notes=[
            line
            for name, part in zip(names, taken, strict=True)
            for line in (f"{share:.0%} of {name}: {len(part)} images", *(f"{name}: {n}" for n in part.notes))
        ],
        classes=classes,
    )
