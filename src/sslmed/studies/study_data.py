"""The images of a study: read, split for each seed, and checked for images that are in two parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..augment import views
from . import external, splitting
from .data_spec import TRAIN, DataSpec
from .image_set import ImageSet
from .pixels import Numbered
from .reading import joined, part_of, read
from .sample import Sample
from .sources import Source


class StudyData:
    """What a study trains and tests on; the pixels stay on disk.

    Args:
        spec: the sets and how to divide them.

    Attributes:
        data: the labelled set.
        pools: more images for the pretext, by name.
        test_sets: more sets to test on, by name.
        labelled: whether `data` has what fine-tuning needs; else it is for pretext learning only.
        splits: parts of `data` by seed; empty for unlabelled images.
        notes: what a reader of the results should know of the images.
        checks: what was compared to rule out leaks.

    Raises:
        ValueError, OSError: anything in the images that would stop the run later, or make its results worthless.
    """

    def __init__(self, spec: DataSpec) -> None:
        self.spec = spec
        sources = (spec.labelled, *spec.joined)
        parts = [self._read(source) for source in sources]
        self._check_parts(parts)
        pools = {name: self._read(source) for name, source in spec.pools.items()}
        self.notes: list[str] = []
        self.checks: list[str] = []
        self.test_sets: dict[str, ImageSet] = external.read_test_sets(spec.test_sets, parts, self._read)
        splitting.check_spelling(
            [
                *((source.option, part) for source, part in zip(sources, parts, strict=True)),
                *((spec.pools[name].option, pool) for name, pool in pools.items()),
                *((spec.test_sets[0].option, images) for images in self.test_sets.values()),
            ]
        )
        parts = [self._apart(part, source.option) for part, source in zip(parts, sources, strict=True)]
        self.pools: dict[str, ImageSet] = {
            name: self._apart(pool, spec.pools[name].option) for name, pool in pools.items()
        }
        self.data: ImageSet
        if len(parts) == 1:
            self.data = parts[0]
            self._patients = [f"{self.data.name}/{group}" for group in self.data.groups]
        else:
            whole = joined(parts, share=spec.share, seed=0)
            self._patients = whole.groups  # which begin with their set's name
            self.data, copied = splitting.with_copies_together(whole, threshold=self._copies_above)
            if copied:
                self.notes.append(f"{copied} groups have near copies in others; each stays in one part with its copies")
        self._grouped = {part.name for part in parts if part.grouped}
        self.labelled: bool = self.data.has_masks if spec.outlined else self.data.labels is not None
        self.notes += self.data.notes
        self.test_sets = {name: external.in_classes_of(one, self.data) for name, one in self.test_sets.items()}
        if spec.share < 1:  # as of the labelled sets
            self.pools = {name: part_of(pool, share=spec.share, seed=0) for name, pool in self.pools.items()}
        for name, pool in self.pools.items():
            self.notes += [f"{name}: {note}" for note in pool.notes]
        for name, images in self.test_sets.items():
            self.notes += [f"test set {name}: {note}" for note in images.notes]
        self._check_use()
        self.splits: dict[int, splitting.Split] = {}
        self._chosen: dict[int, dict[str, list[int]]] = {}
        for seed in spec.seeds:
            self._divide(seed)

    def _read(self, source: Source) -> ImageSet:
        spec = self.spec
        return read(source, size=spec.size, cache=spec.cache, fit=spec.fit, skip_broken=spec.skip_broken)

    @property
    def skipped(self) -> dict[str, str]:
        """The reason for each file that was left out; the names of a pool's or test set's files begin with its own."""
        others = self.pools | self.test_sets
        return dict(self.data.skipped) | {f"{name}/{k}": v for name, o in others.items() for k, v in o.skipped.items()}

    def at(self, size: int) -> ImageSet:
        """`data` at the size of fine-tuning; notes the masks that show a structure smaller than a pixel there."""
        return self._resized(self.data, size)

    def test_sets_at(self, size: int) -> dict[str, ImageSet]:
        """The test sets at the size of fine-tuning, noted likewise."""
        return {name: self._resized(images, size) for name, images in self.test_sets.items()}

    def _resized(self, images: ImageSet, size: int) -> ImageSet:
        small = images.at(size)
        if small.tiny:
            note = (
                f"{len(small.tiny)} masks show a structure smaller than a pixel at {size} px, as {small.tiny[0]}: one "
                "pixel of it is kept, so finding nothing there scores 0"
            )
            self.notes += [note] if note not in self.notes else []
        return small

    def pretext(self, seed: int, mix: str = "") -> Numbered:
        """Pairs (image, position) of the images that a pretext learns from."""
        return Numbered(
            (self.data if name == TRAIN else self.pools[name], self._chosen[seed][name])
            for name in self.spec.mixes[mix]
        )

    def sample(self, seed: int, size: int) -> Sample:
        """At most `size` images of the labelled set's training part, with their classes, to watch a pretext by."""
        data, spec = self.data, self.spec
        index = self.splits[seed].train if seed in self.splits else range(len(data))
        chosen = [index[i] for i in np.random.default_rng(0).permutation(len(index))[:size].tolist()]
        return Sample.of(
            data.images(chosen),
            views.simclr(spec.size, modality=spec.modality),
            [data.groups[i] for i in chosen],
            data.class_numbers(chosen) if data.labels is not None else None,
            classes=len(data.classes),
        )

    def pretext_ids(self, seed: int) -> list[str]:
        """Ids of all images that any pretext learns from; those of a pool begin with its name."""
        used = dict.fromkeys(name for mix in self.spec.mixes.values() for name in mix)
        return [
            self.data.ids[i] if name == TRAIN else f"{name}/{self.pools[name].ids[i]}"
            for name in used
            for i in self._chosen[seed][name]
        ]

    @property
    def _copies_above(self) -> float:
        """Correlation above which two pictures may be copies."""
        # Neighbouring slices, and those of two patients, are as alike as a picture and its copy.
        return 0.99 if self.spec.unit == "volumes" else 0.95

    def _apart(self, images: ImageSet, option: str) -> ImageSet:
        """Images of the training side, without what the test sets share with them."""
        kept, notes, checks = external.without_shared(
            images,
            self.test_sets,
            option=option,
            test_option=self.spec.test_sets[0].option if self.spec.test_sets else "",
            threshold=self._copies_above,
            leave_out=self.spec.leave_out_copies,
        )
        self.notes += notes
        self.checks += checks
        return kept

    def _check_parts(self, parts: Sequence[ImageSet]) -> None:
        """Check that all of several labelled sets have what fine-tuning needs, or none of them."""
        lacking = [p for p in parts if not (p.has_masks if self.spec.outlined else p.labels is not None)]
        if 0 < len(lacking) < len(parts):
            what = "masks" if self.spec.outlined else "classes"
            raise ValueError(
                f"{self.spec.labelled.option} joins sets with {what} and without: {lacking[0].name} "
                f"({lacking[0].source}) has none"
            )

    def _check_use(self) -> None:
        """Check that the images can be used as their options say."""
        data, source = self.data, self.spec.labelled
        lacking = "masks" if self.spec.outlined else "classes"
        if not self.labelled:
            if self.spec.test_sets and not self.spec.name:
                raise ValueError(
                    f"{self.spec.test_sets[0].option} would not be used, since {source.option} {source.place} has no "
                    f"{lacking} to fine-tune on"
                )
            # With several domains each needs labels: the run then reports what its targets lack.
            for pool in self.spec.pools.values() if not self.spec.name else ():
                raise ValueError(
                    f"{pool.option} {pool.place} would not be used, since {source.option} {source.place} has no "
                    f"{lacking} to fine-tune on; give one of them, as {source.option}"
                )
            if len(data) < 2:
                raise ValueError(f"{source.option} {source.place} holds one image; pretext learning needs at least two")
        elif self.spec.outlined and not any(data.outlined):
            raise ValueError(f"{source.option} {source.place} shows no lesion in any of its {len(data)} masks")
        if self.spec.unit == "volumes" and not data.has_label_maps:
            raise ValueError(
                f"{source.option} {source.place}, read as {data.name}, has no numbered structures; give a Decathlon "
                "task"
            )

    def _divide(self, seed: int) -> None:
        """Split for one seed, choose the pretext images, and check that they copy no held-out case."""
        data, spec = self.data, self.spec
        if not self.labelled:
            self._chosen[seed] = {TRAIN: list(range(len(data)))}
            return
        split = self.splits[seed] = splitting.split(
            data,
            fractions=spec.fractions,
            labels=spec.labels,
            unit=spec.unit,
            seed=seed,
            everything=spec.everything,
            volumes=spec.volumes,
            folds=spec.folds,
            parts_seed=spec.parts_seed,
            outlined=spec.outlined,
            option=spec.labelled.option,
        )
        line = splitting.check_parts(data, split, option=spec.labelled.option)
        self.checks.append(f"seed {seed}: {line}")
        if lacking := splitting.absent_classes(data, split):
            self.notes.append(f"seed {seed}: {lacking}")
        # With folds one pretext serves all of them, so what is tested in any of them is held out.
        held_out = split.val + split.test if spec.folds is None else list(range(len(data)))
        self._chosen[seed] = {TRAIN: split.train}
        for name in dict.fromkeys(name for mix in spec.mixes.values() for name in mix if name != TRAIN):
            chosen = self._chosen[seed][name] = self._without_copies(name, held_out, seed)
            self.checks.append(
                f"seed {seed}, {name}: the {len(chosen)} pretext images and the {len(held_out)} validation and test "
                "images share no exact or near copies"
            )

    def _without_copies(self, name: str, held_out: list[int], seed: int) -> list[int]:
        source, option = self.pools[name], self.spec.pools[name].option
        chosen, copies = splitting.without_copies(source, self.data, held_out, threshold=self._copies_above)
        shared = set[str]()
        if source.grouped and source.name in self._grouped:  # equal groups of one kind of set are the same patients
            held = {self._patients[i] for i in held_out}
            shared = {group for group in source.groups if f"{source.name}/{group}" in held}
            chosen = [i for i in chosen if source.groups[i] not in shared]
        found = [f"{len(copies)} images copy a validation or test image, as {copies[0]}"] if copies else []
        if shared:
            found.append(f"{len(shared)} patients or groups are in the validation or test part, as {min(shared)}")
        if found and not self.spec.leave_out_copies:
            raise ValueError(f"{option}: {' and '.join(found)}; --leave-out-copies trains without them")
        if len(chosen) < 2:
            raise ValueError(f"{option} leaves {len(chosen)} images without those of the validation and test parts")
        if found:
            left_out = len(source) - len(chosen)
            self.notes.append(f"seed {seed}: {left_out} images of {name} were left out: {' and '.join(found)}")
        return chosen

    def contents(self) -> dict[str, str]:
        """The hashes of contents.json: of every file, and of every case's class and group, by set."""
        tests = {f"test set {name}": images for name, images in self.test_sets.items()}
        return {
            ", ".join(filter(None, (self.spec.name, part, name))): value
            for part, data in ({"": self.data} | self.pools | tests).items()
            for name, value in data.contents.items()
        }

    def grown_splits(self, recorded: Mapping[str, Any], folder: Path) -> dict[str, Any]:
        """The parts of these seeds, with the labels that are recorded already; raise where the two disagree."""
        grown = {}
        for seed in self._chosen:
            key = f"{self.spec.name}/{seed}" if self.spec.name else str(seed)
            parts: dict[str, Any] = {"pretext": self.pretext_ids(seed)}
            if seed in self.splits:
                parts |= self.splits[seed].ids(self.data)
            if self.test_sets:
                parts["test_sets"] = {name: images.ids for name, images in self.test_sets.items()}
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
        data = self.data
        counts = data.counts | {f"more for the pretext ({name})": len(pool) for name, pool in self.pools.items()}
        return {
            "name": data.name,
            "source": data.source,
            "counts": counts,
            "published": data.published and dict(data.published),
            "groups": len(set(data.groups)),
            "notes": self.notes,
            "checks": self.checks,
            "skipped": self.skipped,
            "test_sets": {name: len(images) for name, images in self.test_sets.items()},
        }
