"""BrEaST in miniature, in the layout of the download."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sslmed.data import BrEaST, splits

openpyxl = pytest.importorskip("openpyxl")

HEAD = [
    "CaseID",
    "Image_filename",
    "Mask_tumor_filename",
    "Mask_other_filename",
    "Pixel_size",
    "Classification",
]
ROWS = {
    1: ["case001_tumor.png", None, 0.007, "benign"],
    2: ["case002_tumor.png", "case002_other1.png&case002_other2.png", 0.007, "malignant"],
    3: ["case003_tumor1.png& case003_tumor2.png", None, 0.008, "malignant"],
    45: [None, None, 0.0083, "normal"],
}
SHEET = "BrEaST-Lesions-USG-clinical-data-Dec-15-2023.xlsx"
FOLDER = "BrEaST-Lesions_USG-images_and_masks"


def write_sheet(root: Path, rows: dict[int, list[object]]) -> None:
    book = openpyxl.Workbook()
    book.active.title = "BrEaST-Lesions-USG clinical dat"
    book.active.append(HEAD)
    for number, row in rows.items():
        book.active.append([number, f"case{number:03d}.png", *row])
    book.create_sheet("dictionary").append(["Column", "Meaning"])
    book.save(root / SHEET)


def write_mask(path: Path, left: int, shape: tuple[int, int] = (30, 40)) -> None:
    mask = np.zeros(shape, dtype=np.uint8)
    mask[2:8, left : left + 6] = 255
    Image.fromarray(mask).save(path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "Breast-Lesions-USG"
    folder = root / FOLDER
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in ROWS:
        pixels = rng.integers(0, 255, (30, 40), dtype=np.uint8)
        Image.fromarray(pixels).convert("RGBA").save(folder / f"case{number:03d}.png")
    for name, left in (
        ("case001_tumor", 2),
        ("case002_tumor", 2),
        ("case002_other1", 12),
        ("case002_other2", 24),
        ("case003_tumor1", 2),
        ("case003_tumor2", 20),
    ):
        write_mask(folder / f"{name}.png", left)
    write_sheet(root, ROWS)
    return root


@pytest.mark.parametrize("up", [False, True])
def test_items(root: Path, up: bool) -> None:
    data = BrEaST(root.parent if up else root, allow_partial=True)
    assert data.ids == data.groups == ["case001", "case002", "case003", "case045"]
    assert data.labels == [0, 1, 1, 2]
    assert data.counts == {"benign": 1, "malignant": 2, "normal": 1}
    assert [int(item["mask"].sum()) for item in data] == [36, 36, 72, 0]
    item = data[1]
    assert item["image"].shape == item["mask"].shape == (1, 30, 40)
    assert (item["image"].dtype, item["mask"].dtype) == (torch.float32, torch.bool)
    assert 0 <= item["image"].min() < item["image"].max() <= 1
    assert (item["id"], item["label"], item["group"]) == ("case002", 1, "case002")
    train, test = splits.group_split(data.groups, (0.5, 0.5), seed=0)
    splits.assert_disjoint([data[i] for i in train], [data[i] for i in test])


def test_other_areas_on_request(root: Path) -> None:
    data = BrEaST(root, include_other=True, allow_partial=True)
    assert [int(item["mask"].sum()) for item in data] == [36, 108, 72, 0]
    assert len(data.files) == 4 + 6


def test_size_and_fit(root: Path) -> None:
    item = BrEaST(root, size=20, fit="pad", allow_partial=True)[0]
    assert item["image"].shape == item["mask"].shape == (1, 20, 20)
    assert not item["image"][0, :2].any()


@pytest.mark.parametrize("nested", [f"{FOLDER}-Dec-15-2023/{FOLDER}", f"{FOLDER}-Dec-15-2023", "."])
def test_where_the_images_may_lie(root: Path, nested: str) -> None:
    (root / FOLDER).rename(root / "unpacked")
    (root / nested).mkdir(parents=True, exist_ok=True)
    for path in (root / "unpacked").iterdir():
        path.rename(root / nested / path.name)
    assert len(BrEaST(root, allow_partial=True)) == 4


def test_letter_case_of_names(root: Path) -> None:
    (root / FOLDER / "case001_tumor.png").rename(root / FOLDER / "Case001_Tumor.PNG")
    assert int(BrEaST(root, allow_partial=True)[0]["mask"].sum()) == 36


def test_a_partial_set_is_refused_with_what_it_lacks(root: Path) -> None:
    write_sheet(root, ROWS | {4: ["case004_tumor.png", None, 0.007, "benign"]})
    words = r"benign 1 of 154, malignant 2 of 98, normal 1 of 4\. Missing: case004\.png\..*allow_partial=True"
    with pytest.raises(ValueError, match=words):
        BrEaST(root)
    assert len(BrEaST(root, allow_partial=True)) == 4


def test_the_counts_of_the_whole_set_pass(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BrEaST, "published", {"benign": 1, "malignant": 2, "normal": 1})
    assert len(BrEaST(root)) == 4


def test_sheet_and_files_must_agree(root: Path) -> None:
    (root / FOLDER / "case002_other2.png").unlink()
    with pytest.raises(ValueError, match=r"case002\.png: an image without its mask case002_other2\.png"):
        BrEaST(root, allow_partial=True)
    write_mask(root / FOLDER / "case002_other2.png", 2)
    write_mask(root / FOLDER / "case001_other9.png", 2)
    with pytest.raises(ValueError, match=rf"case001_other9\.png not in {SHEET}"):
        BrEaST(root, allow_partial=True)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (
            [None, None, 0.007, "benign"],
            r"case001\.png has Classification 'benign' and Mask_tumor_filename ''",
        ),
        (["case001_tumor.png", None, 0.007, "unsure"], r"case001\.png has Classification 'unsure'"),
    ],
)
def test_bad_rows(root: Path, row: list[object], words: str) -> None:
    write_sheet(root, ROWS | {1: row})
    with pytest.raises(ValueError, match=words):
        BrEaST(root, allow_partial=True)


def test_a_row_twice(root: Path) -> None:
    book = openpyxl.load_workbook(root / SHEET)
    book.worksheets[0].append([1, "case001.png", *ROWS[1]])
    book.save(root / SHEET)
    with pytest.raises(ValueError, match=r"Dec-15-2023\.xlsx: case001\.png occurs twice"):
        BrEaST(root, allow_partial=True)


def test_faulty_files(root: Path) -> None:
    write_mask(root / FOLDER / "case003_tumor2.png", 2, shape=(30, 41))
    with pytest.raises(ValueError, match=r"case003_tumor2\.png.*30 x 41.*case003\.png 30 x 40"):
        BrEaST(root, allow_partial=True)
    write_mask(root / FOLDER / "case003_tumor2.png", 2)
    path = root / FOLDER / "case045.png"
    content = path.read_bytes()
    path.write_bytes(content[:600])
    data = BrEaST(root, allow_partial=True)
    with pytest.raises(ValueError, match=r"case045\.png: not a readable PNG.* truncated"):
        data[3]
    path.write_bytes(b"")
    with pytest.raises(ValueError, match=r"case045\.png.*empty"):
        BrEaST(root, allow_partial=True)
    path.write_bytes(content)
    (root / FOLDER / "case046.bmp").write_bytes(b"BM")
    with pytest.raises(ValueError, match=r"case046\.bmp may hold a scan, but \.png was expected"):
        BrEaST(root, allow_partial=True)


def test_missing_parts(root: Path) -> None:
    (root / SHEET.replace("Dec-15-2023", "Sep-2023")).write_bytes(b"")
    with pytest.raises(ValueError, match="holds several sheets"):
        BrEaST(root, allow_partial=True)
    (root / SHEET.replace("Dec-15-2023", "Sep-2023")).unlink()
    (root / "BrEaST-Lesions_USG-images_and_masks-copy").mkdir()
    write_mask(root / "BrEaST-Lesions_USG-images_and_masks-copy" / "case001.png", 2)
    with pytest.raises(ValueError, match="holds several folders of images"):
        BrEaST(root, allow_partial=True)
    with pytest.raises(ValueError, match=r"with BrEaST-Lesions-USG-clinical-data\*\.xlsx"):
        BrEaST(root / FOLDER)
    (root / "BrEaST-Lesions_USG-images_and_masks-copy").rename(root / "copy")
    (root / FOLDER).rename(root / "elsewhere")
    with pytest.raises(ValueError, match="no folder BrEaST-Lesions_USG-images_and_masks"):
        BrEaST(root, allow_partial=True)
