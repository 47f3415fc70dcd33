"""Values computed once for a cache on disk: its items at another size, and facts that need all pixels."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Dataset

from ..data import DiskCache, splits
from ..data.formats._sizes import Sizing
from .processes import barrier, rank
from .progress import track
from .runs import write_json

_PART = 64  # items read at a time


class Resized(Dataset[dict[str, Any]]):
    """The items of a cache at another size, resized as the readers do.

    Args:
        cache: of square images.
        size: pixels a side.
    """

    def __init__(self, cache: DiskCache, size: int) -> None:
        self._cache, self._sizing = cache, Sizing(size, "stretch")

    @property
    def tiny(self) -> list[str]:
        """Ids of the items resized so far with a structure smaller than a pixel; one pixel of it was kept."""
        return sorted(self._sizing.tiny)

    def __len__(self) -> int:
        return len(self._cache)

    def __getitem__(self, index: int) -> dict[str, Any]:
        item = self._cache[index]
        for name in ("mask", "label_map"):
            if name in item:
                item[name] = self._sizing.mask(item[name], str(item["id"]))
        return item | {"image": self._sizing.image(item["image"])}


def cached(data: Any, folder: Path, *, title: str, skip_broken: bool = False, key: str = "synthetic") -> DiskCache:
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


def resized(cache: DiskCache, size: int, folder: Path, *, title: str) -> DiskCache:
    """A cache of the items of another one at another size.

    Args:
        cache: of square images.
        size: pixels a side.
        folder: of the caches.
        title: for the progress.
    """
    return cached(Resized(cache, size), folder, title=title, key=f"{cache.path.name} at {size}")


@dataclass(frozen=True)
class Facts:
    """Facts that need the pixels of all items, stored beside them.

    Attributes:
        not_finite: positions of the images with NaN or infinity.
        outlined: whether each mask shows anything; empty without masks.
    """

    not_finite: list[int]
    outlined: list[bool]


class Images(Sequence[torch.Tensor]):
    """The images of a cache, of several channels the first, read one at a time."""

    def __init__(self, cache: DiskCache) -> None:
        self.cache = cache

    def __len__(self) -> int:
        return len(self.cache)

    def __getitem__(self, i: Any) -> Any:
        return self.cache.pixels("image", [i])[0, :1]


def near_duplicates(cache: DiskCache) -> list[int]:
    """For each image of a cache the position of the first one of its group of near duplicates, found once."""
    file = cache.path / "near_duplicates.json"
    known = _read(file)
    if not (isinstance(known, list) and len(known) == len(cache)):
        known = [int(i) for i in splits.near_duplicates(Images(cache))]
        _keep(file, known)
    return known


def facts_of(cache: DiskCache) -> Facts:
    """The facts of a cache: as stored, or computed from all its pixels, a few at a time."""
    file = cache.path / "facts.json"
    known = _read(file)
    if isinstance(known, dict) and known.keys() == {"not_finite", "outlined"}:
        return Facts(**known)
    not_finite: list[int] = []
    outlined: list[bool] = []
    for part in _parts(len(cache)):
        finite = cache.pixels("image", part).isfinite().flatten(1).all(1)
        not_finite += [i for i, good in zip(part, finite.tolist(), strict=True) if not good]
        if "mask" in cache.layout:
            outlined += cache.pixels("mask", part).flatten(1).any(1).tolist()
    _keep(file, {"not_finite": not_finite, "outlined": outlined})
    return Facts(not_finite, outlined)


def _parts(count: int) -> Iterator[range]:
    return (range(start, min(start + _PART, count)) for start in range(0, count, _PART))


def _keep(file: Path, content: Any) -> None:
    with contextlib.suppress(OSError):  # a shared cache may be read-only; then they are computed each time
        write_json(file, content)


def _read(file: Path) -> Any:
    with contextlib.suppress(OSError, ValueError):
        return json.loads(file.read_text(encoding="utf-8"))
    return None
