"""Any tree of images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sslmed.data import UnlabelledImages


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


@pytest.mark.parametrize("name", ["volume.nii.gz", "IM0001", "scan.DCM"])
def test_scans_that_cannot_be_read_are_not_left_out_unseen(root: Path, name: str) -> None:
    (root / "b" / name).write_text("x")
    with pytest.raises(ValueError, match=rf"unsupported scans b/{name}; supported are \.png"):
        UnlabelledImages(root)


def test_links_are_followed_once(root: Path) -> None:
    (root / "b" / "deep" / "loop").symlink_to(root, target_is_directory=True)
    (root / "z").symlink_to(root / "a", target_is_directory=True)
    assert UnlabelledImages(root).ids == ["a/x.jpg", "b/deep/er/y.tif", "b/Ärztin 2.png", "top.bmp"]


def test_a_linked_folder_elsewhere_is_found(root: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = tmp_path_factory.mktemp("elsewhere")
    (other / "scans").symlink_to(root / "a", target_is_directory=True)
    assert UnlabelledImages(other).ids == ["scans/x.jpg"]


def test_a_broken_file_is_named_when_read(root: Path) -> None:
    (root / "a" / "x.jpg").write_bytes(b"")
    data = UnlabelledImages(root)
    with pytest.raises(ValueError, match=r"x\.jpg.*empty"):
        data[0]


def test_no_images(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"holds no images; looked for \.png"):
        UnlabelledImages(tmp_path)
    with pytest.raises(FileNotFoundError, match="no such folder"):
        UnlabelledImages(tmp_path / "absent")
    (tmp_path / "scan.png").write_bytes(b"")
    with pytest.raises(NotADirectoryError, match="got the file"):
        UnlabelledImages(tmp_path / "scan.png")
