"""Names of files: which are masks, and text that any name becomes."""

from __future__ import annotations

import csv
import html
import io
import json
import os
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from sslmed.data import TBUD, DiskCache, LabelledImages, UnlabelledImages
from sslmed.data.audit import audit
from sslmed.data.audit import main as audit_main
from sslmed.data.names import named_as_mask, readable, without_mask_word

MASKS = [
    *("a-mask.png", "b_Annotation.png", "benign (1)_mask_1.png", "MASK.tif", "mask12.png", "x.seg.nii.gz"),
    *("brain_label.nii.gz", "12 gt.png", "GroundTruth.png", "ground-truth_3.png", "a.Ground Truth.png"),
    *("scanMask.png", "contours of 7.bmp", "SEGMENTATIONS 2.jpg", "p1_annotations.PNG", "lesion+mask.dcm"),
    *(
        "masks/a.png",
        "labelsTr/a.nii",
        "a/GT/b.png",
        "ground_truth/a.png",
        "Annotations 2/a.png",
        "train_masks/a",
    ),
]
SCANS = [
    *("Seger_01.png", "a.png", "Maskell 3.png", "unmasked.png", "Labeling.png", "gtx.png", "Contourelli.dcm"),
    *(
        "without mask.png",
        "no_annotation 4.png",
        "scans without masks/a.png",
        "label study/a.png",
        "1.2.840.5",
    ),
    *("segments/b.png", "imagesTr/a.nii.gz", "unlabelled/x.png", "IM0001"),
]


@pytest.mark.parametrize("name", MASKS)
def test_names_of_masks(name: str) -> None:
    assert named_as_mask(PurePosixPath(name))


@pytest.mark.parametrize("name", SCANS)
def test_names_of_scans(name: str) -> None:
    assert not named_as_mask(PurePosixPath(name))


@pytest.mark.parametrize(
    "ending", ["_mask", "-mask", " Mask", "_Annotation", ".gt", "_ground_truth", "_labels", "_SEG"]
)
def test_masks_find_their_image_by_any_such_word(tmp_path: Path, ending: str) -> None:
    assert without_mask_word(f"scan 1{ending}") == "scan 1"
    assert without_mask_word("Bitmask") == "Bitmask"
    for folder, name in (("images", "scan 1"), ("masks", f"scan 1{ending}")):
        (tmp_path / folder).mkdir()
        Image.fromarray(np.ones((3, 4), np.uint8)).save(tmp_path / folder / f"{name}.png")
    assert LabelledImages(tmp_path).ids == ["scan 1"]


def picture(path: bytes | str | Path, value: int = 9) -> None:
    # The file is opened by its bytes: Pillow takes text alone.
    with open(path, "wb") as file:
        pixels = value + np.add.outer(np.arange(6), np.arange(5))
        Image.fromarray(pixels.astype(np.uint8)).save(file, "PNG")


def test_masks_are_left_out_and_named(tmp_path: Path) -> None:
    for name in ("a.png", "a-mask.png", "b.png", "b_Annotation.png"):
        picture(tmp_path / name)
    (tmp_path / "masks.csv").write_text("x")
    with pytest.warns(UserWarning, match=r"left out 2 masks, by name, as a-mask\.png and 1 more; rename them"):
        scans = UnlabelledImages(tmp_path)
    assert scans.ids == ["a.png", "b.png"]
    assert scans.masks == ["a-mask.png", "b_Annotation.png"]
    assert set(scans.skipped) == {"a-mask.png", "b_Annotation.png", "masks.csv"}
    assert audit(tmp_path).masks == scans.masks
    for name in scans.ids:
        (tmp_path / name).unlink()
    with pytest.raises(ValueError, match=r"holds no images but 2 masks, by name, as a-mask\.png"):
        UnlabelledImages(tmp_path)


