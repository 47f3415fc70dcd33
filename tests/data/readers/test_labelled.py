"""A folder of one's own images with masks."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sslmed.data import DiskCache, LabelledImages

NAMES = ("a/scan 1.jpg", "a/scan 2.png", "b/Ärztin 1.2.tif", "top.bmp")
IDS = ["a/scan 1", "a/scan 2", "b/Ärztin 1.2", "top"]


def write(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "clinic"
    for k, name in enumerate(NAMES):
        write(root / "images" / name, np.full((20, 30 + k), 40 * k, dtype=np.uint8))
        mask = np.zeros((20, 30 + k), dtype=np.uint8)
        mask[:k, :5] = 255
        write((root / "masks" / name).with_suffix(".png"), mask)
    return root


def table(root: Path, *lines: str) -> None:
    (root / "cases.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.mark.parametrize("up", [False, True])
def test_images_meet_their_masks(root: Path, up: bool) -> None:
    data = LabelledImages(root.parent if up else root)
    assert data.ids == IDS
    assert data.labels is data.groups is None
    assert data.classes == ()
    assert data.counts == {}
    assert [sorted(item) for item in data] == [["id", "image", "mask"]] * 4
    assert [int(item["mask"].sum()) for item in data] == [0, 5, 10, 15]
    assert [item["image"].shape for item in data] == [(1, 20, 30 + k) for k in range(4)]
    torch.testing.assert_close(data[3]["image"], torch.full((1, 20, 33), 120 / 255))
    assert LabelledImages(root, size=16, fit="pad")[1]["mask"].shape == (1, 16, 16)
    assert len(data.files) == 8


def test_the_table_gives_classes_and_groups(root: Path) -> None:
    table(root, "group,image,class", "p2,top,malignant", *(f"p1,{name},benign" for name in NAMES[:3]))
    data = LabelledImages(root)
    assert data.classes == ("benign", "malignant")
    assert data.labels == [0, 0, 0, 1]
    assert data.groups == ["p1", "p1", "p1", "p2"]
    assert data.counts == {"benign": 3, "malignant": 1}
    assert (data[3]["label"], data[3]["group"]) == (1, "p2")


@pytest.mark.parametrize(("column", "absent"), [("class", "group"), ("group", "label")])
def test_either_column_may_be_absent(root: Path, column: str, absent: str) -> None:
    table(root, f"image,{column}", *(f"{name},x" for name in IDS))
    assert absent not in LabelledImages(root)[0]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["file,class"], r"columns? .*image.* expected"),
        (["image", "top"], r"class or group was expected beside image, got \['image'\]"),
        (
            ["image,age", "top,50"],
            r"column 'age' would not be read; the columns are image, class, group; remove it",
        ),
        (["image,class,patient", "top,x,p"], r"the column 'patient' would not be read; call it 'group'"),
        (
            ["image,class,Patient ID", "top,x,p"],
            r"the column 'Patient ID' would not be read; call it 'group'",
        ),
        (["image,diagnosis", "top,x"], r"the column 'diagnosis' would not be read; call it 'class'"),
        (["image,gruop", "top,x"], r"the column 'gruop' would not be read; call it 'group'"),
        (["image,class", *(f"{name},x" for name in IDS[1:])], r"cases\.csv: no class for a/scan 1"),
        (["image,group", *(f"{name}," for name in IDS)], r"no group for a/scan 1, .* and 1 more"),
        (["image,class", "other,x"], r"'other' is no picture below images/"),
        (["image,class", "top,x", "top.bmp,y"], r"'top\.bmp' occurs twice"),
        (["image,class,Group", "top,x,p"], r"the column 'Group' would not be read; call it 'group'"),
        (["image,group, class", "top,p,x"], r"the column ' class' would not be read; call it 'class'"),
        (["image,group,group", "top,p,q"], r"more than one column is called group"),
        (["image,group", "top,p", "a/scan 1,p "], r"'p ' begins or ends with a space"),
        (
            ["image,class", *(f"{name},{'xX'[k % 2]}" for k, name in enumerate(IDS))],
            r"the class 'x' looks like 'X': spell them alike if they are one",
        ),
    ],
)
def test_a_table_that_does_not_fit_is_refused(root: Path, lines: list[str], message: str) -> None:
    table(root, *lines)
    with pytest.raises(ValueError, match=message):
        LabelledImages(root)


@pytest.mark.parametrize(
    "other",
    ["p1", "P 1", "P-1", "P_1", "P01", "P1.", "\uff301", "P\u200b1", "\u04201", "P\xa01", "P\uff11"],
)
def test_groups_that_look_alike_are_refused(root: Path, other: str) -> None:
    names = ["P1", "P1", other, "P2"]
    table(root, "image,group", *(f"{image},{name}" for image, name in zip(IDS, names, strict=True)))
    with pytest.raises(ValueError, match=r"cases\.csv: the group 'P1' looks like .*: spell them alike if they are one"):
        LabelledImages(root)


def test_a_number_with_and_without_decimals_is_one_group(root: Path) -> None:
    names = ["7", "7", "7.0", "8"]
    table(root, "image,group", *(f"{image},{name}" for image, name in zip(IDS, names, strict=True)))
    with pytest.raises(ValueError, match=r"cases\.csv: the group '7' looks like '7\.0'"):
        LabelledImages(root)
    names[2] = "7.5"
    table(root, "image,group", *(f"{image},{name}" for image, name in zip(IDS, names, strict=True)))
    assert LabelledImages(root).groups == names


@pytest.mark.parametrize("other", ["P11", "P10", "1P", "P1a", "P1-1", "Q1", "P1\u0301"])
def test_groups_that_are_told_apart_are_read(root: Path, other: str) -> None:
    names = ["P1", "P1", other, "P2"]
    table(root, "image,group", *(f"{image},{name}" for image, name in zip(IDS, names, strict=True)))
    assert LabelledImages(root).groups == names


@pytest.mark.parametrize("name", ["Cases.csv", "cases.CSV", "cases.xlsx"])
def test_a_table_of_another_name_is_not_overlooked(root: Path, name: str) -> None:
    table(root, "image,group", *(f"{name},x" for name in IDS))
    (root / "cases.csv").rename(root / name)
    if not (root / "cases.csv").exists():  # some systems take both names for one
        with pytest.raises(ValueError, match=rf"{name} would not be read; save the table as cases\.csv"):
            LabelledImages(root)


def test_images_and_masks_must_pair(root: Path) -> None:
    (root / "masks" / "top.png").rename(root / "masks" / "other.png")
    with pytest.raises(ValueError, match=r"masks/other\.png: a mask without its image .*images/other\.\*"):
        LabelledImages(root)
    (root / "masks" / "other.png").unlink()
    with pytest.raises(ValueError, match=r"masks: no mask for top, as top\.png; one that is all black says"):
        LabelledImages(root)


def test_masks_may_be_called_so(root: Path) -> None:
    before = [int(item["mask"].sum()) for item in LabelledImages(root)]
    for path in list((root / "masks").rglob("*.png")):
        path.rename(path.with_name(f"{path.stem}_mask.png"))
    assert [int(item["mask"].sum()) for item in LabelledImages(root)] == before
    write(root / "masks" / "top.png", np.zeros((20, 33), dtype=np.uint8))
    with pytest.raises(ValueError, match=r"top_mask\.png: a second mask of top, beside top\.png; merge"):
        LabelledImages(root)


def test_classes_need_no_masks(root: Path) -> None:
    shutil.rmtree(root / "masks")
    table(root, "image,group", *(f"{name},x" for name in IDS))
    with pytest.raises(ValueError, match=r"neither masks/ nor a column class in cases\.csv"):
        LabelledImages(root)
    table(root, "image,class", *(f"{name},x" for name in IDS))
    data = LabelledImages(root.parent, size=16)
    assert [sorted(item) for item in data] == [["id", "image", "label"]] * 4


def test_files_that_cannot_serve_are_named(root: Path) -> None:
    write(root / "images" / "top.png", np.zeros((20, 33), dtype=np.uint8))
    with pytest.raises(ValueError, match=r"top\.png: a second picture of that name, beside top\.bmp"):
        LabelledImages(root)
    (root / "images" / "top.png").unlink()
    (root / "images" / "notes.txt").write_text("no scan")
    assert len(LabelledImages(root)) == 4
    (root / "images" / "clip.mp4").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"clip\.mp4: \.png, .* were expected; convert it"):
        LabelledImages(root)
    (root / "images" / "clip.mp4").unlink()
    write(root / "masks" / "top.png", np.zeros((10, 33), dtype=np.uint8))
    with pytest.raises(ValueError, match=r"top\.png: the mask has 10 x 33 .* its image top\.bmp 20 x 33"):
        LabelledImages(root)


def test_folders(root: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no such folder"):
        LabelledImages(tmp_path / "absent")
    with pytest.raises(ValueError, match=r"the labelled folder, with images/ and masks/ or cases\.csv, or its parent"):
        LabelledImages(root / "images")
    for path in (root / "masks").rglob("*.png"):
        path.unlink()
    with pytest.raises(ValueError, match=r"masks holds no pictures"):
        LabelledImages(root)


def test_it_can_be_kept_on_disk(root: Path, tmp_path: Path) -> None:
    kept = DiskCache(LabelledImages(root, size=16), tmp_path / "cache")
    assert torch.equal(kept[2]["mask"], LabelledImages(root, size=16)[2]["mask"])
