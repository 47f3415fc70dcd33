"""The choice between the methods of a run, on made-up run folders."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("lightning")

from sslmed.studies import manifest
from sslmed.studies.cells import Cell
from sslmed.studies.choice import tabulated, tabulated_methods, validation_loss


def write(run: Path, losses: dict[Cell, list[float] | None], *, methods: list[str]) -> None:
    """A run with these validation losses of each epoch; None: not finished."""
    run.mkdir()
    (run / "config.json").write_text(json.dumps({"methods": methods, "choice": "chosen"}))
    manifest.record(run, [manifest.CellEntry(f"cells/{cell.name}", cell) for cell in losses])
    for cell, values in losses.items():
        if values is not None:
            place = run / "cells" / cell.name
            place.mkdir(parents=True)
            (place / "curves.csv").write_text("\n".join(["val_loss", *map(str, values)]))
            (place / "result.json").write_text("{}")


def test_the_lowest_loss_of_each_seed_and_amount_of_labels_is_chosen(tmp_path: Path) -> None:
    run = tmp_path / "run"
    write(
        run,
        {
            Cell("a", 1.0, 0): [3, 1, 2],
            Cell("b", 1.0, 0): [2, 2, 2],
            Cell("a", 1.0, 1): [3, 3, 3],
            Cell("b", 1.0, 1): [9, 9, 2],
            Cell("a", 0.5, 0): [1, 1, 1],
            Cell("b", 0.5, 0): [1, 1, 1],  # equal: the first
        },
        methods=["a", "b"],
    )
    found = {(one.labels, one.seed): one.folder.name for one in tabulated(run) if one.method == "chosen"}
    assert found == {(1.0, 0): "a-l100-s0", (1.0, 1): "b-l100-s1", (0.5, 0): "a-l50-s0"}
    assert len(tabulated(run)) == 6 + 3


def test_the_loss_of_a_refinement_counts(tmp_path: Path) -> None:
    (tmp_path / "refinement").mkdir()
    (tmp_path / "curves.csv").write_text("val_loss\n2\n")
    assert validation_loss(tmp_path) == 2
    (tmp_path / "refinement" / "curves.csv").write_text("val_loss\n3\n1\n")
    assert validation_loss(tmp_path) == 1


def test_unfinished_groups_have_no_choice_and_one_method_needs_none(tmp_path: Path) -> None:
    write(tmp_path / "run", {Cell("a", 1.0, 0): [1], Cell("b", 1.0, 0): None}, methods=["a", "b"])
    assert [one.method for one in tabulated(tmp_path / "run")] == ["a"]
    write(tmp_path / "one", {Cell("a", 1.0, 0): [1]}, methods=["a"])
    assert [one.method for one in tabulated(tmp_path / "one")] == ["a"]
    assert tabulated_methods({"methods": ["a"], "choice": "chosen"}) == ["a"]
    assert tabulated_methods({"methods": ["a", "b"], "choice": "chosen"}) == ["a", "b", "chosen"]
    assert tabulated_methods({"methods": ["a", "b"]}) == ["a", "b"]
