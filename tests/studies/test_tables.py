"""The tables of a study against numbers worked out by hand, and against scipy."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("lightning")

from scipy.stats import wilcoxon

from sslmed.studies import manifest
from sslmed.studies.cells import Cell, Target
from sslmed.studies.paired_tests import write_tests
from sslmed.studies.runs import read_csv, read_json, write_csv, write_json
from sslmed.studies.tables import Frame, Published, collect_cases, show, write_table
from sslmed.tasks.base import as_text

TARGET = Target("segmentation", "Segmentation", "segmentation", "dice", ("dice", "hausdorff", "pooled_dice"))
FRAME = Frame([TARGET], ["supervised", "jig/pirl", "rcl"], "%", ("supervised", "jig/pirl"))
RNG = np.random.default_rng(0)


def cell(
    folder: Path, method: str, seed: int, dice: np.ndarray, ids: list[str], *, labels: float = 0.2, repeat: int = 0
) -> None:
    own = Cell(method, labels, seed, repeat=repeat)
    place = folder / "cells" / own.name
    manifest.record(folder, [manifest.CellEntry(f"cells/{own.name}", own)])
    rows = [
        {"id": name, "group": name.partition("#")[0], "dice": value, "hausdorff": 10 * value}
        for name, value in zip(ids, dice, strict=True)
    ]
    write_csv(place / "metrics.csv", rows, columns=("id", "group", "dice", "hausdorff"))
    result = {
        "method": method,
        "target": "segmentation",
        "labels": labels,
        "seed": seed,
        "cases": len(ids),
        "mean": {"dice": dice.mean(), "hausdorff": 10 * dice.mean(), "pooled_dice": 0.75},
        "sd": {"dice": dice.std(ddof=1), "hausdorff": 10 * dice.std(ddof=1)},
    }
    write_json(place / "result.json", result)


def add_external(folder: Path, own: Cell, dice: np.ndarray, ids: list[str]) -> None:
    """Test a cell on the set BUS-BRA as well."""
    place = folder / "cells" / own.name
    manifest.record(folder, [manifest.CellEntry(f"cells/{own.name}", own, test_sets={"BUS-BRA": "test_sets/x"})])
    rows = [{"id": name, "group": name, "dice": value} for name, value in zip(ids, dice, strict=True)]
    write_csv(place / "test_sets" / "x" / "metrics.csv", rows, columns=("id", "group", "dice"))
    summary = {"mean": {"dice": dice.mean()}, "sd": {"dice": dice.std(ddof=1)}, "cases": len(ids)}
    write_json(place / "result.json", read_json(place / "result.json") | {"test_sets": {"BUS-BRA": summary}})


def test_the_two_spreads_and_the_papers_number_stand_beside_the_mean(tmp_path: Path) -> None:
    cell(tmp_path, "supervised", 0, np.array([0.2, 0.4, 0.6]), ["a", "b", "c"])
    cell(tmp_path, "supervised", 1, np.array([0.6, 0.8, 1.0]), ["a", "d", "e"])
    theirs = Published("BUSI", {"dice": ("0.847", "0.1")}, "other images")
    published = {("segmentation", "", "20 %", "supervised"): theirs}
    write_table(tmp_path, FRAME, published)
    rows = {row["metric"]: row for row in read_csv(tmp_path / "table.csv")}
    dice = rows["dice"]
    assert (dice["mean"], dice["sd_cases"], dice["sd_seeds"]) == ("0.600", "0.200", "0.283")
    assert (dice["paper"], dice["paper_sd"], dice["paper_set"]) == ("0.847", "0.1", "BUSI")
    assert dice["why_not_comparable"] == "other images"
    assert (rows["hausdorff"]["mean"], rows["hausdorff"]["paper"]) == ("6.00", "")
    assert rows["hausdorff"]["why_not_comparable"] == "the paper prints no such number"
    assert (rows["pooled_dice"]["mean"], rows["pooled_dice"]["sd_cases"]) == ("0.750", "")


def test_one_seed_has_no_spread_over_seeds(tmp_path: Path) -> None:
    cell(tmp_path, "supervised", 0, np.array([0.2, 0.4]), ["a", "b"])
    assert write_table(tmp_path, FRAME, {})[0]["sd_seeds"] == ""


def test_seeds_are_counted_where_a_metric_was_measured(tmp_path: Path) -> None:
    for seed in (0, 1):
        cell(tmp_path, "supervised", seed, np.array([0.2, 0.4]), ["a", "b"])
    file = tmp_path / "cells" / Cell("supervised", 0.2, 1).name / "result.json"
    result = read_json(file)
    del result["mean"]["pooled_dice"]
    write_json(file, result)
    rows = {row["metric"]: row for row in write_table(tmp_path, FRAME, {})}
    assert (rows["dice"]["seeds"], rows["pooled_dice"]["seeds"]) == (2, 1)


def test_paired_tests_are_scipys_on_patients_averaged_over_images_and_seeds(tmp_path: Path) -> None:
    ids = [f"p{i}#{k}" for i in range(20) for k in range(2)]
    values = {(m, s): RNG.uniform(size=40) for m in FRAME.methods for s in (0, 1)}
    for (method, seed), dice in values.items():
        cell(tmp_path, method, seed, dice, ids)
    rows = {(r["method"], r["against"]): r for r in map(dict, write_tests(tmp_path, FRAME))}
    assert rows.keys() == {("jig/pirl", "supervised"), ("rcl", "supervised"), ("rcl", "jig/pirl")}
    raw = []
    for (method, against), row in rows.items():
        a, b = (np.mean([values[m, s].reshape(20, 2).mean(1) for s in (0, 1)], axis=0) for m in (method, against))
        assert float(row["difference"]) == pytest.approx((a - b).mean(), rel=1e-3)
        assert float(row["p"]) == pytest.approx(wilcoxon(a, b, method="exact").pvalue, rel=1e-3)
        assert (row["cases"], row["seeds"]) == (20, 2)
        raw.append(float(row["p"]))
    holm = sorted(float(row["p_holm"]) for row in rows.values())
    first, second, third = sorted(raw)
    by_hand = np.minimum(1, np.maximum.accumulate([3 * first, 2 * second, third]))
    assert holm == pytest.approx(list(by_hand), rel=1e-3)


def test_ties_between_written_values_are_ties(tmp_path: Path) -> None:
    thirds = {"supervised": [3, 0, 1, 1, 2, 0, 1, 1, 2, 0], "rcl": [2, 0, 2, 2, 3, 1, 2, 2, 3, 1]}
    for method, values in thirds.items():
        written = np.array([float(as_text(np.float32(value / 3))) for value in values])
        for seed in (0, 1):
            cell(tmp_path, method, seed, written, [f"p{i}" for i in range(10)])
    (row,) = write_tests(tmp_path, FRAME)
    assert float(row["p"]) == pytest.approx(0.0390625, rel=1e-3)  # that of the whole numbers


def test_only_seeds_and_cases_that_both_have_are_compared(tmp_path: Path) -> None:
    cell(tmp_path, "supervised", 0, np.array([0.1, 0.2, 0.3]), ["a", "b", "c"])
    cell(tmp_path, "rcl", 0, np.array([0.3, 0.5, 0.9]), ["a", "b", "d"])
    cell(tmp_path, "rcl", 1, np.array([0.9, 0.9, 0.9]), ["a", "b", "c"])
    (row,) = write_tests(tmp_path, FRAME)
    assert (row["cases"], row["seeds"]) == (2, 1)
    assert float(row["difference"]) == pytest.approx(0.25)


def test_external_sets_have_rows_of_their_own_and_share_holms_correction(tmp_path: Path) -> None:
    ids, others = [f"p{i}" for i in range(12)], [f"q{i}" for i in range(9)]
    frame = Frame([TARGET], ["supervised", "rcl"], "%", test_sets=["BUS-BRA"])
    there = {method: RNG.uniform(size=9) for method in frame.methods}
    for method, dice in there.items():
        for seed in (0, 1):
            cell(tmp_path, method, seed, RNG.uniform(size=12), ids)
            add_external(tmp_path, Cell(method, 0.2, seed), dice, others)
    published = {
        ("segmentation", "", "20 %", "rcl"): Published("Table III", {"dice": ("0.847", "0.1")}, "other images"),
        ("segmentation", "BUS-BRA", "20 %", "rcl"): Published("Table VI", {"dice": ("0.903", "")}, "other sets"),
    }
    rows = write_table(tmp_path, frame, published)
    dice = {(row["test_set"], row["method"]): row for row in rows if row["metric"] == "dice"}
    assert list(dice) == [("", "supervised"), ("", "rcl"), ("BUS-BRA", "supervised"), ("BUS-BRA", "rcl")]
    assert dice["BUS-BRA", "rcl"]["mean"] == f"{there['rcl'].mean():.3f}"
    assert [row["cases"] for row in dice.values()] == [12, 12, 9, 9]
    assert [row["paper"] for row in dice.values()] == ["", "0.847", "", "0.903"]
    reasons = [row["why_not_comparable"] for row in dice.values() if row["paper"]]
    assert reasons == ["other images", "other sets"]
    tests = write_tests(tmp_path, frame)
    assert [row["test_set"] for row in tests] == ["", "BUS-BRA"]
    p = wilcoxon(there["rcl"], there["supervised"]).pvalue
    assert float(tests[1]["p"]) == pytest.approx(p, rel=1e-3)
    low, high = sorted(float(row["p"]) for row in tests)
    assert min(float(row["p_holm"]) for row in tests) == pytest.approx(min(1, 2 * low, max(2 * low, high)), rel=1e-3)
    collect_cases(tmp_path)
    sets = [row["test_set"] for row in read_csv(tmp_path / "metrics.csv")]
    assert sets == (["" for _ in ids] + ["BUS-BRA" for _ in others]) * 4
    assert "Segmentation, tested on BUS-BRA" in show(rows, tests, frame)


def compared(folder: Path, frame: Frame, trainings: list[tuple[int, int]]) -> list[dict[str, str]]:
    """tests.csv of two methods with these (seed, repeat) of each."""
    for method in ("supervised", "rcl"):
        for seed, repeat in trainings:
            names = [f"p{k + 8 * seed * (frame.folds is not None)}" for k in range(8)]
            cell(folder, method, seed, RNG.random(8), names, repeat=repeat)
    write_tests(folder, frame)
    return read_csv(folder / "tests.csv")


ONE_SEED = "one seed: a difference may be that of one training"
SMOKE = "a smoke run: too short to compare methods"


@pytest.mark.parametrize(
    ("frame", "trainings", "reason"),
    [
        (FRAME, [(0, 0)], ONE_SEED),
        (FRAME, [(0, 0), (1, 0)], ""),
        (FRAME, [(0, 0), (0, 1)], ""),
        (replace(FRAME, folds=3), [(0, 0), (1, 0), (2, 0)], ""),
        (replace(FRAME, folds=3), [(2, 0)], ONE_SEED.replace("seed", "fold")),
        (replace(FRAME, smoke=True), [(0, 0), (1, 0)], SMOKE),
        (replace(FRAME, smoke=True, folds=3), [(0, 0), (1, 0), (2, 0)], SMOKE),
    ],
)
def test_smoke_runs_and_single_trainings_have_a_reason_instead_of_a_p_value(
    tmp_path: Path, frame: Frame, trainings: list[tuple[int, int]], reason: str
) -> None:
    (row,) = compared(tmp_path, frame, trainings)
    assert row["no_p"] == reason
    assert (row["p"] == "") == (row["p_holm"] == "") == bool(reason)
    assert float(row["ci_low"]) <= float(row["difference"]) <= float(row["ci_high"])
    assert row["cases"] == str(8 * len(trainings) if frame.folds else 8)


def test_two_trainings_of_one_method_do_not_make_up_for_one_of_the_other(tmp_path: Path) -> None:
    compared(tmp_path, FRAME, [(0, 0)])
    cell(tmp_path, "rcl", 0, RNG.random(8), [f"p{k}" for k in range(8)], repeat=1)
    assert [row["no_p"] for row in write_tests(tmp_path, FRAME)] == [ONE_SEED]


def test_holms_correction_counts_the_p_values_alone(tmp_path: Path) -> None:
    names = [f"p{k}" for k in range(8)]
    for method in ("supervised", "rcl"):
        for labels, seed in ((0.2, 0), (0.2, 1), (1.0, 0)):
            cell(tmp_path, method, seed, RNG.random(8), names, labels=labels)
    rows = {row["labels"]: row for row in write_tests(tmp_path, FRAME)}
    assert (rows["100 %"]["no_p"], rows["100 %"]["p_holm"]) == (ONE_SEED, "")
    assert rows["20 %"]["p_holm"] == rows["20 %"]["p"] != ""


def test_folds_are_called_folds_and_their_cases_add_up(tmp_path: Path) -> None:
    frame = replace(FRAME, folds=3)
    tests = compared(tmp_path, frame, [(0, 0), (1, 0), (2, 0)])
    rows = write_table(tmp_path, frame, {})
    assert {(row["seeds"], row["cases"], row["why_not_comparable"]) for row in rows} == {(3, 24, "")}
    text = show(rows, tests, frame)
    assert "(folds ± " in text
    assert "24 cases, p = " in text
    assert "seed" not in text


def test_the_paper_has_a_column_where_it_printed_a_number(tmp_path: Path) -> None:
    cell(tmp_path, "supervised", 0, np.array([0.2, 0.4]), ["a", "b"])
    published = {
        ("segmentation", "", "20 %", "supervised"): Published("BUSI", {"dice": ("0.847", "0.1")}, "other images")
    }
    for given, shown in ((published, ["ours", "paper"]), ({}, ["mean"])):
        rows = write_table(tmp_path, FRAME, given)
        lines = show(rows, [], FRAME).splitlines()
        assert lines[2].split() == ["labels", "method", "metric", *shown]
        assert lines[3].endswith("0.847 ± 0.1" if given else "0.300 ± 0.141")


def test_the_best_of_the_other_baselines_is_the_rival(tmp_path: Path) -> None:
    frame = Frame([TARGET], ["supervised", "a", "b", "rcl"], "%", ("supervised", "a", "b"))
    for k, method in enumerate(frame.methods):
        cell(tmp_path, method, 0, np.array([0.1, 0.2, 0.35]) + k / 10, ["x", "y", "z"])
    pairs = [(row["method"], row["against"]) for row in write_tests(tmp_path, frame)]
    assert pairs == [
        ("a", "supervised"),
        ("a", "b"),
        ("b", "supervised"),
        ("rcl", "supervised"),
        ("rcl", "b"),
    ]


def test_all_cases_of_all_cells_in_one_file(tmp_path: Path) -> None:
    cell(tmp_path, "supervised", 0, np.array([0.1, 0.2]), ["a", "b"])
    cell(tmp_path, "rcl", 0, np.array([0.3, 0.5]), ["a", "b"], labels=1.0)
    collect_cases(tmp_path)
    rows = [(r["method"], r["labels"], r["id"], r["dice"]) for r in read_csv(tmp_path / "metrics.csv")]
    assert rows == [
        ("rcl", "1.0", "a", "0.3"),
        ("rcl", "1.0", "b", "0.5"),
        ("supervised", "0.2", "a", "0.1"),
        ("supervised", "0.2", "b", "0.2"),
    ]


def test_the_terminal_shows_what_the_files_hold(tmp_path: Path) -> None:
    cell(tmp_path, "supervised", 0, np.array([0.1, 0.2]), ["a", "b"])
    cell(tmp_path, "rcl", 0, np.array([0.3, 0.5]), ["a", "b"])
    rows = write_table(tmp_path, FRAME, {})
    text = show(rows, write_tests(tmp_path, FRAME), FRAME)
    assert "0.400 ± 0.141" in text
    assert "20 %: rcl against supervised: dice +0.250" in text
    assert "2 cases, no p-value (one seed: a difference may be that of one training)" in text
    assert "p =" not in text
    assert "paper" not in text


def test_repeats_of_a_seed_have_a_spread_of_their_own_and_count_once_in_tests(tmp_path: Path) -> None:
    names = [f"p{k}" for k in range(8)]
    once, twice = RNG.random((2, 8)), RNG.random((2, 8))
    for seed in (0, 1):
        cell(tmp_path, "supervised", seed, once[seed], names)
        for repeat, gap in enumerate((0.0, 0.25, 0.5)):
            cell(tmp_path, "rcl", seed, (twice[seed] + gap) / 2, names, repeat=repeat)
    rows = write_table(tmp_path, FRAME, {})
    dice = {row["method"]: row for row in rows if row["metric"] == "dice"}
    assert (dice["rcl"]["seeds"], dice["rcl"]["repeats"], dice["rcl"]["cases"]) == (2, 3, 8)
    assert (dice["rcl"]["sd_repeats"], dice["supervised"]["sd_repeats"]) == ("0.125", "")
    assert float(dice["rcl"]["mean"]) == pytest.approx((twice.mean() + 0.25) / 2, abs=1e-3)
    between = np.std((twice.mean(1) + 0.25) / 2, ddof=1)
    assert float(dice["rcl"]["sd_seeds"]) == pytest.approx(between, abs=1e-3)
    (test,) = write_tests(tmp_path, FRAME)
    ours, theirs = (twice.mean(0) + 0.25) / 2, once.mean(0)
    assert (test["cases"], test["seeds"]) == (8, 2)
    assert float(test["difference"]) == pytest.approx((ours - theirs).mean(), abs=1e-3)
    assert float(test["p"]) == pytest.approx(wilcoxon(ours, theirs).pvalue, rel=1e-3)
    assert "(repeats ± 0.125)" in show(rows, [], FRAME)


def test_repeats_are_averaged_on_each_test_set(tmp_path: Path) -> None:
    ids, others = [f"p{k}" for k in range(8)], [f"q{k}" for k in range(6)]
    frame = Frame([TARGET], ["supervised", "rcl"], "%", test_sets=["BUS-BRA"])
    here, there = RNG.random((2, 8)), RNG.random((2, 6)) / 2
    for k, method in enumerate(frame.methods):
        for repeat in (0, 1):
            gap = repeat * k / 2
            cell(tmp_path, method, 0, here[k], ids, repeat=repeat)
            add_external(tmp_path, Cell(method, 0.2, 0, repeat=repeat), there[k] + gap, others)
    rows = write_table(tmp_path, frame, {})
    dice = {(row["test_set"], row["method"]): row for row in rows if row["metric"] == "dice"}
    assert dice["", "rcl"]["sd_repeats"] == "0.000"
    assert float(dice["BUS-BRA", "rcl"]["sd_repeats"]) == pytest.approx(0.5 / 2**0.5, abs=1e-3)
    assert float(dice["BUS-BRA", "rcl"]["mean"]) == pytest.approx(there[1].mean() + 0.25, abs=1e-3)
    assert {(row["seeds"], row["repeats"]) for row in rows} == {(1, 2)}
    _, test = write_tests(tmp_path, frame)
    assert (test["test_set"], test["cases"]) == ("BUS-BRA", 6)
    assert float(test["difference"]) == pytest.approx((there[1] + 0.25 - there[0]).mean(), abs=1e-3)
    collect_cases(tmp_path)
    counts = Counter((row["test_set"], row["repeat"]) for row in read_csv(tmp_path / "metrics.csv"))
    assert counts == {("", "0"): 16, ("", "1"): 16, ("BUS-BRA", "0"): 12, ("BUS-BRA", "1"): 12}


def test_the_first_of_several_repeats_is_the_cell_of_a_run_without_them(tmp_path: Path) -> None:
    cells = [Cell("rcl", 0.2, 0, repeat=repeat) for repeat in (0, 1)]
    manifest.record(tmp_path, [manifest.CellEntry(f"cells/{one.name}", one) for one in cells])
    assert [one.name for one in cells] == ["rcl-l20-s0", "rcl-l20-s0-r1"]
    assert [one.training() for one in cells] == ["seed 0", "seed 0, repeat 2"]
    assert "repeat" not in read_json(tmp_path / "manifest.json")["cells"][0]
    assert [entry.cell for entry in manifest.read(tmp_path).of(cells)] == cells
