"""The parts of a set for one seed, and the checks that nothing leaks between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from ..data import splits
from ..data._names import lookalikes
from .cells import amount
from .image_set import ImageSet
from .pixels import Pictures


@dataclass(frozen=True)
class Split:
    """Positions of the cases of each part, and of the labelled ones by amount."""

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
            "labelled": {f"{labels:g}": [name(i) for i in index] for labels, index in self.labelled.items()},
        }


def split(
    data: ImageSet,
    *,
    fractions: tuple[float, float, float],
    labels: Sequence[float],
    unit: str,
    seed: int,
    everything: bool = False,
    volumes: tuple[int, int, int] | None = None,
    folds: int | None = None,
    parts_seed: int | None = None,
    outlined: bool = True,
    option: str = "--data",
) -> Split:
    """Split by group, stratified by class; the labelled parts of train are nested.

    Args:
        data: a set with masks or classes.
        fractions: of training, validation and test cases.
        labels: shares of the training cases, or numbers of training volumes.
        unit: "%" or "volumes": which of these `labels` holds.
        seed: of the draw of labelled cases.
        everything: also label all training volumes.
        volumes: numbers of training, validation and test volumes, instead of `fractions`.
        folds: number of folds, instead of `fractions`: fold `seed` is tested, the next one validates, the others train.
        parts_seed: of the parts; None for `seed`.
        outlined: whether the labelled cases must show a lesion; else they must be of two classes.
        option: the option that named the set, for messages.

    Raises:
        ValueError: a part, or the labelled cases, would be empty, or show no lesion or no two classes.
    """
    parts_seed = seed if parts_seed is None else parts_seed
    if volumes is not None:
        train, val, test = _counted(data, volumes, seed=parts_seed, option=option)
    elif folds is not None:
        # Each fold needs lesions; without folds, the parts of sets without classes stay as they are.
        kinds = data.outlined or None
        into = f"into {folds} folds"
        parts = _parts(data, (1 / folds,) * folds, seed=parts_seed, option=option, into=into, kinds=kinds)
        test, val, *others = parts[seed:] + parts[:seed]
        train = sorted(i for part in others for i in part)
    else:
        shares = "/".join(f"{f * 100:g}" for f in fractions)
        train, val, test = _parts(data, fractions, seed=parts_seed, option=option, into=f"{shares} %")
    labelled = {}
    for number in labels:
        chosen = (
            _volumes(data, train, number, seed=seed) if unit == "volumes" else _share(data, train, number, seed=seed)
        )
        if len(chosen) < 2:
            raise ValueError(f"--labels {number:g} leaves {len(chosen)} labelled case of {len(train)}")
        if outlined and data.has_masks and not any(data.outlined[i] for i in chosen):
            raise ValueError(
                f"--labels {number:g} leaves {len(chosen)} labelled cases of {len(train)} without any lesion in "
                f"their masks (seed {seed}): fine-tuning needs a lesion"
            )
        if not outlined and data.labels is not None and len({data.labels[i] for i in chosen}) < 2:
            raise ValueError(
                f"--labels {number:g} leaves {len(chosen)} labelled cases of {len(train)}, all "
                f"{data.labels[chosen[0]]} (seed {seed}): fine-tuning needs two classes"
            )
        labelled[number] = chosen
    if everything:
        labelled[len({data.groups[i] for i in train})] = train
    return Split(train, val, test, labelled)


def _parts(
    data: ImageSet,
    fractions: Sequence[float],
    *,
    seed: int,
    option: str,
    into: str,
    kinds: Sequence[Any] | None = None,
) -> list[list[int]]:
    """Parts of these sizes, by group, stratified by class, or by kind where there are no classes."""
    try:
        parts = splits.group_split(data.groups, fractions, labels=data.labels or kinds, seed=seed)
    except ValueError as error:
        raise ValueError(
            f"{option} holds too few images to split {into}: {len(data)} in {len(set(data.groups))} groups ({error})"
        ) from error
    return [[int(i) for i in part] for part in parts]


def _counted(data: ImageSet, volumes: tuple[int, int, int], *, seed: int, option: str) -> list[list[int]]:
    """Three parts with these numbers of volumes, which must add up to all volumes."""
    names = sorted(set(data.groups))
    if sum(volumes) != len(names):
        counts = "/".join(map(str, volumes))
        raise ValueError(f"--split {counts} divides {sum(volumes)} volumes, and {option} holds {len(names)}")
    order = np.random.default_rng([seed, 5]).permutation(len(names))
    ends = np.cumsum(volumes)[:-1]
    parts = [{names[k] for k in chosen} for chosen in np.split(order, ends)]
    return [[i for i, name in enumerate(data.groups) if name in part] for part in parts]


def _share(data: ImageSet, train: list[int], fraction: float, *, seed: int) -> list[int]:
    classes = None if data.labels is None else [data.labels[i] for i in train]
    try:
        chosen = splits.label_fraction(np.asarray(train), fraction, labels=classes, seed=seed)
    except ValueError as error:
        raise ValueError(f"--labels {fraction:g}: {error}") from error
    return sorted(int(i) for i in chosen)


def _volumes(data: ImageSet, train: list[int], number: float, *, seed: int) -> list[int]:
    volumes = sorted({data.groups[i] for i in train})
    if number < 1 or number != int(number):
        raise ValueError(f"--labels {number:g}: a number of volumes must be an integer of at least 1")
    if number > len(volumes):
        raise ValueError(f"--labels {amount(number, 'volumes')}: only {len(volumes)} are for training")
    order = np.random.default_rng([seed, 4]).permutation(len(volumes))
    chosen = {volumes[k] for k in order[: int(number)]}
    return [i for i in train if data.groups[i] in chosen]


def absent_classes(data: ImageSet, parts: Split) -> str:
    """The classes that a part lacks, as when few patients have a class; empty where no part lacks one."""
    lacking = []
    for what, part in (("training", parts.train), ("validation", parts.val), ("test", parts.test)):
        there = {data.labels[i] for i in part} if data.labels is not None else set(data.classes)
        absent = [name for name in data.classes if name in (data.labels or ()) and name not in there]
        lacking += [f"no {' and no '.join(absent)} in the {what} part"] if absent else []
    return ", ".join(lacking)


def check_spelling(sets: Sequence[tuple[str, ImageSet]]) -> None:
    """Raise where sets of one kind, whose equal groups are the same patients, have groups that look alike.

    Args:
        sets: all that are read, each with the option that named it.

    Raises:
        ValueError: one patient may be spelled in two ways, so that two parts may share it unseen.
    """
    grouped = [(option, images) for option, images in sets if images.grouped]
    for kind in dict.fromkeys(images.name for _, images in grouped):
        own = [(option, images) for option, images in grouped if images.name == kind]
        alike = lookalikes(group for _, images in own for group in images.groups) if len(own) > 1 else None
        if alike:
            raise ValueError(
                f"{' and '.join(dict.fromkeys(option for option, _ in own))}: the groups {alike[0]!r} and {alike[1]!r} "
                "look alike; if they are one patient, spell them alike, else more differently"
            )


def check_parts(data: ImageSet, parts: Split, *, option: str) -> str:
    """Raise if one image is in two parts, as it may be in two groups; else return one line on what was compared."""
    pairs = (parts.train, [*parts.val, *parts.test]), (parts.val, parts.test)
    for one, other in pairs:
        try:
            splits.assert_disjoint(data.items(one), data.items(other))
        except ValueError as error:
            raise ValueError(
                f"{option} has one image in two groups, which the split may separate: {error}; give both one group, "
                "or leave one out"
            ) from error
    return (
        f"the {len(parts.train)} training, {len(parts.val)} validation and {len(parts.test)} test images share no id, "
        "no group and no identical pixels"
    )


def with_copies_together(data: ImageSet, *, threshold: float) -> tuple[ImageSet, int]:
    """The set with the groups of near copies joined, so that a split keeps an image and its copies in one part.

    Returns:
        The set, and the number of groups that were joined to another one.
    """
    alike = splits.near_duplicates(Pictures((data, range(len(data)))), threshold=threshold)
    names, groups = np.unique(data.groups, return_inverse=True)
    copies = coo_array((np.ones(len(data)), (groups, groups[alike])), shape=(len(names), len(names)))
    count, component = connected_components(copies, directed=False)
    first = {int(one): str(name) for name, one in zip(reversed(names), reversed(component), strict=True)}
    return replace(data, groups=[first[int(component[k])] for k in groups]), len(names) - count


def without_copies(
    pretext: ImageSet, data: ImageSet, held_out: Sequence[int], *, threshold: float
) -> tuple[list[int], list[str]]:
    """Positions of the pretext images that copy no held-out image of `data`, and the ids of those that do.

    A copy is a near duplicate of a held-out image, as `splits.near_duplicates` finds them: saved again, resized,
    mirrored, rotated by right angles, or cropped a little. The other images of a copy's group, as the slices of its
    volume, are left out as well.
    """
    pictures = Pictures((data, held_out), (pretext, range(len(pretext))))
    alike = splits.near_duplicates(pictures, threshold=threshold)
    taken = {int(first) for first in alike[: len(held_out)]}
    copies = [i for i, first in enumerate(alike[len(held_out) :]) if int(first) in taken]
    groups = {pretext.groups[i] for i in copies}
    return [i for i, group in enumerate(pretext.groups) if group not in groups], [pretext.ids[i] for i in copies]
