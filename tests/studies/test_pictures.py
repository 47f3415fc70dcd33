"""The test cases of the report: chosen over all methods of a seed, with their images and references."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import run_folders
from cases import TensorCases
from sslmed.studies import manifest
from sslmed.studies.pictures import pictures, write_pictures
from sslmed.studies.results import results
from sslmed.studies.splitting import Split
from sslmed.tasks import Classification, Segmentation, Volumes, dice_bce


def network(outputs: int, weights: object) -> torch.nn.Module:
    return torch.nn.Conv2d(1, outputs, 1)


def split(test: range) -> Split:
    return Split([], [], list(test), {})


@pytest.fixture
def cases() -> TensorCases:
    masks = torch.zeros(9, 1, 8, 8, dtype=torch.bool)
    for k in range(9):
        masks[k, 0, : k + 1 if k < 7 else 0] = True
    found = TensorCases(torch.arange(9)[:, None, None, None].expand(9, 1, 8, 8) / 8, masks)
    found.ids[0] = run_folders.EVIL
    return found


def test_pictures_are_of_the_cases_by_their_id(tmp_path: Path, cases: TensorCases) -> None:
    for method in ("supervised", "simclr"):
        run_folders.write_cell(tmp_path, "segmentation", method, 0.2, 1)
    run_folders.write_cell(tmp_path, "segmentation", "supervised", 0.2, 0)
    task = Segmentation(network=network, loss=dice_bce)
    write_pictures(tmp_path, task, cases, {0: split(range(9)), 1: split(range(9))}, {})
    z = pictures(tmp_path, "segmentation")
    assert int(z["seed"]) == 1  # which both methods have
    assert len(z["id"]) >= 4
    for name, image, target in zip(z["id"], z["image"], z["target"], strict=True):
        k = cases.ids.index(str(name))
        assert (image == round(255 * k / 8)).all()
        np.testing.assert_array_equal(target, cases.outlines[k, 0])
    assert list(z["structures"]) == []


def test_a_run_without_results_or_of_classes_has_no_pictures(tmp_path: Path, cases: TensorCases) -> None:
    run_folders.write_cell(tmp_path, "classification", "supervised", 1.0, 0, target="classification")
    write_pictures(tmp_path, Segmentation(network=network, loss=dice_bce), cases, {0: split(range(9))}, {})
    write_pictures(tmp_path, Classification(network=network), cases, {0: split(range(9))}, {})
    assert not (tmp_path / "pictures").exists()
    assert pictures(tmp_path, "classification") == {}


def test_cases_outside_the_split_have_no_picture(tmp_path: Path, cases: TensorCases) -> None:
    run_folders.write_cell(tmp_path, "segmentation", "supervised", 0.2, 0)
    write_pictures(tmp_path, Segmentation(network=network, loss=dice_bce), cases, {0: split(range(3, 6))}, {})
    assert set(pictures(tmp_path, "segmentation")["id"]) == {"case 3", "case 4", "case 5"}


def test_an_external_set_shows_its_own_cases_ranked_by_its_own_results(tmp_path: Path, cases: TensorCases) -> None:
    run_folders.write_cell(tmp_path, "segmentation", "supervised", 0.2, 0, cases=3)
    run_folders.write_cell(tmp_path, "segmentation", "simclr", 0.2, 0, cases=3)
    for cell, best in zip(results(tmp_path), ("case 4", "case 5"), strict=True):
        rows = [
            {"id": f"case {k}", "label": "", "target_empty": 0, "dice": 0.9 if f"case {k}" == best else 0.1 * k}
            for k in range(3, 7)
        ]
        run_folders.write_csv(cell.folder / "test_sets" / "x" / "metrics.csv", rows)
        entry = manifest.CellEntry(f"cells/{cell.cell.name}", cell.cell, test_sets={"Clinic B": "test_sets/x"})
        manifest.record(tmp_path, [entry])
        summary = {"cases": 4, "mean": {}, "sd": {}}
        run_folders.write_json(cell.folder / "result.json", cell.summary | {"test_sets": {"Clinic B": summary}})
    task = Segmentation(network=network, loss=dice_bce)
    write_pictures(tmp_path, task, cases, {0: split(range(3))}, {"Clinic B": cases})
    here, there = pictures(tmp_path, "segmentation"), pictures(tmp_path, "segmentation", "test_sets/x")
    assert set(here["id"]) <= {run_folders.EVIL, "case 1", "case 2"}
    # Means over both methods: 0.7 of case 5, 0.65 of case 4, 0.6 of case 6 and 0.3 of case 3.
    assert [str(name) for name in there["id"]] == ["case 5", "case 4", "case 6", "case 3"]
    assert [str(tier) for tier in there["tier"]] == ["best 20 %", "middle 60 %", "middle 60 %", "worst 20 %"]
    np.testing.assert_array_equal(there["target"][0], cases.outlines[5, 0])


def test_volumes_show_the_slice_with_most_and_all_structures(tmp_path: Path) -> None:
    run_folders.write_cell(tmp_path, "volumes", "supervised", 4, 0, target="volumes", cases=3)
    maps = torch.zeros(6, 1, 8, 8, dtype=torch.uint8)
    for k in range(6):
        maps[k, 0, : k + 1] = 1 + k % 2
    groups = [f"hippocampus_{k % 3:03}" for k in range(6)]
    cases = TensorCases(torch.rand(6, 1, 8, 8), maps, structures=("front", "back"), groups=groups)
    write_pictures(
        tmp_path,
        Volumes(network=network, loss=dice_bce, name="volumes", title="", metric="dice"),
        cases,
        {0: split(range(6))},
        {},
    )
    z = pictures(tmp_path, "volumes")
    assert sorted(z["id"]) == sorted(set(groups))
    for name, target in zip(z["id"], z["target"], strict=True):
        np.testing.assert_array_equal(target, maps[3 + groups.index(str(name)), 0])
    assert list(z["structures"]) == ["front", "back"]
