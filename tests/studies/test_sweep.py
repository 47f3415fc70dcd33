"""Sweeps: every value of a setting is a run of its own, and the best is chosen on validation cases alone."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from unittest.mock import Mock

import pytest

pytest.importorskip("lightning")

import multi_organ
import ultrasound_relation
from sslmed import plots
from sslmed.studies import manifest
from sslmed.studies.cells import Cell
from sslmed.studies.cli import swept
from sslmed.studies.report.sweep import write_page
from sslmed.studies.results import results
from sslmed.studies.run import Run
from sslmed.studies.runs import read_csv, read_json, write_csv, write_json
from sslmed.studies.sweep import ALL, compared, show
from sslmed.tasks import _report


def outcome(monkeypatch: pytest.MonkeyPatch, program: ModuleType, *words: object) -> int:
    monkeypatch.setattr(sys, "argv", [program.__name__, "--preset", "smoke", *map(str, words)])
    with pytest.raises(SystemExit) as stop:
        program.main()
    return stop.value.code  # type: ignore[return-value]


def finished(folder: Path, method: str, seed: int, losses: list[float], *, test: float = 0.5) -> None:
    """A cell whose validation Dice is 1 minus its loss, and whose test Dice is `test`."""
    own = Cell(method, 0.2, seed)
    place = folder / "cells" / own.name
    manifest.record(folder, [manifest.CellEntry(f"cells/{own.name}", own)])
    rows = [{"epoch": k, "val_loss": loss, "val_dice": 1 - loss, "train_loss": 0} for k, loss in enumerate(losses)]
    write_csv(place / "curves.csv", rows, columns=list(rows[0]))
    write_json(place / "result.json", {"mean": {"dice": test}, "sd": {}, "cases": 3})


def test_the_lowest_validation_loss_is_chosen_and_test_results_play_no_part(tmp_path: Path) -> None:
    finished(tmp_path / "a", "rcl", 0, [0.9, 0.4, 0.8], test=0.1)
    finished(tmp_path / "a", "rcl", 1, [0.9, 0.8, 0.6], test=0.1)
    finished(tmp_path / "b", "rcl", 0, [0.7, 0.6, 0.9], test=0.9)
    finished(tmp_path / "b", "rcl", 1, [0.7, 0.6, 0.9], test=0.9)
    rows = compared({"0.1": results(tmp_path / "a"), "0.2": results(tmp_path / "b")})
    assert [(row["method"], row["value"], row["fine_tunings"], row["chosen"]) for row in rows] == [
        ("rcl", "0.1", 2, "yes"),
        ("rcl", "0.2", 2, ""),
    ]
    assert [row["val_loss"] for row in rows] == pytest.approx([0.5, 0.6])
    assert [row["val_dice"] for row in rows] == pytest.approx([0.5, 0.4])
    assert "chosen" in show("lr", rows).splitlines()[2]


def test_methods_are_chosen_for_alone_and_together(tmp_path: Path) -> None:
    for value, losses in {"1": (0.5, 0.9), "2": (0.6, 0.7)}.items():
        finished(tmp_path / value, "rcl", 0, [losses[0]])
        finished(tmp_path / value, "pirl", 0, [losses[1]])
    rows = compared({value: results(tmp_path / value) for value in ("1", "2")})
    assert {row["method"]: row["value"] for row in rows if row["chosen"]} == {"rcl": "1", "pirl": "2", ALL: "2"}


def test_a_value_whose_runs_failed_in_part_is_not_chosen(tmp_path: Path) -> None:
    for seed in (0, 1):
        finished(tmp_path / "whole", "rcl", seed, [0.9])
    finished(tmp_path / "partial", "rcl", 0, [0.1])
    rows = compared({value: results(tmp_path / value) for value in ("partial", "whole")})
    assert [row["value"] for row in rows if row["chosen"]] == ["whole"]
    assert show("lr", compared({"1": []})) == "no fine-tuning has finished"


def test_the_page_draws_numbers_and_lists_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = Mock()
    monkeypatch.setattr(plots, "label_curves", drawn)
    monkeypatch.setattr(_report, "figure", lambda _, alt: _report.Figure("data:image/png;base64,", alt, ""))
    row = {"target": "segmentation", "method": "rcl", "fine_tunings": 1, "val_loss": 0.25, "chosen": ""}
    for values, pictures in ((["1e-4", "1e-2"], 1), (["resnet18", "resnet50"], 0), (["1e-2"], 0)):
        drawn.reset_mock()
        page = write_page(
            tmp_path,
            "<lr>",
            [row | {"value": value} for value in values],
            title="A study",
            display={"rcl": "RCL"},
            targets={"segmentation": "Segmentation"},
            reports={value: f"lr={value}/report.html" for value in values},
        ).read_text(encoding="utf-8")
        assert drawn.call_count == page.count("<img") == pictures
        assert all(f">{value}</td>" in page and f"lr%3D{value}/report.html" in page for value in values)
        assert "&lt;lr&gt;" in page
    assert drawn.call_args is None


def test_each_value_is_a_run_with_its_own_setting_and_one_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Run, "run", lambda run: 0)
    out = tmp_path / "out"
    words = ("--methods", "jig/rcl", "--sweep", "lr=1e-4,0.01", "--out", out)
    assert outcome(monkeypatch, ultrasound_relation, *words) == 0
    presets = {value: read_json(out / f"lr={value}" / "config.json")["preset"] for value in ("1e-4", "0.01")}
    assert {value: set(preset["pretext_lr"].values()) for value, preset in presets.items()} == {
        "1e-4": {1e-4},
        "0.01": {0.01},
    }
    assert sorted(place.name for place in out.iterdir()) == ["cache", "lr=0.01", "lr=1e-4", "sweep.csv", "sweep.html"]
    assert read_csv(out / "sweep.csv") == []
    assert "no fine-tuning has finished" in capfd.readouterr().out


def test_a_sweep_of_sizes_takes_the_crops_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Run, "run", lambda run: 0)
    words = ("--methods", "supervised", "--sweep", "size=32,64", "--out", tmp_path / "out")
    assert outcome(monkeypatch, ultrasound_relation, *words) == 0
    presets = [read_json(tmp_path / "out" / f"size={size}" / "config.json")["preset"] for size in (32, 64)]
    assert [(preset["size"], preset["crop"]) for preset in presets] == [(32, 48), (64, 96)]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--sweep", "lr=0.1"], "is not NAME=V1,V2,... with two values or more"),
        (["--sweep", "lr=0.1,1e-1"], "--sweep lr: 1e-1 is given twice"),
        (["--sweep", "labels=[0.5],[1.0]"], "--sweep labels: give several amounts of labels to --labels"),
        (["--sweep", "constants.no=1,2"], "--set constants.no: no such setting"),
        (["--sweep", "lr=1,2", "--shard", "0/2"], "--sweep cannot be combined with --shard or --merge"),
    ],
)
def test_mistakes_are_refused_before_anything_is_read(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    words: list[str],
    message: str,
) -> None:
    assert outcome(monkeypatch, multi_organ, *words, "--out", tmp_path / "out") == 2
    assert message in capfd.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_folder_of_a_run_is_no_folder_for_a_sweep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    write_json(tmp_path / "config.json", {})
    assert outcome(monkeypatch, multi_organ, "--sweep", "lr=1,2", "--out", tmp_path) == 2
    assert f"--out {tmp_path} holds a run; give --sweep a new folder" in capfd.readouterr().err


def test_commas_inside_brackets_belong_to_a_value() -> None:
    assert swept("constants.grid=[3,3],[6,6]") == ("constants.grid", ["[3,3]", "[6,6]"])


@pytest.mark.slow
def test_a_sweep_from_start_to_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    words = ("--methods", "simclr/BUS", "--sweep", "finetune.epochs=1,2", "--repeats", "2", "--out", out)
    assert outcome(monkeypatch, multi_organ, *words) == 0
    rows = read_csv(out / "sweep.csv")
    assert [(row["setting"], row["value"], row["fine_tunings"]) for row in rows] == [
        ("finetune.epochs", "1", "2"),
        ("finetune.epochs", "2", "2"),
    ]
    # Two epochs begin as one does, and the better epoch counts.
    assert float(rows[1]["val_loss"]) <= float(rows[0]["val_loss"])
    measured = [name for name in rows[0] if name.startswith("val_")]
    assert {"val_loss", "val_dice"} <= set(measured)
    assert (out / "sweep.html").read_text(encoding="utf-8").count("<img") == len(measured)
    assert {row["repeats"] for row in read_csv(out / "finetune.epochs=1" / "table.csv")} == {"2"}
