"""Read a data set into a cache on disk, every image decoded once and checked before any training."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..data import DiskCache, splits
from ..data.cache import BrokenItems
from .cached import cached, facts_of, near_duplicates
from .image_set import ImageSet
from .sources import UNLABELLED, Source, open_set


def read(source: Source, *, size: int, cache: Path, fit: str = "stretch", skip_broken: bool = False) -> ImageSet:
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
        raise ValueError(f"{name}: NaN or infinite pixels in {', '.join(ids[i] for i in facts.not_finite[:3])}")
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
            published = None  # it counts clips or patients, so it is not compared with a number of images
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
        grouped="group" in items.rows[0],
        origins=_origins(data, ids),
    )


def contents_of(data: Any, items: DiskCache) -> dict[str, str]:
    """Hash what must not change when a run is continued: files, and each case's class and group.

    Files are hashed and not the pixels of items, which another processor may round differently; of tables, the
    entries of each case.
    """
    contents = {f"file {name}": digest[:16] for name, digest in items.hashes.items()}
    for row in items.rows:
        known = [data.classes[row["label"]] if "label" in row else None, str(row.get("group"))]
        digest = hashlib.sha256(json.dumps(known).encode()).hexdigest()
        contents[f"class and group of {row['id']}"] = digest[:16]
    return contents


def _origins(data: Any, ids: Sequence[str]) -> tuple[str, ...]:
    """The scanner of each case, if the reader provides it."""
    devices = getattr(data, "devices", None)
    if devices is None:
        return ()
    known = dict(zip(map(str, data.ids), devices, strict=True))
    return tuple(known[name] for name in ids)


def _inside(data: Any, source: Source) -> str:
    """The subfolder that is read, in words, where the set is not in the given folder itself."""
    place = getattr(data, "root", None)
    return "" if place is None or Path(place) == Path(source.place) else f" in {Path(place).name}"


def part_of(data: ImageSet, *, share: float, seed: int) -> ImageSet:
    """A share of a set, by whole groups, the classes in proportion."""
    index = splits.label_fraction(np.arange(len(data)), share, groups=data.groups, labels=data.labels, seed=seed)
    return data.only(sorted(int(i) for i in index))


def joined(parts: Sequence[ImageSet], *, share: float, seed: int) -> ImageSet:
    """Join a share of each of several sets into one, by whole groups and classes in proportion.

    Classes are identified by their names; ids and groups begin with their set's name. Two sets of one kind, as two
    of your own, may have the same patients: their ids differ, and groups of one name stay together.

    Raises:
        ValueError: a class of one set and a class of another differ in upper and lower case only, or the sets have
            different structures.
    """
    taken = [part_of(part, share=share, seed=seed) for part in parts]
    labels = [label for part in taken for label in part.labels or ()]
    kinds = [part.name for part in taken]
    names = [f"{kind} {kinds[: k + 1].count(kind)}" if kinds.count(kind) > 1 else kind for k, kind in enumerate(kinds)]
    classes = tuple(dict.fromkeys(name for part in taken for name in part.classes))
    if len({name.lower() for name in classes}) < len(classes):
        raise ValueError(
            f"{' and '.join(names)} have classes that differ in upper and lower case only: {', '.join(classes)}"
        )
    count = sum(len(part) for part in taken)
    structures = taken[0].structures
    for name, part in zip(names, taken, strict=True):
        if part.structures != structures:
            here, there = (", ".join(found) or "none" for found in (structures, part.structures))
            raise ValueError(f"{names[0]} and {name} have different structures: {here} and {there}")
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
        rows=[(int(first) + k, row) for first, part in zip(before, taken, strict=False) for k, row in part.rows],
        size=taken[0].size,
        notes=[
            line
            for name, part in named
            for line in (f"{share:.0%} of {name}: {len(part)} images", *(f"{name}: {n}" for n in part.notes))
        ],
        classes=classes,
        structures=structures,
        contents={f"{name}: {k}": v for name, part in named for k, v in part.contents.items()},
        tiny=tuple(f"{name}/{i}" for name, part in named for i in part.tiny),
        skipped={f"{name}/{k}": v for name, part in named for k, v in part.skipped.items()},
        outlined=sum((part.outlined for part in taken), ()),
        grouped=all(part.grouped for part in taken),
        origins=tuple(
            f"{name}, {origin}" if origin else name
            for name, part in named
            for origin in (part.origins or [""] * len(part))
        ),
    )
