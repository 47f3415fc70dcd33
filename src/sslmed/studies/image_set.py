"""A set of images whose pixels lie in a cache on disk: every one decoded once and checked before any training."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ..data import DiskCache, splits
from ..data.cache import BrokenItems
from .cached import Resized, facts_of, near_duplicates
from .processes import barrier, rank
from .progress import track
from .sources import UNLABELLED, Source, open_set


@dataclass(frozen=True)
class ImageSet:
    """Cases of one or several caches on disk.

    Attributes:
        name: of the data set.
        source: where it comes from, as results may print it.
        ids: of the cases.
        groups: what must stay on one side of a split: patient, volume, case or near duplicates.
        labels: class of each case by name, or None.
        counts: numbers of images, of each class, and of volumes.
        caches: where the pixels lie.
        rows: of each case, the number of its cache and the position there.
        size: pixels a side.
        published: number of images of each class as published, where all are comparable.
        notes: what a reader of the results should know.
        classes: names of all classes, in the order of the set; empty where it has none.
        structures: names of the numbers in label maps from 1 on.
        contents: hash of each file that was read, by its name, and of each case's class and group, by its id.
        tiny: ids of the cases with a structure smaller than a pixel, of which one pixel was kept.
        skipped: the reason for each file that was left out, by its name.
        outlined: whether each case's mask shows anything; empty where there are no masks.
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
            raise ValueError(f"{self.name} has no masks: it serves pretext learning only")
        return self._pixels("mask", index)

    def label_maps(self, index: Sequence[int]) -> Tensor:
        """Label maps (n, 1, S, S) uint8, the number of each structure."""
        if not self.has_label_maps:
            raise ValueError(f"{self.name} has no numbered structures")
        return self._pixels("label_map", index).to(torch.uint8)

    def class_numbers(self, index: Sequence[int]) -> list[int]:
        """Number of the class of each of the cases."""
        if self.labels is None:
            raise ValueError(f"{self.name} has no classes to learn")
        return [self.classes.index(self.labels[i]) for i in index]

    def pairs(self, index: Sequence[int]) -> Cases:
        """Pairs (image, mask), for segmentation."""
        self.masks([])
        return Cases(self, index, "masks")

    def mapped(self, index: Sequence[int]) -> Cases:
        """Pairs (image, label map), for the segmentation of several structures."""
        self.label_maps([])
        return Cases(self, index, "label_maps")

    def classified(self, index: Sequence[int]) -> Cases:
        """Pairs (image, number of its class), for classification."""
        self.class_numbers([])
        return Cases(self, index, "class_numbers")

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
        caches = tuple(_resized(cache, size, folder, self.name) for cache in self.caches)
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


class Cases(Dataset[tuple[Tensor, Any]]):
    """Pairs of an image and what is to be learned of it, read from the cache when they are asked for.

    Args:
        data: the set.
        index: positions of the cases.
        target: the method of `data` that gives the second of each pair.
    """

    def __init__(self, data: ImageSet, index: Sequence[int], target: str) -> None:
        self.data, self.index, self.target = data, list(index), target

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, i: int) -> tuple[Tensor, Any]:
        case = [self.index[i]]
        return self.data.images(case)[0], getattr(self.data, self.target)(case)[0]


class Numbered(Dataset[tuple[Tensor, int]]):
    """Pairs (image, position) of some cases of several sets, one set after the other, for a pretext.

    Args:
        parts: sets, and the positions of the cases in each.
    """

    def __init__(self, parts: Iterable[tuple[ImageSet, Sequence[int]]]) -> None:
        self.cases = [(data, i) for data, index in parts for i in index]

    def __len__(self) -> int:
        return len(self.cases)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        data, case = self.cases[i]
        return data.images([case])[0], range(len(self))[i]


class Pictures(Sequence[Tensor]):
    """Images (1, S, S) of some cases of several sets, read one at a time."""

    def __init__(self, *parts: tuple[ImageSet, Sequence[int]]) -> None:
        self.cases = Numbered(parts)

    def __len__(self) -> int:
        return len(self.cases)

    def __getitem__(self, i: Any) -> Any:
        return self.cases[i][0]


class Items(Sequence[dict[str, Any]]):
    """Cases with id, group and image, read one at a time."""

    def __init__(self, data: ImageSet, index: Sequence[int]) -> None:
        self.data, self.cases = data, list(index)

    def __len__(self) -> int:
        return len(self.cases)

    def __getitem__(self, i: Any) -> Any:
        case = self.cases[i]
        return {
            "id": self.data.ids[case],
            "group": self.data.groups[case],
            "image": self.data.images([case])[0],
        }


