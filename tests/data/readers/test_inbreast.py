"""INbreast in miniature, in the layout of the release."""

from __future__ import annotations

import plistlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from scans import write_dicom
from sslmed.data import DiskCache, INbreast

pytest.importorskip("pydicom")
HEAD = "Patient ID;Patient age;Laterality;View;Acquisition date;File Name;ACR;Bi-Rads"
CASES = {
    "20586908": ("6c613a14b80a8591", "1"),
    "20586934": ("6c613a14b80a8591", "2"),
    "20587054": ("b6a4f750c6df4f90", "4a"),
    "20587080": ("b6a4f750c6df4f90", "0"),
}
SQUARE = ["(2.0, 1.0)", "(5.0, 1.0)", "(5.0, 3.0)", "(2.0, 3.0)"]


def write_table(folder: Path, cases: dict[str, tuple[str, str]] = CASES, head: str = HEAD) -> None:
    rows = [f"removed;removed;R;CC;201001;{name};    ;{birads}" for name, (_, birads) in cases.items()]
    (folder / "INbreast.csv").write_text("\n".join([head, *rows, ";;;;;;;"]))


def write_regions(path: Path, regions: Sequence[tuple[str, Sequence[str]]]) -> None:
    listed = [{"Name": name, "NumberOfPoints": len(p), "Point_px": list(p)} for name, p in regions]
    path.write_bytes(plistlib.dumps({"Images": [{"NumberOfROIs": len(listed), "ROIs": listed}]}))


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(INbreast, "published", {"images": 4})
    folder = tmp_path / "INbreast Release 1.0"
    (folder / "AllDICOMs").mkdir(parents=True)
    (folder / "AllXML").mkdir()
    for k, (name, (patient, _)) in enumerate(CASES.items()):
        stored = (np.arange(48, dtype=np.uint16) * 80 + k).reshape(6, 8)
        write_dicom(folder / f"AllDICOMs/{name}_{patient}_MG_R_CC_ANON.dcm", stored)
    regions = [("Mass", SQUARE), ("Calcification", ["(4.2, 2.7)"]), ("Calcification", ["(7.0, 5.0)"])]
    write_regions(folder / "AllXML/20586934.xml", regions)
    write_regions(
        folder / "AllXML/20587054.xml",
        [
            ("Calcification", ["(3, 2)"]),
            ("Espiculated Region", SQUARE),
            ("Point 1", ["(0, 0)"]),
            ("Pectoral", SQUARE),
        ],
    )
    write_regions(folder / "AllXML/20587080.xml", [("Assymetry", SQUARE)])
    write_table(folder)
    return folder


@pytest.mark.parametrize("up", [False, True])
def test_items(root: Path, up: bool) -> None:
    data = INbreast(root.parent if up else root)
    assert data.ids == ["20586908", "20586934", "20587054"]
    assert data.labels == [2, 0, 1]
    assert data.groups == ["6c613a14b80a8591", "6c613a14b80a8591", "b6a4f750c6df4f90"]
    assert data.birads == ["1", "2", "4a"]
    assert data.skipped == {"20587080": "BI-RADS 0"}
    assert data.counts == {"benign": 1, "malignant": 1, "normal": 1}
    item = data[1]
    assert set(item) == {"image", "mask", "label_map", "label", "id", "group"}
    assert torch.allclose(item["image"][0] * 4095, (torch.arange(48.0) * 80 + 1).reshape(6, 8))
    expected = torch.zeros(1, 6, 8, dtype=torch.int64)
    expected[0, 1:4, 2:6] = 1  # the mass hides the calcification in it
    expected[0, 5, 7] = 2
    assert torch.equal(item["label_map"], expected)
    assert torch.equal(item["mask"], expected > 0)
    assert not data[0]["mask"].any()
    expected[0, 1:4, 2:6], expected[0, 5, 7] = 4, 0
    expected[0, 2, 3], expected[0, 0, 0] = 2, 7
    assert torch.equal(data[2]["label_map"], expected)


