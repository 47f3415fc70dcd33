"""outlook.json of a run with several amounts of labels, and its place in the report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("lightning")

from run_folders import write_csv
from sslmed.studies import few_labels, manifest, tables
from sslmed.studies.cells import Cell, Target
from sslmed.studies.outlook import write_outlook
from sslmed.studies.report import write_report

REACHED = {0.25: 0.6, 0.5: 0.7, 1.0: 0.75}


def write_run(folder: Path, *amounts: float) -> Path:
    """A run of two folds, each of four patients with two images; Dice depends on the amount of labels alone."""
    for labels in amounts:
        for fold in range(2):
            cell = Cell("lesions", labels, fold)
            place = folder / "cells" / cell.name
            rows = [
                {"id": f"{fold}{k}", "group": f"{fold}{k // 2}", "target_empty": 0, "pred_empty": 0}
                | {"dice": REACHED[labels] + (-1) ** (k // 2) / 50}
                for k in range(8)
            ]
            write_csv(place / "metrics.csv", rows)
            manifest.record(folder, [manifest.CellEntry(f"cells/{cell.name}", cell)])
            result = {"labelled_cases": 99, "trained_cases": round(80 * labels), "cases": 8}
            result |= {"mean": {"dice": REACHED[labels]}, "sd": {"dice": 0.02}}
            (place / "result.json").write_text(json.dumps(result))
    target: dict[str, Any] = {"name": "segmentation", "title": "Segmentation", "kind": "segmentation"}
    target |= {"metric": "dice", "metrics": ["dice"]}
    config = {"methods": ["supervised", "lesions"], "display": {"lesions": "Synthetic lesions"}, "targets": [target]}
    (folder / "config.json").write_text(json.dumps(config | {"labels_unit": "%", "seeds": [0, 1]}))
    tables.write_table(folder, tables.Frame([Target(**target)], ["supervised", "lesions"], "%"), {})
    return folder


def test_the_outlook_is_written_and_shown(tmp_path: Path) -> None:
    run = write_run(tmp_path, 0.25, 0.5, 1.0)
    content = write_outlook(run)
    assert json.loads(json.dumps(content)) == json.loads((run / "outlook.json").read_text())
    assert list(content["methods"]) == ["lesions"]
    found = content["methods"]["lesions"]
    assert [(p["outlines"], round(p["mean"], 3)) for p in found["points"]] == [(20, 0.6), (40, 0.7), (80, 0.75)]
    assert 0 < found["low"] <= found["gain"] <= found["high"] < 0.05
    words = (
        f"Synthetic lesions: 50 more outlined images than 80 would raise the Dice of 0.750 by about {found['gain']:.3f}"
    )
    assert found["sentence"].startswith(words)
    page = write_report(run).read_text()
    assert "Dice against the number of outlined images: Synthetic lesions" in page
    assert words in page


def test_a_few_labels_run_ends_with_the_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path, 0.25, 0.5, 1.0)
    few_labels._finish(run)
    printed = capsys.readouterr().out
    assert "Synthetic lesions: 50 more outlined images than 80 would raise the Dice" in printed
    assert "no model.pt" in printed
    assert "50 more outlined images" in (run / "report.html").read_text()


def test_two_amounts_give_a_curve_and_the_reason(tmp_path: Path) -> None:
    found = write_outlook(write_run(tmp_path, 0.25, 0.5))["methods"]["lesions"]
    assert len(found["points"]) == 2
    assert found["sentence"] == (
        "Synthetic lesions: what more outlined images would bring cannot be said: a curve needs 3 amounts of labels, "
        "and there are 2."
    )


def test_one_amount_gives_none(tmp_path: Path) -> None:
    run = write_run(tmp_path, 0.5)
    assert write_outlook(run) == {}
    assert not (run / "outlook.json").exists()
    assert "number of outlined images" not in write_report(run).read_text()


def test_the_answer_ends_at_twice_the_largest_amount(tmp_path: Path) -> None:
    run = write_run(tmp_path, 0.25, 0.5, 1.0)
    for file in run.glob("cells/*/result.json"):
        result = json.loads(file.read_text())
        file.write_text(json.dumps(result | {"trained_cases": result["trained_cases"] // 2}))
    words = write_outlook(run)["methods"]["lesions"]["sentence"]
    assert "40 more outlined images than 40 would" in words
    assert words.endswith("The question was for 50 more; beyond twice the largest amount no answer is given.")
