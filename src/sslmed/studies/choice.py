"""The network of the lowest validation loss: of several methods with the same split and labels, the one to use.

It is chosen by no test case, so that its test is as fair as that of a single method. It is not stored: its files are
those of the method that trained it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from . import manifest
from .cells import Cell
from .results import Result, results
from .runs import read_csv, read_json


def tabulated_methods(config: Mapping[str, Any]) -> list[str]:
    """The methods of the tables of a run: those that it trains, and of several the choice between them, if any."""
    methods, choice = list(config.get("methods") or ()), config.get("choice")
    return [*methods, choice] if choice and len(methods) > 1 else methods


def tabulated(run: Path, seed_word: str = "seed") -> list[Result]:
    """All finished cells of a run folder, and the choices between them."""
    file, trained = run / "config.json", results(run, seed_word)
    config = read_json(file) if file.is_file() else {}
    if tabulated_methods(config) == list(config.get("methods") or ()):
        return trained
    return [*trained, *choices(run, trained, config["choice"])]


def choices(run: Path, trained: Sequence[Result], name: str) -> list[Result]:
    """Of the cells with the same target, labels, seed and repeat, the one with the lowest validation loss.

    Args:
        run: the run folder.
        trained: its finished cells.
        name: what the choice is called.

    Returns:
        A result under that name for each group of cells that are all finished; of equal losses, the first one wins.
    """
    planned: dict[Cell, int] = {}
    for entry in manifest.read(run).cells:
        group = replace(entry.cell, method=name)
        planned[group] = planned.get(group, 0) + 1
    found: dict[Cell, list[Result]] = {}
    for result in trained:
        found.setdefault(replace(result.cell, method=name), []).append(result)
    return [
        replace(min(group, key=lambda one: validation_loss(one.folder)), cell=cell)
        for cell, group in found.items()
        if len(group) == planned[cell]
    ]


def validation_loss(cell: Path) -> float:
    """The lowest validation loss in the folder of a cell: that of the network which was kept."""
    files = [cell / "curves.csv", cell / "refinement" / "curves.csv"]
    return min(float(row["val_loss"]) for file in files if file.is_file() for row in read_csv(file))
