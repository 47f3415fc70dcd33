"""The Decathlon's layout in miniature: two sequences, two structures, labelled and unlabelled volumes."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from scans import write_nifti
from sslmed.data import Decathlon, DiskCache
from sslmed.data.readers import decathlon

pytest.importorskip("nibabel")
SPACING = np.diag([0.6, 0.6, 4.0, 1.0])
STRUCTURES = {"0": "background", "1": "PZ", "2": "TZ"}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(Decathlon, "published", {"Prostate": (2, 1)})
    folder = tmp_path / "Task05_Prostate"
    for name in ("imagesTr", "labelsTr", "imagesTs"):
        (folder / name).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for k in (0, 1):
        depth = 4 + k
        write_nifti(folder / f"imagesTr/prostate_{k:02}.nii.gz", rng.random((12, 10, depth, 2)) * 900, SPACING)
        label = np.zeros((12, 10, depth))
        label[3:7, 2:5, 1], label[7:9, 2:5, 1] = 1, 2
        write_nifti(folder / f"labelsTr/prostate_{k:02}.nii.gz", label, SPACING, dtype="u1")
    write_nifti(folder / "imagesTs/prostate_03.nii.gz", rng.random((12, 10, 3, 2)), SPACING)
    about = {
        "name": "PROSTATE",
        "modality": {"0": "T2", "1": "ADC"},
        "labels": STRUCTURES,
        "training": [
            {"image": f"./imagesTr/prostate_{k:02}.nii.gz", "label": f"./labelsTr/prostate_{k:02}.nii.gz"}
            for k in (0, 1)
        ],
        "test": ["./imagesTs/prostate_03.nii.gz"],
    }
    (folder / "dataset.json").write_text(json.dumps(about))
    return folder


def test_two_volumes_of_one_name_are_refused(root: Path) -> None:
    (root / "imagesTs/a").mkdir()
    for folder in ("imagesTs", "imagesTs/a"):
        write_nifti(root / folder / "prostate_03.nii.gz", np.random.default_rng(0).random((12, 10, 3, 2)))
    about = json.loads((root / "dataset.json").read_text())
    about["test"].append("imagesTs/a/prostate_03.nii.gz")
    (root / "dataset.json").write_text(json.dumps(about))
    with pytest.raises(ValueError, match=r"several volumes are called prostate_03; rename them"):
        Decathlon(root, part="test", allow_partial=True)
    assert len(Decathlon(root, allow_partial=True).volumes) == 2


def test_slices(root: Path) -> None:
    data = Decathlon(root.parent)
    assert len(data) == 9
    assert data.ids[:5] == [*(f"prostate_00#{k}" for k in range(4)), "prostate_01#0"]
    assert data.groups == ["prostate_00"] * 4 + ["prostate_01"] * 5
    assert data.structures == {0: "background", 1: "PZ", 2: "TZ"}
    assert data.sequences == ["T2", "ADC"]
    item = data[1]
    assert set(item) == {"image", "mask", "label_map", "id", "group"}
    assert (item["image"].shape, item["image"].dtype) == ((2, 10, 12), torch.float32)
    assert (item["mask"].shape, item["mask"].dtype) == ((1, 10, 12), torch.bool)
    # Rows run from front to back and columns from right to left: both turned over against the file.
    expected = torch.zeros(10, 12, dtype=torch.int64)
    expected[5:8, 5:9], expected[5:8, 3:5] = 1, 2
    assert torch.equal(item["label_map"][0], expected)
    assert torch.equal(item["mask"], item["label_map"] > 0)
    assert not data[0]["mask"].any()
    small = Decathlon(root, size=8, fit="pad")[1]
    assert (small["image"].shape, small["mask"].shape) == ((2, 8, 8), (1, 8, 8))
    assert set(small["label_map"].unique().tolist()) == {0, 1, 2}
    with pytest.raises(IndexError):
        data[9]


def test_whole_volumes(root: Path) -> None:
    volumes, slices = Decathlon(root, slices=False), Decathlon(root)
    assert volumes.ids == volumes.groups == ["prostate_00", "prostate_01"]
    item = volumes[0]
    assert item["image"].shape == (2, 4, 10, 12)
    assert item["spacing_mm"] == pytest.approx((4, 0.6, 0.6))
    for channel in item["image"]:  # each sequence in its own range
        assert (channel.min(), channel.max()) == (0, 1)
    for name in ("image", "mask", "label_map"):
        assert torch.equal(torch.stack([slices[k][name] for k in range(4)], dim=1), item[name])


def test_parts(root: Path) -> None:
    test, both = Decathlon(root, part="test"), Decathlon(root, part="both")
    assert test.ids == [f"prostate_03#{k}" for k in range(3)]
    assert set(test[0]) == {"image", "id", "group"}
    assert len(both) == 12
    assert set(both[0]) == {"image", "id", "group"}
    assert torch.equal(both[0]["image"], Decathlon(root)[0]["image"])


def test_slices_in_order_decode_each_volume_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, reads = Decathlon(root), []
    plain = decathlon.read_nifti
    monkeypatch.setattr(decathlon, "read_nifti", lambda path: reads.append(path) or plain(path))
    for i in range(len(data)):
        data[i]
    assert len(reads) == 4
    copy = pickle.loads(pickle.dumps(data))
    assert copy._last._held is None
    assert torch.equal(copy[8]["image"], data[8]["image"])


def test_changing_an_item_changes_no_other(root: Path) -> None:
    data = Decathlon(root)
    before = data[1]["image"].clone()
    data[1]["image"].zero_()
    assert torch.equal(data[1]["image"], before)


def test_cached_slices(root: Path, tmp_path: Path) -> None:
    data = Decathlon(root, size=16)
    cached = DiskCache(data, tmp_path / "cache")
    for i in (0, 1, 8):
        assert cached[i].keys() == data[i].keys()
        assert torch.equal(cached[i]["image"], data[i]["image"])
        assert torch.equal(cached[i]["label_map"], data[i]["label_map"])
    assert cached.path != DiskCache(Decathlon(root, size=16, part="both"), tmp_path / "cache").path


def test_partial_sets_are_refused(root: Path) -> None:
    about = json.loads((root / "dataset.json").read_text())
    about["training"].pop()
    (root / "dataset.json").write_text(json.dumps(about))
    with pytest.raises(ValueError, match="1 of 2 training volumes, 1 of 1 test"):
        Decathlon(root)
    assert Decathlon(root, allow_partial=True).volumes == ["prostate_00"]
    other = root.rename(root.parent / "my prostates")
    with pytest.raises(ValueError, match="must end with a task"):
        Decathlon(other)
    assert len(Decathlon(other, allow_partial=True)) == 4


def spoil(root: Path, how: str) -> None:
    image, label = root / "imagesTr/prostate_01.nii.gz", root / "labelsTr/prostate_01.nii.gz"
    values: dict[str, Any] = {
        "size": np.zeros((12, 10, 4)),
        "number": np.full((12, 10, 5), 7),
        "fraction": np.full((12, 10, 5), 0.5),
    }
    if how in values:
        write_nifti(label, values[how], SPACING)
    elif how == "missing":
        os.remove(label)
    elif how == "cut":
        image.write_bytes(image.read_bytes()[:-30])
    elif how == "empty":
        image.write_bytes(b"")
    elif how == "one sequence":
        write_nifti(image, np.zeros((12, 10, 5)), SPACING)
    elif how == "json":
        (root / "dataset.json").write_text('{"labels": {}')
    elif how == "keys":
        (root / "dataset.json").write_text('{"labels": {}}')


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("size", r"labelsTr/prostate_01\.nii\.gz: a label of shape \(1, 5, 10, 12\)"),
        ("number", r"labelsTr/prostate_01\.nii\.gz: labels \[0, 1, 2\] were expected.*got 7"),
        ("fraction", "got 0.5"),
        ("missing", r"labelsTr/prostate_01\.nii\.gz: the file is missing"),
        ("cut", r"imagesTr/prostate_01\.nii\.gz"),
        ("empty", r"imagesTr/prostate_01\.nii\.gz.*empty"),
        ("one sequence", "2 sequences were expected, got 1"),
        ("json", r"dataset\.json: not a readable JSON"),
        ("keys", r"dataset\.json: labels, modality, test, training were expected"),
    ],
)
def test_damage_is_named(root: Path, how: str, message: str) -> None:
    spoil(root, how)
    with pytest.raises(ValueError, match=message):
        Decathlon(root)[8]


def test_settings(root: Path) -> None:
    with pytest.raises(ValueError, match="part must be"):
        Decathlon(root, part="all")
    with pytest.raises(ValueError, match="size must be None for whole volumes"):
        Decathlon(root, slices=False, size=64)
    with pytest.raises(FileNotFoundError):
        Decathlon(root / "none")
    with pytest.raises(ValueError, match="Decathlon task folder"):
        Decathlon(root / "imagesTr")
