"""UDIAT in miniature, in the layout as delivered."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sslmed.data import UDIAT

openpyxl = pytest.importorskip("openpyxl")

ROWS = [[1, "Benign", "CYST"], ["000002", " malignant", "IDC"], [12, "Benign", "FA"]]


def write_sheet(root: Path, rows: list[list[Any]]) -> None:
    book = openpyxl.Workbook()
    book.active.append(["Image", "Type", "Diagnosis"])
    for row in rows:
        book.active.append(row)
    book.save(root / "DatasetB.xlsx")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "Übung a" / "BUS"
    rng = np.random.default_rng(0)
    mask = np.zeros((30, 40), dtype=np.uint8)
    mask[9:15, 9:15] = 255
    for name in ("original", "GT"):
        (root / name).mkdir(parents=True)
    for name in ("000001", "000002", "000012"):
        Image.fromarray(rng.integers(0, 255, (30, 40), dtype=np.uint8)).save(root / "original" / f"{name}.png")
        Image.fromarray(mask).save(root / "GT" / f"{name}.png")
    write_sheet(root, ROWS)
    return root


@pytest.mark.parametrize("up", [False, True])
def test_items(root: Path, up: bool) -> None:
    data = UDIAT(root.parent if up else root, size=32, allow_partial=True)
    assert data.ids == ["000001", "000002", "000012"]
    assert data.labels == [0, 1, 0]
    assert data.groups is None
    item = data[1]
    assert item["image"].shape == item["mask"].shape == (1, 32, 32)
    assert item["mask"].any()
    assert sorted(item) == ["id", "image", "label", "mask"]


def test_a_partial_set_is_refused_with_what_it_lacks(root: Path) -> None:
    write_sheet(root, [*ROWS, [13, "Malignant", "IDC"]])
    with pytest.raises(ValueError, match=r"benign 2 of 110, malignant 1 of 53\. Missing: 000013\."):
        UDIAT(root)
    assert len(UDIAT(root, allow_partial=True)) == 3


@pytest.mark.parametrize("benign", [110, 109, 111])
def test_both_known_counts_are_whole(tmp_path: Path, benign: int) -> None:
    for name in ("original", "GT"):
        (tmp_path / name).mkdir()
        for k in range(1, 164):
            Image.new("L", (2, 2)).save(tmp_path / name / f"{k:06d}.png")
    write_sheet(tmp_path, [[k, "Benign" if k <= benign else "Malignant", None] for k in range(1, 164)])
    if benign == 111:
        with pytest.raises(ValueError, match="benign 111 of 110, malignant 52 of 53"):
            UDIAT(tmp_path)
    else:
        assert UDIAT(tmp_path).counts == {"benign": benign, "malignant": 163 - benign}


def test_files_and_sheet_must_agree(root: Path) -> None:
    (root / "GT" / "000012.png").rename(root / "GT" / "000013.png")
    with pytest.raises(ValueError, match=r"000012\.png: an image without its mask GT/000012\.png"):
        UDIAT(root, allow_partial=True)
    (root / "original" / "000012.png").unlink()
    with pytest.raises(ValueError, match=r"000013\.png: a mask without its image original/000013\.png"):
        UDIAT(root, allow_partial=True)
    (root / "GT" / "000013.png").unlink()
    write_sheet(root, ROWS[1:])
    with pytest.raises(ValueError, match=r"original: 000001 not in DatasetB\.xlsx"):
        UDIAT(root, allow_partial=True)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ([4, "Normal", None], r"Image '4' and Type 'Normal'"),
        (["x", "Benign", None], "Image 'x'"),
        ([1, "Benign", None], "image 000001 occurs twice"),
    ],
)
def test_bad_rows(root: Path, row: list[Any], words: str) -> None:
    write_sheet(root, [*ROWS, row])
    with pytest.raises(ValueError, match=rf"DatasetB\.xlsx: .*{words}"):
        UDIAT(root, allow_partial=True)


def test_faulty_files(root: Path) -> None:
    Image.new("L", (40, 31)).save(root / "GT" / "000002.png")
    with pytest.raises(ValueError, match=r"000002\.png.*31 x 40.*30 x 40"):
        UDIAT(root, allow_partial=True)
    (root / "GT" / "000002.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"000002\.png.*empty"):
        UDIAT(root, allow_partial=True)
    (root / "DatasetB.xlsx").write_bytes(b"PK")
    with pytest.raises(ValueError, match=r"DatasetB\.xlsx: not a readable XLSX workbook"):
        UDIAT(root, allow_partial=True)


def test_missing_parts(root: Path) -> None:
    with pytest.raises(ValueError, match=r"with original/, GT/ and DatasetB\.xlsx"):
        UDIAT(root / "GT")
    (root / "GT").rename(root / "masks")
    with pytest.raises(ValueError, match="GT: the folder is missing"):
        UDIAT(root, allow_partial=True)
