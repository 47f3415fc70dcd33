"""One fine-tuning in a run folder, and how the folder's files are read."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ..runs import read_csv


def amount(labels: float | str, unit: str) -> float:
    """Labels as a number of the unit: 0.2, "0.2" and "20 %" are 20; 4 and "4 volumes" are 4."""
    number, _, named = str(labels).partition(" ")
    value = float(number.rstrip("%")) * (100 if unit == "%" and not named and "%" not in number else 1)
    return round(value, 9)  # 0.07 * 100 is 7.000000000000001


@dataclass(frozen=True)
class Curve:
    """One curves.csv: the columns as numbers, NaN where a cell is empty."""

    method: str
    seed: int
    columns: dict[str, list[float]]


@dataclass(frozen=True)
class Cell:
    """One finished fine-tuning: method, target, amount of labels, seed, and what it wrote."""

    folder: Path
    result: dict[str, Any]
    unit: str

    @property
    def method(self) -> str:
        """As in the configuration."""
        return str(self.result["method"])

    @property
    def target(self) -> str:
        """Name of its target."""
        return str(self.result.get("target", ""))

    @property
    def amount(self) -> float:
        """Labels, in percent or volumes."""
        return amount(self.result["labels"], self.unit)

    @property
    def seed(self) -> int:
        """Seed of split and training."""
        return int(self.result["seed"])

    @cached_property
    def cases(self) -> list[dict[str, str]]:
        """Rows of metrics.csv, one for each test case."""
        return csv_rows(self.folder / "metrics.csv")

    def values(self, metric: str) -> list[float]:
        """One metric of every test case that has it."""
        return [float(case[metric]) for case in self.cases if case.get(metric)]

    def empty(self) -> dict[str, int]:
        """Counts of what a reader asks first: structures missed, and outlines where there is none."""
        filled = [case for case in self.cases if not int(case["target_empty"])]
        free = [case for case in self.cases if int(case["target_empty"])]
        return {
            "filled": len(filled),
            "silent": sum(int(case["pred_empty"]) for case in filled),
            "elsewhere": sum(not int(case["pred_empty"]) and float(case["dice"]) == 0 for case in filled),
            "free": len(free),
            "alarm": sum(not int(case["pred_empty"]) for case in free),
        }

    def curve(self) -> Curve:
        """Its training curves."""
        return Curve(self.method, self.seed, columns(self.folder / "curves.csv"))


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
