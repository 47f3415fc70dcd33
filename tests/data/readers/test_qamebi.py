"""QAMEBI in miniature, in the layout of the download."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sslmed.data import QAMEBI


def write(path: Path, left: int | None, shape: tuple[int, int] = (30, 40), mode: str = "L") -> None:
    pixels = np.random.default_rng(0).integers(0, 255, shape, dtype=np.uint8)
    if left is not None:
        pixels[:] = 0
        pixels[2:8, left : left + 6] = 255
    Image.fromarray(pixels).convert(mode).save(path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "BUID"
    for name, numbers in (("Benign", (1, 2, 10)), ("Malignant", (1, 2))):
        (root / name).mkdir(parents=True)
        for k in numbers:
            write(root / name / f"{k} {name} Image.bmp", None, mode="RGB")
            write(root / name / f"{k} {name} Lesion.bmp", None, mode="RGB")
            write(root / name / f"{k} {name} Mask.tif", 2, mode="1")
    return root


@pytest.mark.parametrize("up", [False, True])
def test_items(root: Path, up: bool) -> None:
    data = QAMEBI(root.parent if up else root, allow_partial=True)
    assert data.ids == ["1 Benign", "2 Benign", "10 Benign", "1 Malignant", "2 Malignant"]
    assert data.labels == [0, 0, 0, 1, 1]
    assert data.groups is None
    item = data[3]
    assert item["image"].shape == item["mask"].shape == (1, 30, 40)
    assert item["image"].dtype == torch.float32
    assert [int(item["mask"].sum()) for item in data] == [36] * 5
    assert sorted(item) == ["id", "image", "label", "mask"]
    assert not any("Lesion" in path.name for path in data.files)
    assert QAMEBI(root, size=16, allow_partial=True)[0]["mask"].shape == (1, 16, 16)


def test_several_masks_are_merged(root: Path) -> None:
    write(root / "Benign" / "2 Benign Mask 2.tif", 20)
    write(root / "Benign" / "2 benign  mask (3).tif", 30)
    assert int(QAMEBI(root, allow_partial=True)[1]["mask"].sum()) == 108


def test_a_partial_set_is_refused_with_what_it_lacks(root: Path) -> None:
    with pytest.raises(ValueError, match=r"benign 3 of 109, malignant 2 of 123\. Missing: 3 Benign.*224 more"):
        QAMEBI(root)


def test_the_counts_of_the_whole_set_pass(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(QAMEBI, "published", {"benign": 3, "malignant": 2})
    assert len(QAMEBI(root)) == 5


def test_images_and_masks_must_pair(root: Path) -> None:
    path = root / "Benign" / "2 Benign Mask.tif"
    path.rename(root / "Benign" / "4 Benign Mask.tif")
    with pytest.raises(ValueError, match=r"4 Benign Mask\.tif: a mask without its image 4 Benign Image\.bmp"):
        QAMEBI(root, allow_partial=True)
    (root / "Benign" / "4 Benign Mask.tif").unlink()
    with pytest.raises(ValueError, match=r"2 Benign Image\.bmp: an image without its mask 2 Benign Mask\.tif"):
        QAMEBI(root, allow_partial=True)


def test_strange_names(root: Path) -> None:
    write(root / "Benign" / "02 Benign Image.bmp", None)
    with pytest.raises(ValueError, match=r"a second image of 2 Benign"):
        QAMEBI(root, allow_partial=True)
    (root / "Benign" / "02 Benign Image.bmp").unlink()
    write(root / "Benign" / "3 Malignant Image.bmp", None)
    with pytest.raises(ValueError, match=r"3 Malignant Image\.bmp: a name such as '1 Benign Image\.bmp'"):
        QAMEBI(root, allow_partial=True)
    (root / "Benign" / "3 Malignant Image.bmp").rename(root / "Benign" / "3 Benign Image.jpg")
    with pytest.raises(ValueError, match=r"3 Benign Image\.jpg may hold a scan, but \.bmp or \.tif was expected"):
        QAMEBI(root, allow_partial=True)


def test_faulty_files(root: Path) -> None:
    write(root / "Malignant" / "1 Malignant Mask.tif", 2, shape=(31, 40))
    with pytest.raises(ValueError, match=r"1 Malignant Mask\.tif.*31 x 40.*30 x 40"):
        QAMEBI(root, allow_partial=True)
    (root / "Malignant" / "1 Malignant Mask.tif").write_bytes(b"")
    with pytest.raises(ValueError, match=r"1 Malignant Mask\.tif.*empty"):
        QAMEBI(root, allow_partial=True)
    write(root / "Malignant" / "1 Malignant Mask.tif", 2)
    path = root / "Malignant" / "1 Malignant Image.bmp"
    path.write_bytes(path.read_bytes()[:300])
    data = QAMEBI(root, allow_partial=True)
    with pytest.raises(ValueError, match=r"1 Malignant Image\.bmp: not a readable BMP.* truncated"):
        data[3]


def test_another_set_is_refused(tmp_path: Path) -> None:
    (tmp_path / "Benign").mkdir()
    write(tmp_path / "Benign" / "benign (1).bmp", None)
    with pytest.raises(ValueError, match=r"with Benign/ and Malignant/, or its parent"):
        QAMEBI(tmp_path)