def read(
    source: Source, *, size: int, cache: Path, fit: str = "stretch", skip_broken: bool = False
) -> ImageSet:
    """Read the synthetic set, a known one, or any folder of images, at size x size pixels, into the cache.

    Args:
        source: what to read.
        size: pixels a side.
        cache: the folder of the caches.
        fit: how images become square: "stretch" or "pad", as in the readers.
        skip_broken: leave out files that cannot be read.

    Raises:
        ValueError, OSError: the folder is missing or empty, or a file in it is broken; the message names it.
    """
    name, shown, data = open_set(source, size=size, fit=fit, skip_broken=skip_broken)
    images = name if name == UNLABELLED else f"images of {name}"
    print(f"reading {len(data)} {images}{_inside(data, source)} at {size} px", flush=True)
    try:
        items = cached(data, cache, title="reading images", skip_broken=skip_broken)
    except BrokenItems as error:
        raise ValueError(
            f"{error}; --skip-broken leaves out what cannot be read, and `python -m sslmed.data.audit "
            f"{shlex.quote(source.place)}` lists it"
        ) from error
    ids = [str(row["id"]) for row in items.rows]
    facts = facts_of(items)
    if facts.not_finite:
        raise ValueError(
            f"{name}: NaN or infinite pixels in {', '.join(ids[i] for i in facts.not_finite[:3])}"
        )
    has_masks = "mask" in items.layout
    maps = has_masks and "label_map" in items.layout
    labels = [data.classes[row["label"]] for row in items.rows] if "label" in items.rows[0] else None
    notes = []
    if items.skipped:
        first, reason = next(iter(items.skipped.items()))
        notes.append(f"{len(items.skipped)} images that cannot be read were left out, as {first}: {reason}")
    if "group" in items.rows[0]:
        groups = [str(row["group"]) for row in items.rows]
    else:
        groups = [ids[i] for i in near_duplicates(items)]
        notes.append(
            f"no groups come with these images: {len(ids) - len(set(groups))} near duplicates were found by "
            "correlation above 0.95" + (" and kept on one side of each split" if has_masks or labels else "")
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
    if has_masks:
        counts["without structures" if maps else "without lesion"] = facts.outlined.count(False)
    return ImageSet(
        name=name,
        source=shown,
        ids=ids,
        groups=groups,
        labels=labels,
        counts=counts,
        caches=(items,),
        rows=[(0, i) for i in range(len(ids))],
        size=size,
        published=published,
        notes=notes,
        classes=tuple(data.classes) if labels else (),
        structures=tuple(name for k, name in sorted(data.structures.items()) if k) if maps else (),
        contents=contents_of(data, items),
        tiny=tuple(items.tiny),
        skipped=items.skipped | {k: v for k, v in getattr(data, "skipped", {}).items() if skip_broken},
        outlined=tuple(facts.outlined),
    )


def cached(
    data: Any, folder: Path, *, title: str, skip_broken: bool = False, key: str = "synthetic"
) -> DiskCache:
    """The cache of a set; of several processes the first one decodes.

    Args:
        data: the set.
        folder: of the caches.
        title: for the progress while items are decoded.
        skip_broken: leave out items that cannot be read.
        key: name of the content of a set that has no files, beside its settings.
    """

    def made() -> DiskCache:
        return DiskCache(
            data,
            folder,
            key=None if hasattr(data, "files") else key,
            broken="skip" if skip_broken else "error",
            progress=partial(track, title=title, total=len(data)),
        )

    if rank() == 0:
        items = made()
        barrier()
        return items
    barrier()
    return made()


def _resized(cache: DiskCache, size: int, folder: Path, name: str) -> DiskCache:
    title = f"resizing {name} to {size} px"
    return cached(Resized(cache, size), folder, title=title, key=f"{cache.path.name} at {size}")


def contents_of(data: Any, items: DiskCache) -> dict[str, str]:
    """Hash what a run must find unchanged when it is continued: files, and each case's class and group.

    Files are hashed and not the pixels of items, which another processor may round differently; of tables, what they
    say of each case.
    """
    contents = {f"file {name}": digest[:16] for name, digest in items.hashes.items()}
    for row in items.rows:
        known = [data.classes[row["label"]] if "label" in row else None, str(row.get("group"))]
        digest = hashlib.sha256(json.dumps(known).encode()).hexdigest()
        contents[f"class and group of {row['id']}"] = digest[:16]
    return contents


def _inside(data: Any, source: Source) -> str:
    """Which folder in the given one is read, where it is not that one itself: what lies beside it is left aside."""
    place = getattr(data, "root", None)
    return "" if place is None or Path(place) == Path(source.place) else f" in {Path(place).name}"


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
    labels = [label for part in taken for label in part.labels or ()]
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
    count = sum(len(part) for part in taken)
    before = np.cumsum([0, *(len(part.caches) for part in taken)])
    named = list(zip(names, taken, strict=True))
    return ImageSet(
        name=" and ".join(names),
        source=" and ".join(part.source for part in taken),
        ids=[f"{name}/{i}" for name, part in named for i in part.ids],
        groups=[f"{part.name}/{name}" for part in taken for name in part.groups],
        labels=labels if len(labels) == count else None,
        counts={"images": count} | dict(sorted(Counter(labels).items())),
        caches=tuple(cache for part in taken for cache in part.caches),
        rows=[
            (int(first) + k, row) for first, part in zip(before, taken, strict=False) for k, row in part.rows
        ],
        size=taken[0].size,
        notes=[
            line
            for name, part in named
            for line in (f"{share:.0%} of {name}: {len(part)} images", *(f"{name}: {n}" for n in part.notes))
        ],
        classes=classes,
        contents={f"{name}: {k}": v for name, part in named for k, v in part.contents.items()},
        tiny=tuple(f"{name}/{i}" for name, part in named for i in part.tiny),
        skipped={f"{name}/{k}": v for name, part in named for k, v in part.skipped.items()},
        outlined=sum((part.outlined for part in taken), ()),
    )
