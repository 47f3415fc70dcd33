"""The network that is best on the validation part: of several methods with the same split and labels, the one to use.

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
from .runs import read_json


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
    """Of the cells with the same target, labels, seed and repeat, the one with the highest validation metric.

    Args:
        run: the run folder.
        trained: its finished cells.
        name: what the choice is called.

    Returns:
        A result under that name for each group of cells that are all finished; of equals, the first one wins.
    """
    planned: dict[Cell, int] = {}
    for entry in manifest.read(run).cells:
        group = replace(entry.cell, method=name)
        planned[group] = planned.get(group, 0) + 1
    found: dict[Cell, list[Result]] = {}
    for result in trained:
        found.setdefault(replace(result.cell, method=name), []).append(result)
    return [
        replace(max(group, key=lambda one: one.summary["validation"]), cell=cell)
        for cell, group in found.items()
        if len(group) == planned[cell]
    ]
