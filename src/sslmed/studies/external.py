"""External test sets: whole sets that every cell is tested on, and that share nothing with the training images."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from ..data import splits
from . import splitting
from .image_set import ImageSet
from .sources import PHANTOM, Source


def read_test_sets(
    sources: Sequence[Source], trained: Sequence[ImageSet], read: Callable[[Source], ImageSet]
) -> dict[str, ImageSet]:
    """Read the test sets, each under a name that neither another one nor a labelled set has.

    Args:
        sources: of the test sets.
        trained: the labelled sets.
        read: reads a source.

    Raises:
        ValueError: a folder is given twice.
    """
    places = [source.place for source in sources]
    if twice := [place for k, place in enumerate(places) if place in places[:k] and place != PHANTOM]:
        raise ValueError(f"{sources[0].option} lists {twice[0]} twice")
    found = [read(source) for source in sources]
    kinds = [images.name for images in (*trained, *found)]
    names = [f"{one.name} ({one.source})" if kinds.count(one.name) > 1 else one.name for one in found]
    names = [f"{name} {names[: k + 1].count(name)}" if names.count(name) > 1 else name for k, name in enumerate(names)]
    return dict(zip(names, found, strict=True))


def in_classes_of(images: ImageSet, trained: ImageSet) -> ImageSet:
    """A test set with the classes that a network was trained on, where its own cases have no others."""
    known = set(images.labels or ()) <= set(trained.classes)
    return replace(images, classes=trained.classes) if images.labels is not None and known else images


def without_shared(
    images: ImageSet,
    tests: Mapping[str, ImageSet],
    *,
    option: str,
    test_option: str,
    threshold: float,
    leave_out: bool,
) -> tuple[ImageSet, list[str], list[str]]:
    """The images of the training side without those that a test set shares: patients, and copies of its pictures.

    A copy is an identical picture or a near duplicate, as `splits.near_duplicates` finds them. Patients are compared
    where both sets are of one kind and come with groups; file names, which two hospitals may share, are not.

    Args:
        images: what pretexts or networks learn from.
        tests: the test sets by name.
        option: what the user gave the images to, for messages.
        test_option: what the user gave the test sets to.
        threshold: correlation above which two pictures may be copies.
        leave_out: leave out what is shared, instead of refusing it.

    Returns:
        The images that are left, and lines on what was left out and on what was compared.

    Raises:
        ValueError: something is shared and `leave_out` is off, or fewer than two images would be left.
    """
    notes, checks = [], []
    for name, test in tests.items():
        patients = _shared_groups(images, test)
        kept, copies = splitting.without_copies(images, test, range(len(test)), threshold=threshold)
        kept = [i for i in kept if images.groups[i] not in patients]
        shared = [f"{len(patients)} patients or groups, as {min(patients)}"] if patients else []
        shared += [f"{len(copies)} pictures, exactly or nearly, as {copies[0]}"] if copies else []
        if shared and not leave_out:
            raise ValueError(
                f"{test_option}: {name} shares with {option} {images.name} {' and '.join(shared)}; "
                "--leave-out-copies trains without them"
            )
        if len(kept) < 2:
            raise ValueError(f"{option} leaves {len(kept)} images of {images.name} without those that {name} shares")
        if shared:
            left = len(images) - len(kept)
            notes.append(f"{left} images of {images.name} were left out, since {name} shares {' and '.join(shared)}")
            images = images.only(kept)
        _check_disjoint(images, test, option=f"{test_option}: {name} and {option} {images.name}")
        checks.append(
            f"the {len(images)} images of {images.name} and the {len(test)} test images of {name} share no picture, "
            "exact or nearly" + (", and no group" * _comparable(images, test))
        )
    return images, notes, checks


def _comparable(images: ImageSet, test: ImageSet) -> bool:
    """Whether equal groups are the same patients: both sets are of one kind, and come with groups."""
    return images.name == test.name and images.grouped and test.grouped


def _shared_groups(images: ImageSet, test: ImageSet) -> set[str]:
    return set(images.groups) & set(test.groups) if _comparable(images, test) else set()


def _check_disjoint(images: ImageSet, test: ImageSet, *, option: str) -> None:
    """Raise if pixels are shared. Ids and groups get prefixes, since groups were compared before."""
    sides = [
        replace(one, ids=[f"{side}/{i}" for i in one.ids], groups=[f"{side}/{g}" for g in one.groups])
        for side, one in (("training", images), ("test", test))
    ]
    try:
        splits.assert_disjoint(*(one.items(range(len(one))) for one in sides))
    except ValueError as error:
        raise ValueError(f"{option}: {error}") from error
