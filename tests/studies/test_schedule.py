"""Cells: their names, their shares of machines, what runs once, what fails, and how shares are merged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("lightning")

from sslmed.studies import manifest
from sslmed.studies.cells import Cell, amount, slugs
from sslmed.studies.locks import folder_lock
from sslmed.studies.merge import check_sources, merge
from sslmed.studies.runs import write_csv, write_json
from sslmed.studies.schedule import run_cells, sharded, write_failures

CELLS = [
    Cell(method, labels, seed, target)
    for seed in (0, 1)
    for target in ("us/classification", "us/segmentation")
    for method in ("supervised", "simclr", "byol")
    for labels in (1.0, 0.1)
]


def pretext(cell: Cell) -> str | None:
    return None if cell.method == "supervised" else f"{cell.method}-s{cell.seed}"


@pytest.mark.parametrize(
    ("cell", "name"),
    [
        (Cell("cp-jig+freq/rcl+percep", 0.2, 0), "cp-jig+freq_rcl+percep-l20-s0"),
        (Cell("simclr", 0.125, 3, "us/classification"), "simclr-us_classification-l12.5-s3"),
        (Cell("supervised", 1.0, 0), "supervised-l100-s0"),
        (Cell("supervised", 1, 0), "supervised-v1-s0"),
    ],
)
def test_names_tell_cells_apart(cell: Cell, name: str) -> None:
    assert cell.name == name


def test_names_that_would_share_a_folder_get_a_number() -> None:
    names = ["clinic (a b)", "clinic (a_b)", "clinic (a/b)", "clinic (a_b)-2", "other"]
    folders = ["clinic_(a_b)", "clinic_(a_b)-2", "clinic_(a_b)-3", "clinic_(a_b)-2-2", "other"]
    assert list(slugs(names).items()) == list(zip(names, folders, strict=True))


def test_amounts_of_labels_in_words() -> None:
    assert [amount(x, "%") for x in (1.0, 0.25, 0.125)] == ["100 %", "25 %", "12.5 %"]
    assert [amount(x, "volumes") for x in (1, 8)] == ["1 volume", "8 volumes"]


@pytest.mark.parametrize("count", [1, 2, 3, 7, 50])
def test_shares_are_all_cells_once_and_keep_a_pretext_together(count: int) -> None:
    shares = [sharded(CELLS, (i, count), pretext) for i in range(count)]
    assert sorted((c for share in shares for c in share), key=CELLS.index) == CELLS
    for name in {pretext(c) for c in CELLS} - {None}:
        assert sum(any(pretext(c) == name for c in share) for share in shares) == 1
    if count <= 4:  # four pretexts of four cells, and eight cells without
        assert max(map(len, shares)) - min(map(len, shares)) <= 2


def record(folder: Path, cells: list[Cell]) -> None:
    """Enter cells and their pretexts in the manifest."""
    named = [(cell, name and f"pretext/{name}") for cell in cells for name in (pretext(cell),)]
    manifest.record(
        folder,
        [manifest.CellEntry(f"cells/{cell.name}", cell, pretext=name) for cell, name in named],
        [manifest.PretextEntry(name, cell.method, cell.seed, cell.method) for cell, name in named if name],
    )


class Work:
    """Counts what is trained; a method or cell named in `broken` fails."""

    def __init__(self, *broken: str) -> None:
        self.broken, self.pretexts, self.cells = broken, list[str](), list[str]()

    def pretrain(self, cell: Cell, folder: Path) -> Path:
        self.pretexts.append(folder.name)
        if folder.name in self.broken:
            raise RuntimeError("out of luck")
        return folder / "encoder.pt"

    def finetune(self, cell: Cell, folder: Path, weights: Path | None) -> dict[str, Any]:
        self.cells.append(cell.name)
        assert (weights is None) == (cell.method == "supervised")
        if cell.name in self.broken:
            raise FloatingPointError("the loss is NaN")
        write_csv(folder / "metrics.csv", [{"id": "a"}], columns=["id"])
        (folder / "last.ckpt").touch()
        return {"mean": {"dice": 0.5}, "sd": {"dice": 0.1}}

    def run(self, folder: Path, cells: list[Cell]) -> list[dict[str, str]]:
        record(folder, cells)
        return run_cells(folder, cells, unit="%", pretrain=self.pretrain, finetune=self.finetune)


def test_every_cell_runs_once_and_never_again(tmp_path: Path) -> None:
    first, second = Work(), Work()
    assert first.run(tmp_path, CELLS) == []
    assert first.cells == [c.name for c in CELLS]
    assert set(first.pretexts) == {"simclr-s0", "byol-s0", "simclr-s1", "byol-s1"}
    assert not list(tmp_path.glob("cells/*/*.ckpt"))  # once the result is there, it is not needed
    assert second.run(tmp_path, CELLS) == []
    assert second.cells == second.pretexts == []


def test_one_failure_stops_nothing_else_and_runs_again(tmp_path: Path) -> None:
    broken = CELLS[3].name
    work = Work(broken, "byol-s1")
    failures = work.run(tmp_path, CELLS)
    of_pretext = [c.name for c in CELLS if pretext(c) == "byol-s1"]
    assert [f["cell"] for f in failures] == [broken, *of_pretext]
    assert failures[0]["error"] == "FloatingPointError: the loss is NaN"
    assert work.pretexts.count("byol-s1") == 1  # a failed pretext is not tried for each of its cells
    assert "its pretext failed: out of luck" in failures[-1]["error"]
    assert "FloatingPointError" in (tmp_path / "cells" / broken / "error.txt").read_text()
    again = Work()
    assert again.run(tmp_path, CELLS) == []
    assert again.cells == [broken, *of_pretext]
    assert not list(tmp_path.glob("cells/*/error.txt"))


def test_a_cell_that_another_process_works_on_is_left_to_it(tmp_path: Path) -> None:
    with folder_lock(tmp_path / "cells" / CELLS[0].name):
        failures = Work().run(tmp_path, CELLS[:2])
    assert [f["cell"] for f in failures] == [CELLS[0].name]
    assert "is in use by another process" in failures[0]["error"]


def test_failures_of_other_shares_stay_until_they_succeed(tmp_path: Path) -> None:
    a, b, c = CELLS[:3]
    record(tmp_path, [a, b, c])
    write_failures(tmp_path, [{"cell": a.name, "error": "x"}], [a])
    write_failures(tmp_path, [{"cell": b.name, "error": "y"}], [b, c])
    assert [f["cell"] for f in json.loads((tmp_path / "failures.json").read_text())] == [a.name, b.name]
    write_json(tmp_path / "cells" / a.name / "result.json", {})
    write_failures(tmp_path, [], [b])
    assert json.loads((tmp_path / "failures.json").read_text()) == []


def test_a_cell_that_another_run_has_done_by_the_end_is_no_failure(tmp_path: Path) -> None:
    a, b = CELLS[:2]
    record(tmp_path, [a, b])
    failures = [{"cell": cell.name, "error": "Busy: in use by another process"} for cell in (a, b)]
    write_json(tmp_path / "cells" / a.name / "result.json", {})
    assert write_failures(tmp_path, failures, [a, b]) == failures[1:]
    assert json.loads((tmp_path / "failures.json").read_text()) == failures[1:]


CONFIG = {"paper": "x", "preset": {"size": 32}, "methods": ["supervised"], "labels": [1.0], "seeds": [0]}


PARTS: dict[str, Any] = {
    "pretext": ["case 0", "more/case 7"],
    "train": ["case 0", "case 3"],
    "val": ["case 2"],
    "test": ["case 1"],
    "labelled": {"0.5": ["case 0"], "1": ["case 0", "case 3"]},
}


def run_folder(path: Path, cells: list[Cell], *, size: int = 32, mask: str | None = "0a", **parts: Any) -> Path:
    if mask is not None:
        write_json(path / "contents.json", {"file images/1.png": "7f", "file masks/1.png": mask})
    write_json(path / "config.json", CONFIG | {"preset": {"size": size}})
    write_json(path / "splits.json", {"0": PARTS | parts})
    record(path, cells)
    for cell in cells:
        place = path / "cells" / cell.name
        write_csv(place / "metrics.csv", [{"id": "case 1"}], columns=["id"])
        write_json(place / "result.json", {"cell": cell.name})
    return path


def test_merged_folders_hold_all_cells_and_name_those_that_none_has(tmp_path: Path) -> None:
    a, b = run_folder(tmp_path / "a", CELLS[:2]), run_folder(tmp_path / "b", CELLS[1:3])
    (b / "cells" / CELLS[3].name).mkdir()  # begun, not finished
    into = run_folder(tmp_path / "all", [])
    record(into, CELLS[:4])
    assert merge([a, b], into, CELLS[:4]) == [CELLS[3].name]
    assert sorted(p.parent.name for p in into.glob("cells/*/result.json")) == sorted(c.name for c in CELLS[:3])
    assert merge([a, b], into, CELLS[:3]) == []


def test_a_merge_fills_what_a_killed_run_began_and_brings_nothing_else(tmp_path: Path) -> None:
    begun, other = CELLS[0], CELLS[1]
    source = run_folder(tmp_path / "a", [begun, other])
    into = run_folder(tmp_path / "all", [])
    record(into, [begun])
    record(source, [cell for cell in CELLS if pretext(cell) in ("simclr-s0", "byol-s0")])
    for place, name in (("pretext/simclr-s0", "encoder.pt"), ("pretext/byol-s0", "last.ckpt")):
        write_json(source / place / name, "learnt")
    for left in ("cells/" + begun.name, "pretext/simclr-s0"):
        write_json(into / left / "last.ckpt", "half way")
    assert merge([source], into, [begun]) == []
    assert (into / "cells" / begun.name / "metrics.csv").is_file()
    assert (into / "pretext" / "simclr-s0" / "encoder.pt").is_file()
    assert not list(into.rglob("last.ckpt"))
    assert not (into / "cells" / other.name).exists()  # of a method that was not asked for, so no table knows it


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"size": 64}, "another configuration"),
        ({"pretext": ["case 0"]}, "other images in the pretext of seed 0"),
        ({"train": ["case 0"]}, "other images in the training part of seed 0"),
        ({"val": ["case 9"]}, "other images in the validation part of seed 0"),
        ({"test": ["case 2"]}, "other images in the test part of seed 0"),
        ({"test_sets": {"clinic": ["case 1"]}}, "other images in the test sets of seed 0"),
        ({"labelled": {"0.5": ["case 3"]}}, "other images in the labelled part of seed 0"),
        ({"mask": "0b"}, "other images: file masks/1.png differs there"),
        ({"mask": None}, "has no contents.json, by which its images are compared"),
    ],
)
def test_folders_that_do_not_belong_together_are_refused(tmp_path: Path, other: dict[str, Any], message: str) -> None:
    splits, growing = {"0": PARTS}, ("methods", "labels", "seeds")
    contents, cells = {"file masks/1.png": "0a"}, CELLS[:1]
    more = PARTS["labelled"] | {"0.1": ["case 3"]}  # amounts that only one of the two has
    check_sources(
        [run_folder(tmp_path / "same", cells, labelled=more)], CONFIG, splits, contents, cells, growing=growing
    )
    with pytest.raises(ValueError, match=message):
        check_sources([run_folder(tmp_path / "a", cells, **other)], CONFIG, splits, contents, cells, growing=growing)
    with pytest.raises(ValueError, match="is not a run folder"):
        check_sources([tmp_path], CONFIG, splits, contents, cells, growing=growing)


def test_finished_cells_that_a_merge_would_leave_behind_are_refused(tmp_path: Path) -> None:
    source = run_folder(tmp_path / "a", CELLS[:3])
    record(source, CELLS[:5])  # two of them have not finished
    shared = ([source], CONFIG, {"0": PARTS}, {})
    check_sources(*shared, CELLS[:3], growing=())
    with pytest.raises(
        ValueError, match=rf"has 2 finished cells that this command does not ask for, as {CELLS[2].name};"
    ):
        check_sources(*shared, CELLS[:1], growing=())
