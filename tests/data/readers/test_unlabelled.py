"""Any tree of images."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from scans import RAMP, compressed, write_dicom, write_nifti
from sslmed.data import UnlabelledImages
from sslmed.data.formats._scans import SUPPORTED
from sslmed.data.readers import unlabelled


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for k, name in enumerate(["b/Ärztin 2.png", "a/x.jpg", "top.bmp", "b/deep/er/y.tif"]):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((10, 12 + k), 40 * k, dtype=np.uint8)).save(path)
    return tmp_path


def test_the_tree_is_read_in_order(root: Path) -> None:
    data = UnlabelledImages(root)
    assert data.ids == ["a/x.jpg", "b/deep/er/y.tif", "b/Ärztin 2.png", "top.bmp"]
    assert data.labels is None
    assert data.groups is None
    assert [set(item) for item in data] == [{"image", "id"}] * 4
    assert data[3]["image"].shape == (1, 10, 14)
    assert UnlabelledImages(root, size=32)[0]["image"].shape == (1, 32, 32)
    with pytest.raises(IndexError):
        data[4]


def test_what_is_no_scan_is_skipped(root: Path) -> None:
    for name in (".hidden.png", "notes.txt", "LICENSE", "table.csv"):
        (root / name).write_text("x")
    (root / ".git").mkdir()
    (root / ".git" / "scan.png").write_text("x")
    assert len(UnlabelledImages(root)) == 4


@pytest.mark.parametrize("name", ["volume.mha", "IM0001", "clip.MP4", "table.gz", "what.xyz", "a.npy", "old.zip"])
def test_scans_that_cannot_be_read_are_not_left_out_unseen(root: Path, name: str) -> None:
    (root / "b" / name).write_text("x")
    with pytest.raises(ValueError, match=rf"unsupported scans b/{name}; supported are \.png"):
        UnlabelledImages(root)


PICTURES = {
    "tif",
    "tiff",
    "pgm",
    "ppm",
    "pnm",
    "pbm",
    "bmp",
    "dib",
    "png",
    "jpg",
    "jpeg",
    "jpe",
    "jfif",
    "webp",
}


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # comes before the error
@pytest.mark.parametrize("ending", sorted(Image.registered_extensions()))
def test_every_format_that_pillow_knows_is_read_or_reported(root: Path, ending: str) -> None:
    path = root / "b" / f"scan{ending}"
    stored = np.add.outer(np.arange(12) * 9, np.arange(9) * 16).astype(np.uint8)
    image, kind = Image.fromarray(stored), Image.registered_extensions()[ending]
    options = {"WEBP": {"lossless": True}, "JPEG": {"quality": 100}}.get(kind, {})
    if ending == ".pbm":
        stored = 255 * (stored > 90).astype(np.uint8)
        image = Image.fromarray(stored > 0)
    if ending == ".pfm":
        image = Image.fromarray((stored / 255).astype(np.float32))
    if ending in SUPPORTED:
        image.save(path, kind, **options)
        data = UnlabelledImages(root)
        assert data.skipped == {}
        (item,) = (item for item in data if item["id"] == f"b/scan{ending}")
        tolerance = 3 / 255 if kind == "JPEG" else 1e-6
        assert item["image"][0].sub(torch.from_numpy(stored) / 255).abs().max() < tolerance
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        with pytest.raises(ValueError, match=f"scan{ending}: "):
            list(UnlabelledImages(root))
    else:
        path.write_bytes(b"x")
        assert ending[1:] not in PICTURES
        with contextlib.suppress(ValueError):
            assert UnlabelledImages(root).skipped.keys() == {f"b/scan{ending}"}
            assert ending in (".pdf",)  # known not to be a scan; all else is an error
        assert UnlabelledImages(root, broken="skip").skipped.keys() == {f"b/scan{ending}"}


@pytest.mark.parametrize("deepest", [1, 200, 255, 1000, 4095, 65535])
@pytest.mark.parametrize("plain", [False, True])
def test_the_largest_value_of_a_pgm_is_white(tmp_path: Path, deepest: int, plain: bool) -> None:
    stored = np.array([[0, deepest // 2, deepest], [1, 0, deepest]])
    kind, form = ("P2", "") if plain else ("P5", ">u2" if deepest > 255 else "u1")
    pixels = " ".join(map(str, stored.ravel())).encode() if plain else stored.astype(form or None).tobytes()
    (tmp_path / "a.pgm").write_bytes(f"{kind}\n# scanner\n3 2\n{deepest}\n".encode() + pixels)
    (scan,) = UnlabelledImages(tmp_path)
    expected = torch.tensor(stored[None] / deepest)
    assert scan["image"].sub(expected).abs().max() <= (1 / 65535 if deepest > 255 else 0.51 / 255)


def test_each_file_is_read_or_named(root: Path) -> None:
    left_out = ["Thumbs.db", "desktop.ini", "LICENSE", "b/notes.TXT", "b/table.csv", "report.pdf", "DICOMDIR"]
    for name in left_out:
        (root / name).write_text("x")
    for name in (".DS_Store", "b/._a.png"):
        (root / name).write_text("x")
    data = UnlabelledImages(root)
    assert data.skipped == dict.fromkeys(left_out, "no scan, by its name")
    below = {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}
    assert {*data.ids, *data.skipped} == {name for name in below if not Path(name).name.startswith(".")}


def test_clips_and_volumes_beside_pictures(root: Path) -> None:
    frames = [Image.fromarray(np.full((6, 5), value, np.uint8)) for value in (0, 90, 200)]
    frames[0].save(root / "clip.gif", save_all=True, append_images=frames[1:])
    (root / "v.raw").write_bytes(np.arange(24, dtype=np.uint8).tobytes())
    header = "NDims = 3\nDimSize = 4 3 2\nElementType = MET_UCHAR\nElementDataFile = v.raw\n"
    (root / "v.mhd").write_text(header)
    data = UnlabelledImages(root)
    assert data.ids[3:6] == ["clip.gif#0", "clip.gif#1", "clip.gif#2"]
    assert data.ids[-2:] == ["v.mhd#0", "v.mhd#1"]
    assert [round(data[k]["image"].mean().item() * 255) for k in (3, 4, 5)] == [0, 90, 200]
    torch.testing.assert_close(data[-1]["image"][0], torch.arange(12, 24).reshape(3, 4) / 23)
    assert root / "v.raw" in data.files
    assert data.skipped == {}
    (root / "other.raw").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"unsupported scans other\.raw"):
        UnlabelledImages(root)


def test_links_are_followed_once(root: Path) -> None:
    (root / "b" / "deep" / "loop").symlink_to(root, target_is_directory=True)
    (root / "z").symlink_to(root / "a", target_is_directory=True)
    assert UnlabelledImages(root).ids == ["a/x.jpg", "b/deep/er/y.tif", "b/Ärztin 2.png", "top.bmp"]


def test_a_linked_folder_elsewhere_is_found(root: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = tmp_path_factory.mktemp("elsewhere")
    (other / "scans").symlink_to(root / "a", target_is_directory=True)
    assert UnlabelledImages(other).ids == ["scans/x.jpg"]


def test_a_broken_file_is_named(root: Path) -> None:
    whole = (root / "b" / "Ärztin 2.png").read_bytes()
    (root / "b" / "Ärztin 2.png").write_bytes(whole[:-16])
    data = UnlabelledImages(root)  # the header is sound
    with pytest.raises(ValueError, match=r"Ärztin 2\.png.*truncated"):
        data[2]
    (root / "a" / "x.jpg").write_bytes(b"")
    with pytest.raises(ValueError, match=r"x\.jpg.*empty"):
        UnlabelledImages(root)


def test_broken_files_are_skipped_and_listed_where_asked_for(root: Path) -> None:
    whole = (root / "b" / "Ärztin 2.png").read_bytes()
    (root / "b" / "Ärztin 2.png").write_bytes(whole[:-16])
    (root / "a" / "y.png").write_bytes((root / "a" / "x.jpg").read_bytes())
    (root / "zero.dcm").write_bytes(b"")
    (root / "clip.mp4").write_bytes(b"x")
    data = UnlabelledImages(root, broken="skip")
    assert data.ids == ["a/x.jpg", "b/deep/er/y.tif", "top.bmp"]
    assert set(data.skipped) == {"a/y.png", "b/Ärztin 2.png", "zero.dcm", "clip.mp4"}
    assert "JPEG" in data.skipped["a/y.png"]
    assert data.skipped["clip.mp4"] == "unsupported format"
    assert UnlabelledImages(root / "b" / "deep").skipped == {}


def test_a_clip_that_lacks_frames_does_not_end_the_set(root: Path) -> None:
    pytest.importorskip("pydicom")
    compressed(root / "a" / "clip.dcm", np.zeros((3, 2, 3), dtype=np.uint8), "rle", NumberOfFrames=4)
    with pytest.raises(ValueError, match=r"clip\.dcm: the header has 4 frames, but there are 3"):
        list(UnlabelledImages(root, size=8))
    rest = UnlabelledImages(root, size=8, broken="skip")
    assert len(list(rest)) == 4
    assert set(rest.skipped) == {"a/clip.dcm"}


def test_dicom_frames_and_nifti_slices(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pydicom")
    pytest.importorskip("nibabel")
    write_dicom(root / "a" / "IM 1", np.stack([RAMP, RAMP // 2]))  # DICOM without an ending
    write_dicom(root / "a" / "still.dcm", RAMP // 2)
    voxels = np.arange(4 * 5 * 3, dtype=np.float32).reshape(4, 5, 3) * 100
    write_nifti(root / "volume.nii.gz", voxels)
    data = UnlabelledImages(root, size=32)
    clip, volume = [f"a/IM 1#{k}" for k in range(2)], [f"volume.nii.gz#{k}" for k in range(3)]
    assert data.ids == [
        *clip,
        "a/still.dcm",
        "a/x.jpg",
        "b/deep/er/y.tif",
        "b/Ärztin 2.png",
        "top.bmp",
        *volume,
    ]
    assert data.groups is not None
    assert data.groups[:3] == ["a/IM 1", "a/IM 1", "a/still.dcm"]
    assert data[-1]["group"] == "volume.nii.gz"
    assert data[-1]["image"].max() > 0.95  # of a volume's own range
    whole = UnlabelledImages(root)
    torch.testing.assert_close(whole[1]["image"][0], torch.tensor(RAMP // 2) / 4095)
    assert whole[-3]["image"].shape == (1, 5, 4)
    before = whole[1]["image"].clone()
    whole[1]["image"].zero_()  # an item is the caller's own
    assert torch.equal(whole[1]["image"], before)
    own = UnlabelledImages(root, window="own")
    assert (whole[2]["image"].max() < 0.51) & (own[2]["image"].max() == 1)

    reads: list[Path] = []
    plain = unlabelled.read_frames
    monkeypatch.setattr(unlabelled, "read_frames", lambda path, *a, **k: reads.append(path) or plain(path, *a, **k))
    scans = UnlabelledImages(root)
    assert [scans[i]["id"] for i in range(len(scans))] == data.ids
    assert len(reads) == len(scans.files) == len(set(reads))  # in order, each file is decoded once


def test_no_images(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"holds no images; looked for \.png"):
        UnlabelledImages(tmp_path)
    with pytest.raises(FileNotFoundError, match="no such folder"):
        UnlabelledImages(tmp_path / "absent")
    (tmp_path / "scan.png").write_bytes(b"")
    with pytest.raises(NotADirectoryError, match="got the file"):
        UnlabelledImages(tmp_path / "scan.png")


@pytest.mark.parametrize("name", ["cifar-10-batches-py/data_batch_1", "train.pkl", "cifar-10-python.tar.gz"])
def test_pickled_archives_are_refused_with_a_hint(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(b"\x80\x02}q\x00.")
    with pytest.raises(ValueError, match=r"looks like images in Python's pickle format.*save the images as PNG files"):
        UnlabelledImages(tmp_path)
