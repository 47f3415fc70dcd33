"""Finished cells of a run folder, and what they left there."""

from __future__ import annotations

from dataclasses import dataclass
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
    """One finished cell: which it is, where its files are, and its result.json."""

    cell: Cell
    folder: Path
    summary: dict[str, Any]

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
    def training(self) -> str:
        """Its seed and repeat in words."""
        return self.cell.training

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

    @cached_property
    def rows(self) -> list[dict[str, str]]:
        """Rows of metrics.csv, one for each test case."""
        return csv_rows(self.folder / "metrics.csv")

    @cached_property
    def arrays(self) -> dict[str, Any]:
        """What was kept of some test cases, as cases.npz."""
        return arrays(self.folder / "cases.npz")

    def values(self, metric: str) -> list[float]:
        """One metric of every test case that has it."""
        return [float(row[metric]) for row in self.rows if row.get(metric)]

    def curve(self) -> Curve:
        """Its training curves."""
        return Curve(self.method, self.training, columns(self.folder / "curves.csv"))


def results(folder: Path) -> list[Result]:
    """All finished cells of a run folder, by the names of their folders."""
    return [
        Result(entry.cell, folder / entry.folder, read_json(folder / entry.folder / "result.json"))
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
