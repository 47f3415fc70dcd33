"""CBIS-DDSM in miniature, in both styles of the data retriever's folders."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from scans import write_dicom
from sslmed.data import CBISDDSM, DiskCache, birads_class

pytest.importorskip("pydicom")
COLUMNS = ["patient_id", "breast_density", "image view", "assessment", "pathology"]
PATHS = ["image file path", "cropped image file path", "ROI mask file path"]
SHAPE = (12, 8)
UNCALLED = "BENIGN_WITHOUT_CALLBACK"
# table, patient, image, number of the abnormality, assessment, pathology
ROWS = [
    ("mass_case_description_train_set.csv", "P_00001", "Mass-Training_P_00001_LEFT_CC", 1, "4", "MALIGNANT"),
    ("mass_case_description_train_set.csv", "P_00001", "Mass-Training_P_00001_LEFT_CC", 2, "2", "BENIGN"),
    ("mass_case_description_train_set.csv", "P_00001", "Mass-Training_P_00001_LEFT_MLO", 1, "3", "BENIGN"),
    (
        "calc_case_description_train_set.csv",
        "P_00005",
        "Calc-Training_P_00005_RIGHT_CC",
        1,
        "0",
        "BENIGN_WITHOUT_CALLBACK",
    ),
    ("mass_case_description_test_set.csv", "P_00016", "Mass-Test_P_00016_LEFT_CC", 1, "5", "MALIGNANT"),
    ("calc_case_description_test_set.csv", "P_00038", "Calc-Test_P_00038_LEFT_CC", 1, "2", "BENIGN"),
]


def mask(number: int, shape: tuple[int, int] = SHAPE) -> np.ndarray:
    values = np.zeros(shape, dtype=np.uint8)
    values[2 * number : 2 * number + 2, 1:5] = 255
    return values


def write_mask(path: Path, values: np.ndarray) -> None:
    write_dicom(path, values, BitsAllocated=8, BitsStored=8, HighBit=7)


def write_tables(folder: Path, rows: list[tuple[str, str, str, int, str, str]] = ROWS) -> None:
    for name in {row[0] for row in rows}:
        with (folder / name).open("w", newline="") as file:
            table = csv.writer(file)
            table.writerow([*COLUMNS, *PATHS])
            for _, patient, image, k, birads, pathology in (row for row in rows if row[0] == name):
                # the tables' file names, and a line break within the cell, are those of the published tables
                paths = [
                    f"{image}/1.3.6/1.4/000000.dcm",
                    *(f"{image}_{k}/1.3.6/1.5/00000{j}.dcm\n" for j in (0, 1)),
                ]
                table.writerow([patient, 3, "CC", birads, pathology, *paths])


def build(folder: Path, style: str) -> Path:
    images = folder / "manifest-ZkhPvrLo5216730872708713142" / "CBIS-DDSM" if style == "uid" else folder / "CBIS-DDSM"
    for n, (_, _, image, k, _, _) in enumerate(ROWS):
        full, region = images / image, images / f"{image}_{k}"
        if style == "uid":
            places = [full / "1.3.6/1.4", region / "1.3.6/1.5", region / "1.3.6/1.5"]
        else:
            places = [
                full / "07-20-2016-DDSM-NA-74994/1.000000-full mammogram images-24515",
                region / "07-20-2016-DDSM-NA-94942/1.000000-ROI mask images-18515",
                region / "07-21-2016-DDSM-NA-1/1.000000-cropped images-1",
            ]
        for place in places:
            place.mkdir(parents=True, exist_ok=True)
        stored = np.arange(96, dtype=np.uint16).reshape(SHAPE) * 600 + n
        if not (places[0] / "1-1.dcm").exists():
            write_dicom(places[0] / "1-1.dcm", stored, BitsStored=16, HighBit=15)
        # mask and cropped image are exchanged in every second row
        names = ("1-1.dcm", "1-2.dcm") if n % 2 else ("1-2.dcm", "1-1.dcm")
        write_mask(places[1] / names[0], mask(k))
        write_dicom(places[2] / names[1], stored[:5, :5].copy(), BitsStored=16, HighBit=15)
    write_tables(folder)
    return folder


@pytest.fixture(params=["uid", "descriptive"])
def root(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(CBISDDSM, "published", {"training": 3, "test": 2})
    folder = tmp_path / "CBIS"
    folder.mkdir()
    return build(folder, request.param)


def folder_of(root: Path, name: str) -> Path:
    return next(root.rglob(name))


@pytest.mark.parametrize("up", [False, True])
def test_items(root: Path, up: bool) -> None:
    data = CBISDDSM(root.parent if up else root)
    assert data.ids == [
        "Mass-Training_P_00001_LEFT_CC",
        "Mass-Training_P_00001_LEFT_MLO",
        "Calc-Training_P_00005_RIGHT_CC",
        "Mass-Test_P_00016_LEFT_CC",
        "Calc-Test_P_00038_LEFT_CC",
    ]
    assert data.labels == [1, 0, 0, 1, 0]
    assert data.groups == ["P_00001", "P_00001", "P_00005", "P_00016", "P_00038"]
    assert data.birads == ["4", "3", "0", "5", "2"]
    assert [birads_class(text) for text in data.birads] == [
        "malignant",
        "benign",
        None,
        "malignant",
        "benign",
    ]
    assert data.resized == []
    assert data.counts == {"benign": 3, "malignant": 2}
    item = data[0]
    assert set(item) == {"image", "mask", "label", "id", "group"}
    assert torch.allclose(item["image"][0] * 65535, torch.arange(96.0).reshape(SHAPE) * 600)
    assert torch.equal(item["mask"][0], torch.from_numpy((mask(1) | mask(2)) > 0))
    assert len(data.files) == 5 + 6


def test_parts_and_kinds(root: Path) -> None:
    assert len(CBISDDSM(root, part="training")) == 3
    assert len(CBISDDSM(root, part="test")) == 2
    assert CBISDDSM(root, part="test", kind="mass").ids == ["Mass-Test_P_00016_LEFT_CC"]
    assert len(CBISDDSM(root, kind="calcification")) == 2


def test_masks_of_another_size(root: Path, tmp_path: Path) -> None:
    first, second = folder_of(root, "Mass-Test_P_00016_LEFT_CC_1").rglob("*.dcm")
    second.unlink()
    write_mask(first, np.kron(mask(1), np.ones((2, 2), dtype=np.uint8)))
    data = CBISDDSM(root)
    assert data.resized == ["Mass-Test_P_00016_LEFT_CC"]
    assert torch.equal(data[3]["mask"][0], torch.from_numpy(mask(1) > 0))
    small = CBISDDSM(root, size=4, fit="pad")
    assert small[3]["mask"].shape == small[3]["image"].shape == (1, 4, 4)
    assert torch.equal(DiskCache(small, tmp_path / "cache")[3]["mask"], small[3]["mask"])


def test_partial_sets(root: Path) -> None:
    shutil.rmtree(folder_of(root, "Mass-Training_P_00001_LEFT_CC_2"))
    with pytest.raises(ValueError, match=r"lacks 1 of 5 images.*Mass-Training_P_00001_LEFT_CC\..*allow_partial=True"):
        CBISDDSM(root)
    assert "Mass-Training_P_00001_LEFT_CC" not in CBISDDSM(root, allow_partial=True).ids
    write_tables(root, [*ROWS[:4], ("mass_case_description_test_set.csv", *ROWS[5][1:])])
    (root / "calc_case_description_test_set.csv").unlink()
    with pytest.raises(ValueError, match=r"calc_case_description_test_set\.csv: the table is missing"):
        CBISDDSM(root)
    assert len(CBISDDSM(root, allow_partial=True)) == 3


def test_counts(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CBISDDSM, "published", {"training": 4, "test": 2})
    with pytest.raises(ValueError, match="training 3 of 4, test 2 of 2"):
        CBISDDSM(root)


def spoil(root: Path, how: str) -> None:
    image = next(folder_of(root, "Mass-Training_P_00001_LEFT_CC").rglob("*.dcm"))
    region = folder_of(root, "Mass-Training_P_00001_LEFT_CC_1")
    if how == "no image":
        image.unlink()
    elif how == "two images":
        shutil.copy(image, image.with_name("1-2.dcm"))
    elif how == "no mask":
        for path in region.rglob("*.dcm"):
            write_mask(path, np.zeros((5, 5), dtype=np.uint8))
    elif how == "two masks":
        for path in region.rglob("*.dcm"):
            write_mask(path, mask(1))
    elif how == "empty":
        image.write_bytes(b"")
    elif how == "cut":
        image.write_bytes(image.read_bytes()[:-50])
    elif how == "frames":
        write_dicom(image, np.zeros((2, *SHAPE), dtype=np.uint16))
    elif how == "pathology":
        write_tables(root, [(*ROWS[0][:5], "UNSURE"), *ROWS[1:]])
    elif how == "columns":
        (root / ROWS[0][0]).write_text("patient_id,assessment\nP_00001,4\n")


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("no image", "Mass-Training_P_00001_LEFT_CC: one DICOM file, the mammogram, was expected, got 0"),
        ("two images", "was expected, got 2"),
        ("no mask", "Mass-Training_P_00001_LEFT_CC_1: no mask of about 12 x 8 pixels"),
        ("two masks", "Mass-Training_P_00001_LEFT_CC_1: several files of 12 x 8 pixels"),
        ("empty", r"1-1\.dcm: the file is empty"),
        ("cut", r"1-1\.dcm: .*truncated"),
        ("frames", "one frame was expected, got 2"),
        ("pathology", r"mass_case_description_train_set\.csv: a row lacks .*UNSURE"),
        ("columns", "columns patient_id, assessment, pathology"),
    ],
)
def test_damage_is_named(root: Path, how: str, message: str) -> None:
    spoil(root, how)
    with pytest.raises(ValueError, match=message):
        CBISDDSM(root)[0]


def test_settings(root: Path) -> None:
    with pytest.raises(ValueError, match="part must be one of"):
        CBISDDSM(root, part="train")
    with pytest.raises(ValueError, match="kind must be one of"):
        CBISDDSM(root, kind="calc")
    with pytest.raises(ValueError, match="CBIS-DDSM folder"):
        CBISDDSM(folder_of(root, "CBIS-DDSM"))
    for folder in (*root.glob("manifest-*"), *root.glob("CBIS-DDSM")):
        shutil.rmtree(folder)
    with pytest.raises(ValueError, match="no folder CBIS-DDSM"):
        CBISDDSM(root)
