"""The papers' numbers: complete, consistent, and those of the set that is read."""

from __future__ import annotations

import csv
import dataclasses
import statistics
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("lightning")

import multi_organ
import ultrasound_relation
from sslmed.studies.runs import read_csv, write_csv, write_json

PAPERS = Path(ultrasound_relation.__file__).parent / "papers"
SMOKE = ultrasound_relation.PRESETS["smoke"]


def rows(name: str) -> list[dict[str, str]]:
    with open(PAPERS / f"{name}.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_the_ultrasound_tables_hold_every_method_and_amount_of_labels() -> None:
    table = rows("ultrasound_relation")
    assert Counter(row["table"] for row in table) == {"III": 51, "IV": 51, "V": 51, "VI": 36}
    keys = [(row["dataset"], row["method"], row["labels_percent"]) for row in table]
    assert len(set(keys)) == len(keys)
    assert {method for _, method, _ in keys} == set(ultrasound_relation.METHODS)


def test_the_learning_rates_are_the_best_of_table_2() -> None:
    best = {}
    for row in sorted(rows("ultrasound_relation_learning_rates"), key=lambda row: float(row["dsc"])):
        best[row["method"].removeprefix("jig/")] = float(row["learning_rate"])
    assert best == ultrasound_relation.PRESETS["paper"].pretext_lr


@pytest.mark.parametrize(
    ("name", "of", "dice"),
    [
        ("BUSI", "Table III, BUSI", "0.847"),
        ("BrEaST", "Table IV, BrEaST", "0.776"),
        ("UDIAT", "Table V, UDIAT", "0.823"),
        ("BUS-BRA", "Table III, BUSI", "0.847"),
    ],
)
def test_the_papers_rows_are_those_of_the_same_set_or_of_busi(name: str, of: str, dice: str) -> None:
    row = ultrasound_relation.published(name)["segmentation", "20 %", "supervised"]
    assert (row.of, row.values["dice"][0]) == (of, dice)
    note = ultrasound_relation.comparability_note(SMOKE, None, None, SimpleNamespace(name=name, published=None))
    assert ("the paper's numbers are for BUSI, ours for BUS-BRA" in note) == (name == "BUS-BRA")
    size = {"BrEaST": 8, "UDIAT": 4}.get(name, 16)
    assert (f"(paper {size} for" in note) == (size != SMOKE.pretext.batch_size)


@pytest.mark.parametrize(
    ("trained", "tested", "same"),
    [("BUSI and BrEaST", "UDIAT", True), ("BrEaST and BUSI", "UDIAT", True), ("BUSI", "BUS-BRA", False)],
)
def test_table_6_stands_beside_every_external_set_and_says_where_the_sets_differ(
    trained: str, tested: str, same: bool
) -> None:
    found = ultrasound_relation.published_external(SMOKE, None, SimpleNamespace(name=trained), tested)
    assert len(found) == 36
    row = found["segmentation", "50 %", "cp-jig+freq/pirl+percep"]
    assert row.of == "Table VI, BUSI+BrEaST->UDIAT"
    assert row.values == {"dice": ("0.914", ""), "jaccard": ("0.902", ""), "hausdorff": ("16.54", "")}
    differ = "the paper trained on BUSI and BrEaST and tested on UDIAT, ours were trained on BUSI and tested on BUS-BRA"
    assert (differ in row.why_not_comparable) == (not same)
    assert "batches of 8 (paper 32 for Table VI)" in row.why_not_comparable


def test_the_means_over_methods_follow_from_the_tables_but_for_three() -> None:
    table, wrong = rows("multi_organ"), []
    for mean in rows("multi_organ_means"):
        number = str(int(mean["table"].removeprefix("A.")) - 4)
        own = [
            float(row["dice"])
            for row in table
            if (row["table"], row["labels_percent"]) == (number, mean["labels_percent"])
            and row["method"].rpartition("/")[2] == mean["images"]
        ]
        assert len(own) == (1 if mean["images"] == "supervised" else 3)
        if abs(statistics.fmean(own) - float(mean["mean_dice"])) > 0.00101:
            wrong.append((mean["table"], mean["images"], mean["labels_percent"]))
    # As the page says: A.6 repeats another row, and A.8 belongs to another value of Table 4.
    assert wrong == [("A.6", "natural", "25"), ("A.6", "natural", "10"), ("A.8", "BUS+natural", "100")]


def test_the_means_over_methods_are_written_beside_the_papers(tmp_path: Path) -> None:
    preset = dataclasses.asdict(multi_organ.PRESETS["paper"])
    write_json(tmp_path / "config.json", {"preset": preset})
    dice = {
        "moco/BUS": "0.1",
        "simclr/BUS": "0.2",
        "simsiam/BUS": "0.6",
        "moco/multi-organ": "0.5",
        "supervised": "0.9",
    }
    table = [{"metric": m, "test_set": t, "method": k, "labels": "25 %", "mean": v}
             for m in ("dice", "jaccard") for t in ("", "other") for k, v in dice.items()]  # fmt: skip
    write_csv(tmp_path / "table.csv", table, columns=list(table[0]))
    multi_organ.write_means(tmp_path)
    keys = {(r["table"], r["images"], r["labels_percent"]): r["mean_dice"] for r in rows("multi_organ_means")}
    paper = keys["A.5", "BUS", "25"]
    assert read_csv(tmp_path / "means.csv") == [{"images": "BUS", "labels": "25 %", "dice": "0.300", "paper": paper}]


def test_the_thesis_pixel_accuracy_is_marked_as_uncertain() -> None:
    notes = {(row["metric"] == "pixel_accuracy", row["note"]) for row in rows("multimodal_breast")}
    assert notes == {(True, "column uncertain"), (False, "")}
