"""Results on the training and validation part: beside each other in parts.csv and in the report."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("lightning")

import multimodal_breast
import run_folders
from programs import prepared
from sslmed.studies import manifest
from sslmed.studies.cells import Cell, Target
from sslmed.studies.parts import check, write_parts
from sslmed.studies.report import write_report
from sslmed.studies.runs import read_csv, read_json, write_json
from sslmed.studies.tables import Frame, Published


def measured(folder: Path, method: str, seed: int, **dice: float) -> None:
    """Add the Dice on some parts to a finished cell."""
    file = folder / "cells" / Cell(method, 0.2, seed).name / "result.json"
    parts = {part: {"mean": {"dice": value}, "sd": {}, "cases": 5} for part, value in dice.items()}
    write_json(file, read_json(file) | {"parts": parts})


def test_means_are_over_the_seeds_and_the_papers_number_stands_beside_them(tmp_path: Path) -> None:
    for method in ("supervised", "simclr"):
        for seed in (0, 1):
            run_folders.write_cell(tmp_path, "segmentation", method, 0.2, seed)
    measured(tmp_path, "supervised", 0, train=0.8, val=0.6)
    measured(tmp_path, "supervised", 1, train=0.9, val=0.5)
    target = Target("segmentation", "Segmentation", "segmentation", "dice", ("dice", "hausdorff"))
    frame = Frame([target], ["supervised", "simclr"], "%")
    paper = {("segmentation", "train", "20 %", "supervised"): Published("Table 6.2", {"dice": ("0.836", "")})}
    write_parts(tmp_path, frame, ("train", "val"), paper)
    rows = read_csv(tmp_path / "parts.csv")
    shown = [(row["part"], row["method"], row["metric"], row["mean"], row["sd_seeds"], row["paper"]) for row in rows]
    assert shown == [
        ("train", "supervised", "dice", "0.850", "0.071", "0.836"),
        ("val", "supervised", "dice", "0.550", "0.071", ""),
    ]
    assert {(row["seeds"], row["cases"], row["labels"]) for row in rows} == {("2", "5", "20 %")}


def test_the_report_shows_the_parts_of_a_method_below_each_other(tmp_path: Path) -> None:
    folder = run_folders.segmentation_run(tmp_path)
    assert "Training and validation part" not in write_report(folder).read_text()
    row = {"target": "segmentation", "labels": "20 %", "method": "supervised", "metric": "dice", "sd_seeds": ""}
    rows = [
        row | {"part": "train", "mean": "0.987", "paper": "0.765"},
        row | {"part": "val", "mean": "0.654", "paper": ""},
    ]
    run_folders.write_csv(folder / "parts.csv", rows)
    page = write_report(folder).read_text()
    part = page[page.rindex("Training and validation part") :]
    name = "Supervised only"
    places = [
        part.index(text) for text in (f"{name}, training", "0.987", "paper 0.765", f"{name}, validation", "0.654")
    ]
    assert places == sorted(places)
    assert f"{name}, test" in part


def test_only_parts_of_the_split_can_be_measured() -> None:
    check(("train", "val"))
    with pytest.raises(ValueError, match="parts of a study are 'train' and 'val', got 'test'"):
        check(("test",))


@pytest.mark.slow
def test_the_thesis_program_measures_its_training_and_validation_part(tmp_path: Path) -> None:
    out = tmp_path / "run"
    few = ["--domains", "us", "--methods", "supervised", "--set", "finetune.epochs=1"]
    run = prepared(multimodal_breast, out, *few)
    assert run.run() == 0
    split = read_json(out / "splits.json")["us/0"]
    sizes = {"train": len(next(iter(split["labelled"].values()))), "val": len(split["val"])}
    for entry in manifest.read(out).cells:
        result = read_json(out / entry.folder / "result.json")
        assert {part: found["cases"] for part, found in result["parts"].items()} == sizes
        # The best of one epoch is this one: its network is measured.
        (epoch,) = read_csv(out / entry.folder / "curves.csv")
        assert result["parts"]["val"]["mean"]["test_loss"] == pytest.approx(float(epoch["val_loss"]), rel=1e-3)
    rows = {(row["target"], row["part"], row["metric"]): row for row in read_csv(out / "parts.csv")}
    assert rows["us/classification", "train", "mcc"]["paper"] == "0.97369"
    assert rows["us/segmentation", "val", "pooled_dice"]["paper"] == "0.67033"
    assert "Training and validation part" in (out / "report.html").read_text()
