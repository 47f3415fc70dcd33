"""CAMUS in miniature, in the layout of today's download and in the older one."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from scans import write_nifti
from sslmed.data import CAMUS, DiskCache
from sslmed.data.readers import camus

pytest.importorskip("nibabel")
PATIENTS = ("patient0001", "patient0002")


def picture(seed: int, frames: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Images (F, H, W) of 12 x 10 pixels with gray values, and structures: 1 in 2, 3 below."""
    rng = np.random.default_rng(seed)
    maps = np.zeros((frames, 12, 10), dtype=np.uint8)
    maps[:, 2:8, 3:7], maps[:, 3:7, 4:6], maps[:, 8:11, 3:7] = 2, 1, 3
    return rng.integers(0, 256, maps.shape, dtype=np.uint8), maps


def write(path: Path, values: np.ndarray) -> None:
    """The files' first axis is columns, the second rows; a still has two."""
    turned = values.transpose(2, 1, 0)
    write_nifti(path, turned[..., 0] if len(values) == 1 else turned, np.diag([-0.3, -0.3, 1, 1]), dtype="u1")


def write_mhd(path: Path, values: np.ndarray) -> None:
    raw = path.with_suffix(".raw")
    raw.write_bytes(values.tobytes())
    path.write_text(
        f"NDims = 3\nDimSize = {values.shape[2]} {values.shape[1]} {values.shape[0]}\n"
        f"ElementType = MET_UCHAR\nElementSpacing = 0.308 0.154 1.54\nElementDataFile = {raw.name}\n"
    )


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(CAMUS, "published", {"2CH": 2, "4CH": 2})
    for p, patient in enumerate(PATIENTS):
        folder = tmp_path / "database_nifti" / patient
        folder.mkdir(parents=True)
        for v, view in enumerate(("2CH", "4CH")):
            (folder / f"Info_{view}.cfg").write_text("ED: 1\nES: 3\nNbFrame: 3\n")
            images, maps = picture(10 * p + v, frames=3)
            for name, part in {"ED": slice(0, 1), "ES": slice(2, 3), "half_sequence": slice(0, 3)}.items():
                write(folder / f"{patient}_{view}_{name}.nii.gz", images[part])
                write(folder / f"{patient}_{view}_{name}_gt.nii.gz", maps[part])
    (tmp_path / "database_split").mkdir()
    return tmp_path / "database_nifti"


