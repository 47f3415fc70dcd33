"""What a run reads: every image decoded and checked before any training, split by group, and free of leaks."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import TensorDataset

from sslmed.data import BUSBRA, BUSI, Phantom, UnlabelledImages, splits

_MASK = re.compile(r".+_mask(_\d+)?|mask_.+")  # as BUSI and BUS-BRA name them
FRACTIONS = (0.7, 0.1, 0.2)  # train, validation, test: Ellis et al., Table I


@dataclass(frozen=True)
class ImageSet:
    """A data set in memory.

    Attributes:
        images: (N, 1, S, S) float32 in [0, 1].
        masks: (N, 1, S, S) bool; None for unlabelled images.
        labels: class of each case by name, or None.
        groups: what must stay on one side of a split: patient, case or near duplicates.
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

    def pixels(self, index: Sequence[int]) -> TensorDataset:
        """Pairs (image, position in `index`), for pretext learning."""
        return TensorDataset(self.images[list(index)], torch.arange(len(index)))

    def pairs(self, index: Sequence[int]) -> TensorDataset:
        """Pairs (image, mask), for segmentation."""
        if self.masks is None:
            raise ValueError(f"{self.name} has no masks: it serves pretext learning only")
        return TensorDataset(self.images[list(index)], self.masks[list(index)])

    def items(self, index: Sequence[int]) -> list[dict[str, Any]]:
        """Cases as the splits module compares them: id, group and image."""
        return [{"id": self.ids[i], "group": self.groups[i], "image": self.images[i]} for i in index]


def read(data: str, *, size: int, phantoms: int, seed: int, option: str = "--data") -> ImageSet:
    """Read the phantom, a BUSI or BUS-BRA folder, or any folder of images, at size x size pixels.

    Args:
        data: `phantom` or a folder.
        size: pixels a side.
        phantoms: number of synthetic images.
        seed: seed of the synthetic images.
        option: what the user gave `data` to, for messages.

    Raises:
        ValueError, OSError: the folder is missing or empty, or a file in it is broken; the message names it.
    """
    if data == "phantom":
        return _collect("Phantom", f"synthetic B-mode, seed {seed}", Phantom(phantoms, size=size, seed=seed))
    root = Path(data)
    if not root.exists():
        raise FileNotFoundError(
            f"{option} {data}: no such folder (give a folder, or `phantom` for synthetic images)"
        )
    if not root.is_dir():
        raise NotADirectoryError(f"{option} {data} is a file; a folder was expected")
    source = os.path.relpath(root) if not root.is_absolute() else root.name
    if _holds(root, lambda folder: {"benign", "malignant", "normal"} & set(os.listdir(folder))):
        return _collect("BUSI", source, BUSI(root, size=size, allow_partial=True))
    if _holds(root, lambda folder: "bus_data.csv" in os.listdir(folder)):
        return _collect("BUS-BRA", source, BUSBRA(root, size=size, allow_partial=True))
    scans = UnlabelledImages(root, size=size)
    masks = [name for name in scans.ids if _MASK.fullmatch(Path(name).stem)]
    if masks:
        raise ValueError(
            f"{option} {data} would be read as unlabelled images, but holds {len(masks)} masks, as {masks[0]}; "
            "name the whole BUSI or BUS-BRA folder, or a folder without masks"
        )
    return _collect("unlabelled images", source, scans)


def _holds(root: Path, fits: Callable[[Path], Any]) -> bool:
    folders = [root, *(entry for entry in sorted(root.iterdir()) if entry.is_dir())]
    return any(fits(folder) for folder in folders)


def _collect(name: str, source: str, data: Any) -> ImageSet:
    print(f"reading {len(data)} images of {name} at {data.size} px", flush=True)
    items = [data[i] for i in range(len(data))]
    images = torch.stack([item["image"] for item in items])
    ids = [item["id"] for item in items]
    if not torch.isfinite(images).all():
        bad = [i for i, image in zip(ids, images, strict=True) if not torch.isfinite(image).all()]
        raise ValueError(f"{name}: NaN or infinite pixels in {', '.join(bad[:3])}")
    labelled = "mask" in items[0]
    labels = [data.classes[item["label"]] for item in items] if "label" in items[0] else None
    notes = []
    if "group" in items[0]:
        groups = [item["group"] for item in items]
    else:
        found = splits.near_duplicates(images)
        groups = [ids[int(first)] for first in found]
        notes.append(
            f"no groups come with these images: {len(ids) - len(set(groups))} near duplicates were found by "
            "correlation above 0.95" + (" and kept on one side of each split" if labelled else "")
        )
    counts = {"images": len(ids)} | dict(sorted(Counter(labels or ()).items()))
    published = getattr(data, "published", None)
    if published is not None and sum(published.values()) != len(ids):
        notes.append(f"a partial set: {len(ids)} of the {sum(published.values())} published images")
    if labelled:
        empty = sum(not bool(item["mask"].any()) for item in items)
        counts["without lesion"] = empty
    return ImageSet(
        name=name,
        source=source,
        images=images,
        masks=torch.stack([item["mask"] for item in items]) if labelled else None,
        labels=labels,
        ids=ids,
        groups=groups,
        counts=counts,
        published=published,
        notes=notes,
    )