def test_no_own_class_folder_takes_masks_for_images(tmp_path: Path) -> None:
    for folder in ("benign", "malignant"):
        (tmp_path / folder).mkdir()
        picture(tmp_path / folder / "a.png")
    assert len(TBUD(tmp_path)) == 2
    picture(tmp_path / "malignant" / "a Annotation.png")
    with pytest.raises(ValueError, match=r"malignant: a Annotation\.png would be read as images; move masks elsewhere"):
        TBUD(tmp_path)


ODD = [
    *(
        "plain.png",
        "K\udcf6ln.png",
        "K\\xf6ln.png",
        "K\\\\xf6ln.png",
        "Köln.png",
        "new\nline.png",
        "re\rturn.png",
    ),
    *(
        "quote\" '.png",
        "comma, semi;.png",
        "<b>&amp;.png",
        "emoji 🫀.png",
        "tab\t.png",
        "$x_2$ {y}.png",
        "=1+1.png",
    ),
    *(
        "\x07bell.png",
        "para\u2029graph.png",
        "CON.png",
        "\udcff\udcfe.png",
        "\x85.png",
        "end. .png",
        "%41%s.png",
    ),
]


@given(st.lists(st.text(st.characters(exclude_categories=[]), max_size=6), min_size=2, max_size=2))
def test_readable_names_are_text_and_differ(names: list[str]) -> None:
    first, second = map(readable, names)
    for name in (first, second):
        assert len((name + "x").splitlines()) == 1
        assert not any(ord(letter) < 32 for letter in name)
    assert (first == second) == (names[0] == names[1])


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    folder = tmp_path / os.fsdecode(b"sc\xe4ns")
    folder.mkdir()
    for k, name in enumerate(ODD):
        picture(os.fsencode(folder / name), 10 * k)
    return folder


def test_odd_names_survive_every_text(odd: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scans = UnlabelledImages(odd)
    assert len(scans) == len(ODD) == len(set(scans.ids))
    assert "K\\xf6ln.png" in scans.ids
    for name in scans.ids:
        name.encode()
    table = io.StringIO()
    csv.writer(table, lineterminator="\n").writerows([name, "x"] for name in scans.ids)
    assert [row[0] for row in csv.reader(io.StringIO(table.getvalue(), newline=""))] == scans.ids
    assert json.loads(json.dumps(scans.ids, ensure_ascii=False).encode()) == scans.ids

    cached = DiskCache(scans, tmp_path / "cache")
    assert [case["id"] for case in cached] == scans.ids
    assert [int(case["image"][0, 0, 0] * 255 + 0.5) for case in cached] == [
        int(case["image"][0, 0, 0] * 255 + 0.5) for case in scans
    ]

    found = audit(odd)
    assert [scan.name for scan in found.scans] == scans.ids
    page = tmp_path / os.fsdecode(b"\xe9.html")
    audit_main([str(odd), "--out", str(page)])
    capsys.readouterr().out.encode()
    text = page.read_text(encoding="utf-8")
    assert "sc\\xe4ns" in text
    assert "<b>" not in text
    assert html.escape("K\\xf6ln.png") in text


def test_broken_files_of_odd_names(odd: Path) -> None:
    for name in ODD:
        (odd / name).write_bytes(b"broken")
    picture(odd / "good.png")
    scans = UnlabelledImages(odd, broken="skip")
    assert scans.ids == ["good.png"]
    for told in (scans.skipped, audit(odd).broken):
        assert len(told) == len(ODD)
        json.dumps(told, ensure_ascii=False).encode()


def test_own_images_of_odd_names(tmp_path: Path) -> None:
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
        for name in ODD:
            picture(os.fsencode(tmp_path / folder / name))
    names = [row for row in LabelledImages(tmp_path).ids if not row.startswith(" ") and not row.endswith(" ")]
    assert len(names) == len(ODD) - 1
    (tmp_path / "images" / "end. .png").unlink()
    (tmp_path / "masks" / "end. .png").unlink()
    with (tmp_path / "cases.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["image", "class"], *([name, "benign"] for name in names)])
    assert LabelledImages(tmp_path).ids == names