@pytest.fixture
def older(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(CAMUS, "published", {"2CH": 10, "4CH": 10})
    for p in range(10):
        patient = f"patient{p + 1:04d}"
        folder = tmp_path / "CAMUS" / ("testing" if p == 9 else "training") / patient
        folder.mkdir(parents=True)
        for view in ("2CH", "4CH"):
            images, maps = picture(p, frames=3)
            write_mhd(folder / f"{patient}_{view}_sequence.mhd", images)
            for name, k in {"ED": 0, "ES": 2}.items():
                write_mhd(folder / f"{patient}_{view}_{name}.mhd", images[k : k + 1])
                if p < 9:
                    write_mhd(folder / f"{patient}_{view}_{name}_gt.mhd", maps[k : k + 1])
    return tmp_path / "CAMUS"


@pytest.mark.parametrize("up", [False, True])
def test_stills(root: Path, up: bool) -> None:
    data = CAMUS(root.parent if up else root)
    assert len(data) == 8
    assert data.ids[:4] == [f"patient0001_{name}" for name in ("2CH_ED", "2CH_ES", "4CH_ED", "4CH_ES")]
    assert data.groups == ["patient0001"] * 4 + ["patient0002"] * 4
    assert data.labels is None
    assert data.counts == CAMUS.published
    assert len(data.files) == 16
    images, maps = picture(0, frames=3)
    item = data[1]
    assert set(item) == {"image", "mask", "label_map", "id", "group"}
    assert (item["image"].shape, item["image"].dtype) == ((1, 12, 10), torch.float32)
    assert torch.equal(item["image"][0] * 255, torch.from_numpy(images[2]).float())
    assert torch.equal(item["label_map"][0], torch.from_numpy(maps[2]).long())
    assert torch.equal(item["mask"], item["label_map"] > 0)
    assert (item["id"], item["group"]) == ("patient0001_2CH_ES", "patient0001")


def test_sequences(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, stills = CAMUS(root, frames="sequence"), CAMUS(root)
    assert len(data) == 12
    assert data.ids[2:4] == ["patient0001_2CH#2", "patient0001_4CH#0"]
    assert data.groups == ["patient0001"] * 6 + ["patient0002"] * 6
    for name in ("image", "mask", "label_map"):
        assert torch.equal(data[2][name], stills[1][name])
    reads, plain = [], camus.read_nifti
    monkeypatch.setattr(camus, "read_nifti", lambda path, axes: reads.append(path) or plain(path, axes=axes))
    for i in range(3, 12):
        data[i]
    assert len(reads) == 6
    assert pickle.loads(pickle.dumps(data))._last._held is None


def test_sizes_and_cache(root: Path, tmp_path: Path) -> None:
    data = CAMUS(root, size=8, fit="pad")
    item = data[0]
    assert item["image"].shape == item["mask"].shape == item["label_map"].shape == (1, 8, 8)
    assert item["label_map"].unique().tolist() == [0, 1, 2, 3]
    assert torch.equal(DiskCache(data, tmp_path / "cache")[5]["label_map"], data[5]["label_map"])


def test_images_alone(root: Path) -> None:
    assert set(CAMUS(root, masks=False)[0]) == {"image", "id", "group"}


def test_the_older_layout(older: Path) -> None:
    data = CAMUS(older)
    assert len(data) == 36
    images, maps = picture(0, frames=3)
    assert torch.equal(data[1]["image"][0] * 255, torch.from_numpy(images[2]).float())
    assert torch.equal(data[1]["label_map"][0], torch.from_numpy(maps[2]).long())
    assert len(CAMUS(older / "training")) == 36
    every = CAMUS(older, masks=False)
    assert len(every) == 40
    assert every.groups is not None
    assert every.groups[-1] == "patient0010"
    assert len(CAMUS(older, masks=False, frames="sequence")) == 60
    with pytest.raises(ValueError, match="masks must be False for frames='sequence'"):
        CAMUS(older, frames="sequence")
    with pytest.raises(ValueError, match=r"without their outlines patient0010_2CH_ED_gt\.mhd.*masks=False"):
        CAMUS(older / "testing", allow_partial=True)
    (older / "training").rename(older / "elsewhere")
    with pytest.raises(ValueError, match="testing/ has no outlines; pass masks=False"):
        CAMUS(older, allow_partial=True)


def test_partial_sets_are_refused(root: Path) -> None:
    for file in root.glob("patient0002/*_4CH_*"):
        file.unlink()
    with pytest.raises(ValueError, match=r"4CH 1 of 2.*patient0002_4CH_ED\.nii\.gz.*allow_partial=True"):
        CAMUS(root)
    assert len(CAMUS(root, allow_partial=True)) == 6


def spoil(root: Path, how: str) -> None:
    image = root / "patient0002/patient0002_2CH_ED.nii.gz"
    outlines = root / "patient0002/patient0002_2CH_ED_gt.nii.gz"
    gray, maps = picture(0)
    if how == "no outlines":
        outlines.unlink()
    elif how == "size":
        write(outlines, maps[:, :-1])
    elif how == "number":
        write(outlines, maps + 2)
    elif how == "range":
        write_nifti(image, gray[0].T * 2.0)
    elif how == "frames":
        write(image, np.repeat(gray, 2, axis=0))
        write(outlines, np.repeat(maps, 2, axis=0))
    elif how == "empty":
        image.write_bytes(b"")
    elif how == "cut":
        image.write_bytes(image.read_bytes()[:-20])
    elif how == "text":
        image.write_text("no image")


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("no outlines", r"without their outlines patient0002_2CH_ED_gt\.nii\.gz"),
        ("size", r"2CH_ED_gt\.nii\.gz: outlines of shape \(1, 12, 10\).*got \(1, 11, 10\)"),
        ("number", r"2CH_ED_gt\.nii\.gz: structures 0 to 3 were expected, got 2, 3, 4, 5"),
        ("range", r"2CH_ED\.nii\.gz: gray values from 0 to 255"),
        ("frames", r"2CH_ED\.nii\.gz: one frame was expected, got 2"),
        ("empty", r"2CH_ED\.nii\.gz: the file is empty"),
        ("cut", r"2CH_ED\.nii\.gz"),
        ("text", r"2CH_ED\.nii\.gz: not a readable NIfTI"),
    ],
)
def test_damage_is_named(root: Path, how: str, message: str) -> None:
    spoil(root, how)
    with pytest.raises(ValueError, match=message):
        CAMUS(root)[4]


def test_settings(root: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="frames must be one of"):
        CAMUS(root, frames="all")
    with pytest.raises(ValueError, match="must be the CAMUS folder"):
        CAMUS(tmp_path / "database_split")
    with pytest.raises(IndexError):
        CAMUS(root)[8]