def test_sizes_and_cache(root: Path, tmp_path: Path) -> None:
    data = INbreast(root, size=4, fit="pad")
    item = data[1]
    assert item["image"].shape == item["mask"].shape == item["label_map"].shape == (1, 4, 4)
    cached = DiskCache(data, tmp_path / "cache")[1]
    assert torch.equal(cached["label_map"], item["label_map"])
    assert cached["group"] == item["group"]


def test_monochrome1_is_turned(root: Path) -> None:
    path = root / "AllDICOMs/20586908_6c613a14b80a8591_MG_R_CC_ANON.dcm"
    plain = INbreast(root)[0]["image"]
    stored = (np.arange(48, dtype=np.uint16) * 80).reshape(6, 8)
    write_dicom(path, stored, PhotometricInterpretation="MONOCHROME1")
    assert torch.allclose(INbreast(root)[0]["image"], 1 - plain)


def test_partial_sets(root: Path) -> None:
    next((root / "AllDICOMs").glob("20587054*")).unlink()
    with pytest.raises(ValueError, match=r"images 3 of 4.*Missing: 20587054.*allow_partial=True"):
        INbreast(root)
    assert INbreast(root, allow_partial=True).ids == ["20586908", "20586934"]
    (root / "AllXML/20586934.xml").unlink()
    data = INbreast(root, allow_partial=True)
    assert not data[1]["mask"].any()


def spoil(root: Path, how: str) -> None:
    image = next((root / "AllDICOMs").glob("20586934*"))
    if how == "no contours":
        (root / "AllXML/20586934.xml").unlink()
    elif how == "no image":
        write_regions(root / "AllXML/1.xml", [])
    elif how == "contours":
        (root / "AllXML/20586934.xml").write_text("<plist>")
    elif how == "row":
        write_table(root, {name: case for name, case in CASES.items() if name != "20587054"})
    elif how == "birads":
        write_table(root, CASES | {"20587054": ("", "4d")})
    elif how == "commas":
        write_table(root, head=HEAD.replace(";", ","))
    elif how == "latin":
        (root / "INbreast.csv").write_bytes(HEAD.encode() + b"\n\xe9;;;;;20586934;;1")
    elif how == "no table":
        (root / "INbreast.csv").unlink()
    elif how == "name":
        image.rename(image.with_name("image.dcm"))
    elif how == "twice":
        (root / "AllDICOMs/20586934_aa_MG_L_CC_ANON.dcm").write_bytes(b"")
    elif how == "empty":
        image.write_bytes(b"")
    elif how == "frames":
        write_dicom(image, np.zeros((2, 6, 8), dtype=np.uint16))
    elif how == "cut":
        image.write_bytes(image.read_bytes()[:-50])


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("no contours", "AllXML: no contours for 20586934, which are not normal"),
        ("no image", "AllXML: contours without their image 1"),
        ("contours", r"20586934\.xml: not a readable list of regions"),
        ("row", r"INbreast\.csv: no row for the images 20587054"),
        ("birads", "image 20587054 has Bi-Rads '4d'"),
        ("commas", "columns File Name and Bi-Rads with semicolons"),
        ("latin", r"INbreast\.csv: not a readable CSV table"),
        ("no table", r"INbreast\.csv: the file is missing"),
        ("name", r"image\.dcm: a name such as"),
        ("twice", "a second file of image 20586934"),
        ("empty", r"20586934_6c613a14b80a8591_MG_R_CC_ANON\.dcm: the file is empty"),
        ("frames", "one frame was expected, got 2"),
        ("cut", r"20586934_6c613a14b80a8591_MG_R_CC_ANON\.dcm: .*truncated"),
    ],
)
def test_damage_is_named(root: Path, how: str, message: str) -> None:
    spoil(root, how)
    with pytest.raises(ValueError, match=message):
        INbreast(root)[1]


def test_missing_parts(root: Path) -> None:
    with pytest.raises(ValueError, match="INbreast folder, with AllDICOMs/"):
        INbreast(root / "AllXML")
    for file in (root / "AllXML").iterdir():
        file.unlink()
    (root / "AllXML").rmdir()
    with pytest.raises(ValueError, match="AllXML: the folder is missing"):
        INbreast(root, allow_partial=True)
