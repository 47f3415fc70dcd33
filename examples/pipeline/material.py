"""The images of a run: read, checked, split for each seed, and kept from meeting in two parts."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from pipeline import inputs
from pipeline.runs import read_json


class Material:
    """What a run trains and tests on.

    Args:
        args: data, pretext_data, leave_out_copies, labels, seeds.
        preset: size, crop, phantoms.

    Attributes:
        large: the set at the pretext's size.
        small: the same at the fine-tuning's size.
        splits: parts of `large` and `small` by seed; empty for unlabelled images.
        pretext: for each seed, the set to learn the pretext from and the positions to use.
        notes: what a reader of the results should know of the images.
        checks: what was compared to rule out leaks.

    Raises:
        ValueError, OSError: anything in the images that would stop the run later, or make its results worthless.
    """

    def __init__(self, args: argparse.Namespace, preset: Any) -> None:
        self.args, self.preset = args, preset
        self.large = self._read(args.data, preset.crop)
        self.small = self.large
        if self.large.masks is not None and preset.size != preset.crop:
            self.small = self._read(args.data, preset.size)
        self.notes, self.checks = list(self.large.notes), []
        self.external = (
            None
            if args.pretext_data is None
            else self._read(args.pretext_data, preset.crop, seed=1, option="--pretext-data")
        )
        self._check_use()
        self.splits: dict[int, inputs.Split] = {}
        self.pretext: dict[int, tuple[inputs.ImageSet, list[int]]] = {}
        for seed in args.seeds:
            self._divide(seed)

    def _read(self, data: str, size: int, *, seed: int = 0, option: str = "--data") -> inputs.ImageSet:
        return inputs.read(data, size=size, phantoms=self.preset.phantoms, seed=seed, option=option)

    def _check_use(self) -> None:
        """Check that the images serve what they were given for."""
        data, given = self.large, self.args.data
        if data.masks is None:
            if self.external is not None:
                raise ValueError(
                    f"--pretext-data {self.args.pretext_data} would not be used, since --data {given} has no masks "
                    "to fine-tune on; give one of them, as --data"
                )
            if len(data.ids) < 2:
                raise ValueError(f"--data {given} holds one image; pretext learning compares two at least")
        elif not data.masks.any():
            raise ValueError(f"--data {given} shows no lesion in any of its {len(data.ids)} masks")

    def _divide(self, seed: int) -> None:
        """Split for one seed, choose the pretext images, and check that they meet no held-out case."""
        data = self.large
        if data.masks is None:
            self.pretext[seed] = (data, list(range(len(data.ids))))
            return
        split = self.splits[seed] = inputs.split(data, labels=self.args.labels, seed=seed)
        held_out = split.val + split.test
        if self.external is None:
            source, chosen = data, split.train
        else:
            source = self.external
            chosen, copies = inputs.without_copies(source, data.images[held_out])
            if copies and not self.args.leave_out_copies:
                raise ValueError(
                    f"--pretext-data: {len(copies)} images copy a validation or test image, as {copies[0]}; "
                    "--leave-out-copies trains without them"
                )
            if len(chosen) < 2:
                raise ValueError(
                    f"--pretext-data leaves {len(chosen)} images after its copies of test images are out"
                )
            if copies:
                self.notes.append(
                    f"seed {seed}: {len(copies)} copies of held-out images were left out of the pretext"
                )
        line = inputs.check_disjoint(source.items(chosen), data.items(held_out), same_set=source is data)
        self.checks.append(f"seed {seed}: {line}")
        self.pretext[seed] = (source, chosen)

    def recorded_splits(self, folder: Path) -> dict[str, Any]:
        """The parts of this run's seeds, added to those of splits.json; raise where the two disagree."""
        file = folder / "splits.json"
        recorded = read_json(file) if file.exists() else {}
        for seed, (source, index) in self.pretext.items():
            parts: dict[str, Any] = {"pretext": [source.ids[i] for i in index]}
            if seed in self.splits:
                parts |= self.splits[seed].ids(self.large)
            before = recorded.get(str(seed), {})
            labelled = before.get("labelled", {}) | parts.get("labelled", {})
            changed = [name for name in before if name != "labelled" and before[name] != parts.get(name)]
            changed += [f for f, ids in before.get("labelled", {}).items() if labelled[f] != ids]
            if changed:
                raise ValueError(
                    f"--out {folder} holds a run whose seed {seed} had other images in its parts "
                    f"({changed[0]}): the images have changed since; choose another folder"
                )
            recorded[str(seed)] = parts | ({"labelled": labelled} if labelled else {})
        return recorded

    def description(self) -> dict[str, Any]:
        """The content of data.json."""
        data = self.large
        return {
            "name": data.name,
            "source": data.source,
            "counts": data.counts,
            "published": data.published and dict(data.published),
            "groups": len(set(data.groups)),
            "notes": self.notes,
            "checks": self.checks,
        }
