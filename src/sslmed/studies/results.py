"""Finished cells of a run folder and their files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from . import manifest
from .cells import Cell, amount_as_number
from .runs import read_csv, read_json


@dataclass(frozen=True)
class Curve:
    """One curves.csv: the columns as numbers, NaN where a field is empty."""

    title: str
    training: str
    columns: dict[str, list[float]]


@dataclass(frozen=True)
class Result:
    """One finished cell: which it is, where its files are, and its result.json.

    Attributes:
        cell: which it is.
        folder: where the files of its test are.
        summary: of that test.
        test_sets: name of each external test set -> its folder below the cell's.
        test_set: the external test set that this result is of; "" for the usual test part.
        seed_word: what its seed is called, "seed" or "fold".
    """

    cell: Cell
    folder: Path
    summary: dict[str, Any]
    test_sets: Mapping[str, str] = field(default_factory=dict)
    test_set: str = ""
    seed_word: str = "seed"

    @property
    def method(self) -> str:
        """As in the configuration."""
        return self.cell.method

    @property
    def target(self) -> str:
        """Name of its target."""
        return self.cell.target

    @property
    def labels(self) -> float:
        """A share of the training cases, or a number of volumes."""
        return self.cell.labels

    @property
    def seed(self) -> int:
        """Seed of split and training."""
        return self.cell.seed

    @property
    def repeat(self) -> int:
        """Which of the fine-tunings of its seed."""
        return self.cell.repeat

    @property
    def training(self) -> str:
        """Its seed and repeat in words."""
        return self.cell.training(self.seed_word)

    @property
    def amount(self) -> float:
        """Labels in percent or volumes."""
        # Shares are floats and numbers of volumes are ints, as in the cell's folder name.
        return amount_as_number(self.labels, "volumes" if isinstance(self.labels, int) else "%")

    @property
    def mean(self) -> dict[str, float]:
        """Each metric over the test cases."""
        return self.summary["mean"]

    @property
    def sd(self) -> dict[str, float | None]:
        """SD between test cases, of metrics of single cases."""
        return self.summary["sd"]

    @property
    def cases(self) -> int:
        """Number of test cases."""
        return int(self.summary["cases"])

    def on(self, test_set: str) -> Result | None:
        """The result of the same network on an external test set, or None where it was not tested on that."""
        if not test_set:
            return self
        if test_set not in self.test_sets:
            return None
        folder, summary = self.folder / self.test_sets[test_set], self.summary["test_sets"][test_set]
        return replace(self, folder=folder, summary=summary, test_sets={}, test_set=test_set)

    def in_part(self, part: str) -> Result | None:
        """The result of the same network on another part of its split; None where it was not measured."""
        summary = self.summary.get("parts", {}).get(part)
        return None if summary is None else replace(self, summary=summary, test_sets={})

    @cached_property
    def rows(self) -> list[dict[str, str]]:
        """Rows of metrics.csv, one for each test case."""
        return csv_rows(self.folder / "metrics.csv")

    @property
    def arrays(self) -> dict[str, Any]:
        """The predictions of the test cases, of cases.npz; read anew each time, since they are large."""
        return arrays(self.folder / "cases.npz")

    def values(self, metric: str) -> list[float]:
        """One metric of every test case that has it."""
        return [float(row[metric]) for row in self.rows if row.get(metric)]

    def curve(self) -> Curve:
        """Its training curves."""
        return Curve(self.method, self.training, columns(self.folder / "curves.csv"))


def results(folder: Path, seed_word: str = "seed") -> list[Result]:
    """All finished cells of a run folder, by the names of their folders."""
    return [
        Result(
            entry.cell,
            folder / entry.folder,
            read_json(folder / entry.folder / "result.json"),
            entry.test_sets,
            seed_word=seed_word,
        )
        for entry in sorted(manifest.read(folder).cells, key=lambda entry: entry.folder)
        if (folder / entry.folder / "result.json").is_file()
    ]


def csv_rows(file: Path) -> list[dict[str, str]]:
    """Rows of a CSV; none if there is no such file."""
    return read_csv(file) if file.is_file() else []


def columns(file: Path) -> dict[str, list[float]]:
    """Columns of a CSV of numbers."""
    rows = csv_rows(file)
    return {name: [float(row[name] or "nan") for row in rows] for name in (rows[0] if rows else ())}


def arrays(file: Path) -> dict[str, Any]:
    """An .npz as a dict; empty if there is no such file. Pickled objects are refused."""
    if not file.is_file():
        return {}
    with np.load(file, allow_pickle=False) as found:
        return dict(found)
