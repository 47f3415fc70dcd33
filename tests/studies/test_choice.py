"""The choice between the methods of a run, on made-up run folders."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("lightning")

from sslmed.studies import manifest
from sslmed.studies.cells import Cell
from sslmed.studies.choice import tabulated, tabulated_methods


def write(run: Path, dice: dict[Cell, float | None], *, methods: list[str]) -> None:
    """A run with these means of Dice on the validation part; None: not finished."""
    run.mkdir()
    (run / "config.json").write_text(json.dumps({"methods": methods, "choice": "chosen"}))
    manifest.record(run, [manifest.CellEntry(f"cells/{cell.name}", cell) for cell in dice])
    for cell, value in dice.items():
        if value is not None:
            place = run / "cells" / cell.name
            place.mkdir(parents=True)
            (place / "result.json").write_text(json.dumps({"validation": value}))


def test_the_highest_metric_of_each_seed_and_amount_of_labels_is_chosen(tmp_path: Path) -> None:
    run = tmp_path / "run"
    write(
        run,
        {
            Cell("a", 1.0, 0): 0.7,
            Cell("b", 1.0, 0): 0.6,
            Cell("a", 1.0, 1): 0.1,
            Cell("b", 1.0, 1): 0.2,
            Cell("a", 0.5, 0): 0.5,
            Cell("b", 0.5, 0): 0.5,  # equal: the first
        },
        methods=["a", "b"],
    )
    found = {(one.labels, one.seed): one.folder.name for one in tabulated(run) if one.method == "chosen"}
    assert found == {(1.0, 0): "a-l100-s0", (1.0, 1): "b-l100-s1", (0.5, 0): "a-l50-s0"}
    assert len(tabulated(run)) == 6 + 3


def test_unfinished_groups_have_no_choice_and_one_method_needs_none(tmp_path: Path) -> None:
    write(tmp_path / "run", {Cell("a", 1.0, 0): 0.5, Cell("b", 1.0, 0): None}, methods=["a", "b"])
    assert [one.method for one in tabulated(tmp_path / "run")] == ["a"]
    write(tmp_path / "one", {Cell("a", 1.0, 0): 0.5}, methods=["a"])
    assert [one.method for one in tabulated(tmp_path / "one")] == ["a"]
    assert tabulated_methods({"methods": ["a"], "choice": "chosen"}) == ["a"]
    assert tabulated_methods({"methods": ["a", "b"], "choice": "chosen"}) == ["a", "b", "chosen"]
    assert tabulated_methods({"methods": ["a", "b"]}) == ["a", "b"]
