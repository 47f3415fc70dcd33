"""The images of a run: read, checked, split for each seed, and kept from meeting in two parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import TensorDataset

from . import splitting
from .inputs import ImageSet, joined, part_of, read
from .sets import Source

TRAIN = "train"  # the mix's word for the training part of the labelled set
ALONE: Mapping[str, tuple[str, ...]] = {"": (TRAIN,)}


@dataclass(frozen=True)
class Wanted:
    """What a paper asks of a set and of its parts.

    Attributes:
        labelled: the set that is fine-tuned and tested on, or images for pretext learning only.
        pools: more images to learn a pretext from, by name.
        mixes: name -> the pools that it joins, `train` being the training part of `labelled`.
        crop: pixels a side of pretext images.
        size: pixels a side of fine-tuning images.
        fit: how images become square, "stretch" or "pad".
        fractions: of training, validation and test cases.
        labels: shares of the training cases, or numbers of volumes.
        unit: which of the two, "%" or "volumes".
        seeds: of the splits.
        everything: whether a baseline uses all training volumes too.
        parts_seed: a seed of the parts that holds for all seeds, which then draw the labelled cases only.
        leave_out_copies: leave out pool images that copy a held-out one, instead of refusing them.
        name: of the domain, where a run has several.
        outlined: whether fine-tuning needs masks; else it needs classes.
        joined: more labelled sets to join with `labelled`.
        share: of each of them, of `labelled` and of the pools.
    """

    labelled: Source
    crop: int
    size: int
    fractions: tuple[float, float, float]
    labels: Sequence[float]
    seeds: Sequence[int]
    pools: Mapping[str, Source] = field(default_factory=dict)
    mixes: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: ALONE)
    fit: str = "stretch"
    unit: str = "%"
    everything: bool = False
    parts_seed: int | None = None
    leave_out_copies: bool = False
    name: str = ""
    outlined: bool = True
    joined: tuple[Source, ...] = ()
    share: float = 1.0


class Material:
    """What a run trains and tests on.

    Args:
        wanted: the sets and how to divide them.

    Attributes:
        large: the labelled set at the pretext's size.
        small: the same at the fine-tuning's size.
        labelled: whether they have what fine-tuning needs; else they serve pretext learning only.
        splits: parts of `large` and `small` by seed; empty for unlabelled images.
        notes: what a reader of the results should know of the images.
        checks: what was compared to rule out leaks.

    Raises:
        ValueError, OSError: anything in the images that would stop the run later, or make its results worthless.
    """

    def __init__(self, wanted: Wanted) -> None:
        self.wanted = wanted
        parts = self._parts(wanted.crop)
        self.large = self.small = self._labelled(parts)
        self.labelled = (self.large.masks if wanted.outlined else self.large.labels) is not None
        if self.labelled and wanted.size != wanted.crop:
            # Near duplicates found at another size would be others, and so would the half that is joined.
            self.small = self._labelled(
                [
                    replace(small, groups=large.groups)
                    for small, large in zip(self._parts(wanted.size), parts, strict=True)
                ]
            )
        self.notes, self.checks = list(self.large.notes), list[str]()
        pools = {name: read(s, size=wanted.crop, fit=wanted.fit) for name, s in wanted.pools.items()}
        if wanted.share < 1:  # as of the labelled sets
            pools = {name: part_of(pool, share=wanted.share, seed=0) for name, pool in pools.items()}
        if tiny := self.small.tiny:
            self.notes.append(
                f"{len(tiny)} masks show a structure smaller than a pixel at {wanted.size} px, as {tiny[0]}: one pixel "
                "of it is kept, so finding nothing there scores 0"
            )
        self.pools = pools
        for name, pool in self.pools.items():
            self.notes += [f"{name}: {note}" for note in pool.notes]
        self._check_use()
        self.splits: dict[int, splitting.Split] = {}
        self._chosen: dict[int, dict[str, list[int]]] = {}
        for seed in wanted.seeds:
            self._divide(seed)

    def _parts(self, size: int) -> list[ImageSet]:
        wanted = self.wanted
        return [read(source, size=size, fit=wanted.fit) for source in (wanted.labelled, *wanted.joined)]

    def _labelled(self, parts: Sequence[ImageSet]) -> ImageSet:
        return parts[0] if len(parts) == 1 else joined(parts, share=self.wanted.share, seed=0)

    def pretext(self, seed: int, mix: str = "") -> TensorDataset:
        """Pairs (image, position) of the images that a pretext learns from."""
        parts = []
        for name in self.wanted.mixes[mix]:
            source = self.large if name == TRAIN else self.pools[name]
            parts.append(source.images[self._chosen[seed][name]])
        images = torch.cat(parts) if len(parts) > 1 else parts[0]
        return TensorDataset(images, torch.arange(len(images)))

    def pretext_ids(self, seed: int) -> list[str]:
        """Ids of all images that any pretext learns from; those of a pool stand behind its name."""
        used = dict.fromkeys(name for mix in self.wanted.mixes.values() for name in mix)
        return [
            self.large.ids[i] if name == TRAIN else f"{name}/{self.pools[name].ids[i]}"
            for name in used
            for i in self._chosen[seed][name]
        ]

    def _check_use(self) -> None:
        """Check that the images serve what they were given for."""
        data, source = self.large, self.wanted.labelled
        lacking = "masks" if self.wanted.outlined else "classes"
        if not self.labelled:
            # Of several domains none serves pretext learning alone: the run tells what its targets lack.
            for pool in self.wanted.pools.values() if not self.wanted.name else ():
                raise ValueError(
                    f"{pool.option} {pool.place} would not be used, since {source.option} {source.place} has no "
                    f"{lacking} to fine-tune on; give one of them, as {source.option}"
                )
            if len(data) < 2:
                raise ValueError(
                    f"{source.option} {source.place} holds one image; pretext learning compares two at least"
                )
        elif self.wanted.outlined and data.masks is not None and not data.masks.any():
            raise ValueError(
                f"{source.option} {source.place} shows no lesion in any of its {len(data)} masks"
            )
        if self.wanted.unit == "volumes" and data.label_maps is None:
            raise ValueError(
                f"{source.option} {source.place}, read as {data.name}, has no numbered structures; give a Decathlon "
                "task"
            )

    def _divide(self, seed: int) -> None:
        """Split for one seed, choose the pretext images, and check that they meet no held-out case."""
        data, wanted = self.large, self.wanted
        if not self.labelled:
            self._chosen[seed] = {TRAIN: list(range(len(data)))}
            return
        split = self.splits[seed] = splitting.split(
            data, fractions=wanted.fractions, labels=wanted.labels, unit=wanted.unit, seed=seed,
            everything=wanted.everything, parts_seed=wanted.parts_seed, outlined=wanted.outlined,
            option=wanted.labelled.option,
        )  # fmt: skip
        line = splitting.check_parts(data, split, option=wanted.labelled.option)
        self.checks.append(f"seed {seed}: {line}")
        if lacking := splitting.absent_classes(data, split):
            self.notes.append(f"seed {seed}: {lacking}")
        held_out = split.val + split.test
        self._chosen[seed] = {TRAIN: split.train}
        for name in dict.fromkeys(name for mix in wanted.mixes.values() for name in mix if name != TRAIN):
            chosen = self._chosen[seed][name] = self._without_copies(name, data.images[held_out], seed)
            self.checks.append(
                f"seed {seed}, {name}: the {len(chosen)} pretext images and the {len(held_out)} validation and test "
                "images share no picture, exact or nearly"
            )

    def _without_copies(self, name: str, held_out: torch.Tensor, seed: int) -> list[int]:
        source, option = self.pools[name], self.wanted.pools[name].option
        # Neighbouring slices, and those of two patients, are as alike as a picture and its copy.
        threshold = 0.99 if self.wanted.unit == "volumes" else 0.95
        chosen, copies = splitting.without_copies(source, held_out, threshold=threshold)
        if copies and not self.wanted.leave_out_copies:
            raise ValueError(
                f"{option}: {len(copies)} images copy a validation or test image, as {copies[0]}; "
                "--leave-out-copies trains without them"
            )
        if len(chosen) < 2:
            raise ValueError(f"{option} leaves {len(chosen)} images after its copies of test images are out")
        if copies:
            more = len(source) - len(chosen) - len(copies)
            self.notes.append(
                f"seed {seed}: {len(copies)} copies of held-out images were left out of {name}"
                + (f", and {more} images more of their groups" if more else "")
            )
        return chosen

    def contents(self) -> dict[str, str]:
        """The hashes of contents.json: of every file, and of every case's class and group, by set."""
        return {
            ", ".join(filter(None, (self.wanted.name, pool, name))): value
            for pool, data in {"": self.large, **self.pools}.items()
            for name, value in data.contents.items()
        }

    def grown_splits(self, recorded: Mapping[str, Any], folder: Path) -> dict[str, Any]:
        """The parts of these seeds, and more labels that are recorded of them; raise where the two disagree."""
        grown = {}
        for seed in self._chosen:
            key = f"{self.wanted.name}/{seed}" if self.wanted.name else str(seed)
            parts: dict[str, Any] = {"pretext": self.pretext_ids(seed)}
            if seed in self.splits:
                parts |= self.splits[seed].ids(self.large)
            before = recorded.get(key, {})
            labelled = before.get("labelled", {}) | parts.get("labelled", {})
            changed = [name for name in before if name != "labelled" and before[name] != parts.get(name)]
            changed += [f for f, ids in before.get("labelled", {}).items() if labelled[f] != ids]
            if changed:
                raise ValueError(
                    f"--out {folder} holds a run whose seed {seed} had other images in its parts "
                    f"({changed[0]}): the images have changed since; choose another folder"
                )
            grown[key] = parts | ({"labelled": labelled} if labelled else {})
        return grown

    def description(self) -> dict[str, Any]:
        """The content of data.json."""
        data = self.large
        counts = data.counts | {
            f"more for the pretext ({name})": len(pool) for name, pool in self.pools.items()
        }
        return {
            "name": data.name,
            "source": data.source,
            "counts": counts,
            "published": data.published and dict(data.published),
            "groups": len(set(data.groups)),
            "notes": self.notes,
            "checks": self.checks,
        }
