"""BUSI in miniature, in the layout of the download."""

from __future__ import annotations

import os
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from sslmed.data import BUSI, splits


def write(path: Path, pixels: np.ndarray, mode: str = "L") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).convert(mode).save(path)


def box(top: int, left: int, *, shape: tuple[int, int] = (30, 40)) -> np.ndarray:
    mask = np.zeros(shape, dtype=np.uint8)
    mask[top : top + 6, left : left + 6] = 255
    return mask


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three benign (one with three masks), two malignant (an RGBA and an RGB mask), two normal (one without mask)."""
    folder = tmp_path / "Dataset_BUSI_with_GT"
    rng = np.random.default_rng(0)
    for name, count in (("benign", 3), ("malignant", 2), ("normal", 2)):
        for k in range(1, count + 1):
            write(folder / name / f"{name} ({k}).png", rng.integers(0, 255, (30, 40), dtype=np.uint8), "RGB")
    for k in (1, 2, 3):
        write(folder / "benign" / f"benign ({k})_mask.png", box(2, 2))
    write(folder / "benign" / "benign (2)_mask_1.png", box(15, 2))
    write(folder / "benign" / "benign (2)_mask_2.png", box(15, 20), "1")
    write(folder / "malignant" / "malignant (1)_mask.png", box(4, 4), "RGBA")
    write(folder / "malignant" / "malignant (2)_mask.png", box(4, 4), "RGB")
    write(folder / "normal" / "normal (1)_mask.png", box(0, 0) * 0)
    return folder


def test_items(root: Path) -> None:
    data = BUSI(root, allow_partial=True)
    assert len(data) == 7
    assert data.ids[:4] == ["benign (1)", "benign (2)", "benign (3)", "malignant (1)"]
    assert data.labels == [0, 0, 0, 1, 1, 2, 2]
    assert data.counts == {"benign": 3, "malignant": 2, "normal": 2}
    assert data.groups is None
    for i, item in enumerate(data):
        assert item["image"].shape == item["mask"].shape == (1, 30, 40)
        assert item["image"].dtype == torch.float32
        assert 0 <= item["image"].min() <= item["image"].max() <= 1
        assert item["mask"].dtype == torch.bool
        assert (item["id"], item["label"]) == (data.ids[i], data.labels[i])
        assert "group" not in item
    assert [int(item["mask"].sum()) for item in data] == [36, 108, 36, 36, 36, 0, 0]
    assert data[1]["mask"][0, 17, 22]


def test_ids_are_in_the_order_of_their_numbers(root: Path) -> None:
    for k in (10, 4):
        write(root / "benign" / f"benign ({k}).png", box(0, 0))
        write(root / "benign" / f"benign ({k})_mask.png", box(0, 0))
    assert BUSI(root, allow_partial=True).ids[2:5] == ["benign (3)", "benign (4)", "benign (10)"]


def test_the_parent_serves_as_root(root: Path) -> None:
    assert BUSI(root.parent, allow_partial=True).ids == BUSI(str(root), allow_partial=True).ids


def test_two_candidates_below_the_root(root: Path) -> None:
    (root.parent / "copy" / "benign").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"Dataset_BUSI_with_GT, copy all do"):
        BUSI(root.parent, allow_partial=True)


def test_size_squares_and_batches(root: Path) -> None:
    data = BUSI(root, size=32, allow_partial=True)
    batch = next(iter(DataLoader(data, batch_size=7)))
    assert batch["image"].shape == batch["mask"].shape == (7, 1, 32, 32)
    assert batch["mask"].dtype == torch.bool
    assert pickle.loads(pickle.dumps(data)).ids == data.ids
    with pytest.raises(ValueError, match="size must be at least 1, got 0"):
        BUSI(root, size=0, allow_partial=True)


def test_out_of_range(root: Path) -> None:
    data = BUSI(root, allow_partial=True)
    assert data[-1]["id"] == "normal (2)"
    with pytest.raises(IndexError):
        data[7]


def test_a_partial_set_is_refused_with_what_it_lacks(root: Path) -> None:
    words = r"benign 3 of 437, malignant 2 of 210, normal 2 of 133.*benign \(4\).*770 more.*allow_partial=True"
    with pytest.raises(ValueError, match=words):
        BUSI(root)
    assert dict(BUSI.published) == {"benign": 437, "malignant": 210, "normal": 133}


def test_the_whole_set_passes(tmp_path: Path) -> None:
    write(tmp_path / "source.png", box(0, 0))
    for name, count in BUSI.published.items():
        (tmp_path / "set" / name).mkdir(parents=True)
        for k in range(1, count + 1):
            os.link(tmp_path / "source.png", tmp_path / "set" / name / f"{name} ({k}).png")
            os.link(tmp_path / "source.png", tmp_path / "set" / name / f"{name} ({k})_mask.png")
    assert BUSI(tmp_path / "set").counts == dict(BUSI.published)


@pytest.mark.parametrize("beside", [True, False])
def test_groups_come_from_the_csv(root: Path, beside: bool) -> None:
    lines = ["image,group"] + [f"{name},{name[0]}" for name in BUSI(root, allow_partial=True).ids]
    path = (root if beside else root.parent) / "groups.csv"
    path.write_text("\n".join(lines))
    data = BUSI(root, allow_partial=True)
    assert data.groups == list("bbbmmnn")
    assert data[3]["group"] == "m"
    train, test = splits.group_split(data.groups, (0.6, 0.4), seed=0)
    splits.assert_disjoint([data[i] for i in train], [data[i] for i in test])
    path.write_text("\n".join(lines[:-2]))
    with pytest.raises(ValueError, match=r"groups\.csv: no group for normal \(1\), normal \(2\)"):
        BUSI(root, allow_partial=True)
    path.write_text("\n".join([*lines, lines[1]]))
    with pytest.raises(ValueError, match=r"groups\.csv: 1 images occur twice"):
        BUSI(root, allow_partial=True)
    path.write_bytes(b"image,group\nbenign (1),\xe4\n")
    with pytest.raises(ValueError, match=r"groups\.csv: not a readable CSV table of UTF-8 text"):
        BUSI(root, allow_partial=True)
    path.write_text("a,b\n1,2")
    with pytest.raises(ValueError, match=r"groups\.csv: columns image and group"):
        BUSI(root, allow_partial=True)
    path.write_text("\n".join(f"{line},{k or 'patient'}" for k, line in enumerate(lines)))
    with pytest.raises(ValueError, match=r"groups\.csv: the column 'patient' would not be read; call it 'group'"):
        BUSI(root, allow_partial=True)
    path.write_text("\n".join([*lines[:-1], lines[-1].upper().replace("NORMAL (2)", "normal (2)")]))
    with pytest.raises(ValueError, match=r"groups\.csv: the group 'n' looks like 'N': spell them alike"):
        BUSI(root, allow_partial=True)


def test_an_image_without_mask(root: Path) -> None:
    (root / "malignant" / "malignant (2)_mask.png").unlink()
    with pytest.raises(ValueError, match=r"malignant \(2\)\.png: an image without its mask"):
        BUSI(root, allow_partial=True)


def test_a_mask_without_image(root: Path) -> None:
    (root / "benign" / "benign (2).png").unlink()
    with pytest.raises(ValueError, match=r"benign \(2\)_mask\.png: a mask without its image"):
        BUSI(root, allow_partial=True)


def test_a_mask_of_another_size(root: Path) -> None:
    write(root / "benign" / "benign (2)_mask_1.png", box(0, 0, shape=(30, 41)))
    with pytest.raises(ValueError, match=r"benign \(2\)_mask_1\.png.*30 x 41.*benign \(2\)\.png 30 x 40"):
        BUSI(root, allow_partial=True)


def test_a_broken_header_is_found_at_construction(root: Path) -> None:
    (root / "normal" / "normal (2).png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"normal \(2\)\.png.*empty"):
        BUSI(root, allow_partial=True)


def test_a_truncated_image_is_named_when_read(root: Path) -> None:
    path = root / "normal" / "normal (2).png"
    path.write_bytes(path.read_bytes()[:600])
    data = BUSI(root, allow_partial=True)
    with pytest.raises(ValueError, match=r"normal \(2\)\.png"):
        data[6]


def test_hidden_and_foreign_files_do_not_count(root: Path) -> None:
    (root / "benign" / "._benign (1).png").write_bytes(b"mac")
    (root / "benign" / "Thumbs.db").write_bytes(b"windows")
    (root / "benign" / "notes.txt").write_text("mine")
    assert len(BUSI(root, allow_partial=True)) == 7


@pytest.mark.parametrize("name", ["benign (4).jpg", "benign (1)_mask.bmp", "benign (4)", "scan.dcm"])
def test_a_scan_that_is_no_png_is_not_left_out_unseen(root: Path, name: str) -> None:
    path = root / "benign" / name
    path.write_bytes(bytes(128) + b"DICM")
    with pytest.raises(ValueError, match=rf"benign: {re.escape(name)} may hold a scan, but \.png was expected"):
        BUSI(root, allow_partial=True)


def test_names_that_differ_in_case_only_are_not_one_image(root: Path) -> None:
    write(root / "benign" / "benign (1).PNG", np.zeros((30, 40), dtype=np.uint8))
    if len(list((root / "benign").glob("benign (1).*"))) < 2:
        pytest.skip("this file system knows no difference of case")
    with pytest.raises(ValueError, match=r"benign \(1\)\.png is there more than once, in upper and lower case"):
        BUSI(root, allow_partial=True)


def test_no_set_at_all(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such folder"):
        BUSI(tmp_path / "absent")
    (tmp_path / "file").write_text("x")
    with pytest.raises(NotADirectoryError, match="got the file"):
        BUSI(tmp_path / "file")
    with pytest.raises(ValueError, match="with benign/, malignant/ and normal/, or its parent"):
        BUSI(tmp_path)
    (tmp_path / "benign").mkdir()
    with pytest.raises(ValueError, match="holds no images"):
        BUSI(tmp_path, allow_partial=True)