@dataclass(frozen=True)
class Split:
    """Positions of the cases of each part, and of the labelled ones by fraction."""

    train: list[int]
    val: list[int]
    test: list[int]
    labelled: dict[float, list[int]]

    def ids(self, data: ImageSet) -> dict[str, Any]:
        """The same as ids, for splits.json."""
        name = data.ids.__getitem__
        return {
            "train": [name(i) for i in self.train],
            "val": [name(i) for i in self.val],
            "test": [name(i) for i in self.test],
            "labelled": {
                f"{fraction:g}": [name(i) for i in index] for fraction, index in self.labelled.items()
            },
        }


def split(data: ImageSet, *, labels: Sequence[float], seed: int) -> Split:
    """70 / 10 / 20 % by group, stratified by class; the labelled parts of train are nested.

    Raises:
        ValueError: a part, or a label fraction, would be empty, or its labelled cases show no lesion.
    """
    if data.masks is None:
        raise ValueError(f"{data.name} has no masks to split for segmentation")
    try:
        parts = splits.group_split(data.groups, FRACTIONS, labels=data.labels, seed=seed)
    except ValueError as error:
        raise ValueError(
            f"--data holds too few images to split 70/10/20 %: {len(data.ids)} in {len(set(data.groups))} groups "
            f"({error})"
        ) from error
    train, val, test = ([int(i) for i in part] for part in parts)
    classes = None if data.labels is None else [data.labels[i] for i in train]
    labelled = {}
    for fraction in labels:
        try:
            chosen = splits.label_fraction(np.asarray(train), fraction, labels=classes, seed=seed)
        except ValueError as error:
            raise ValueError(f"--labels {fraction:g}: {error}") from error
        labelled[fraction] = sorted(int(i) for i in chosen)
        if len(labelled[fraction]) < 2:
            raise ValueError(
                f"--labels {fraction:g} leaves {len(labelled[fraction])} labelled case of {len(train)}"
            )
        if not data.masks[labelled[fraction]].any():
            raise ValueError(
                f"--labels {fraction:g} leaves {len(labelled[fraction])} labelled cases of {len(train)} without any "
                "lesion in their masks (seed "
                f"{seed}): there is nothing to learn to outline"
            )
    return Split(train, val, test, labelled)


def check_disjoint(pretext: list[dict[str, Any]], held_out: list[dict[str, Any]], *, same_set: bool) -> str:
    """Raise if pretext learning would see a held-out case; else return one line that says what was compared.

    Names mean nothing across sets (any two may have a patient 1), so there only pixels are compared.
    """
    if not same_set:
        pretext, held_out = ([{"image": item["image"]} for item in part] for part in (pretext, held_out))
    try:
        splits.assert_disjoint(pretext, held_out)
    except ValueError as error:
        raise ValueError(f"pretext learning would see validation or test images: {error}") from error
    what = "no id, no group and no identical pixels" if same_set else "no picture, exact or nearly"
    return (
        f"the {len(pretext)} pretext images and the {len(held_out)} validation and test images share {what}"
    )


def without_copies(pretext: ImageSet, held_out: torch.Tensor) -> tuple[list[int], list[str]]:
    """Positions of the pretext images that copy no held-out image, and the ids of those that do.

    A copy is an image whose 64 x 64 thumbnail correlates above 0.95 with a held-out one, so that a saved-again or
    resized copy is found too.
    """
    groups = splits.near_duplicates(torch.cat([held_out, pretext.images]))
    taken = {int(g) for g in groups[: len(held_out)]}
    own = [int(g) for g in groups[len(held_out) :]]
    return [i for i, g in enumerate(own) if g not in taken], [
        pretext.ids[i] for i, g in enumerate(own) if g in taken
    ]
