"""Damaged files of every kind through every reader: an error that names the file, or a valid item."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from scans import compressed, write_nifti
from small_sets import CLIP, FILES, NO_FILES, SETS, dicom_files, nifti_files, picture, pictures, unlabelled
from sslmed import data
from sslmed.data import DiskCache, UnlabelledImages
from sslmed.data.formats.nifti import Volume

for _library in ("pydicom", "nibabel", "openpyxl"):
    pytest.importorskip(_library)

# Libraries warn of what they find; what they then return or raise is what counts here.
pytestmark = pytest.mark.filterwarnings("ignore")

TABLES = {".csv", ".xlsx", ".json", ".xml"}
FLIPS = 6
Damage = tuple[str, Callable[[Path, bytes], None]]


def damages(content: bytes, *, seed: int, flips: int = FLIPS) -> Iterator[Damage]:
    """Yield names and functions that damage a file of this content."""
    rng = np.random.default_rng(seed)
    changed = {"empty": b"", "another format": b"\x89PNG\r\n\x1a\n no picture", "zeros": bytes(len(content))}
    for share in (0.1, 0.4, 0.9):
        changed[f"cut at {share}"] = content[: int(share * len(content))]
    changed["last byte cut"] = content[:-1]
    for size in (8, 64, 200):
        changed[f"{size} zeros first"] = bytes(min(size, len(content))) + content[size:]
    for k in range(flips):
        flipped = bytearray(content)
        # Half of them in the first bytes, where headers are.
        end = len(content) if k % 2 else min(len(content), 600)
        for place in rng.integers(0, end, (1, 1, 3, 20)[k % 4]):
            flipped[place] ^= int(rng.integers(1, 256))
        changed[f"flip {k}"] = bytes(flipped)
    for name, damaged in changed.items():
        yield name, lambda path, _, damaged=damaged: path.write_bytes(damaged)  # type: ignore[misc]
    yield "missing", lambda path, _: path.unlink()
    yield "a folder", lambda path, _: (path.unlink(), path.mkdir())
    yield "another ending", lambda path, _: path.rename(path.with_suffix(".png")) and None


def each_damage(root: Path, **options: Any) -> Iterator[tuple[Path, str]]:
    """Damage each file below a folder in each way, one at a time, and restore it."""
    for path in sorted(path for path in root.rglob("*") if path.is_file()):
        content = path.read_bytes()
        for name, damage in damages(content, seed=zlib.crc32(path.name.encode()), **options):
            damage(path, content)
            yield path, name
            if name == "another ending" and path.suffix != ".png":
                path.with_suffix(".png").unlink()
            if path.is_dir():
                path.rmdir()
            path.write_bytes(content)


def check_item(item: Any) -> None:
    """Raise AssertionError unless all tensors of an item are valid."""
    if isinstance(item, Volume):  # in the file's units
        assert torch.isfinite(item.values).all()
        return
    if isinstance(item, torch.Tensor):
        item = {"mask" if item.dtype == torch.bool else "image": item}
    if "image" in item:
        assert item["image"].dtype == torch.float32
        assert item["image"].numel()
        assert ((item["image"] >= 0) & (item["image"] <= 1)).all()
    assert item.get("mask", torch.ones(1, dtype=torch.bool)).dtype == torch.bool


def check_error(error: Exception, path: Path, root: Path, what: str) -> None:
    """Raise AssertionError unless the error names the file, or its set where only that can tell.

    That is where the file is gone, where it is a table, and where a flip leaves a header that denies another file's.
    """
    named = str(path) in str(error) or path.stem in str(error)
    by_set = path.suffix in TABLES or what.startswith(("missing", "a folder", "another ending", "flip"))
    assert named or (by_set and str(root) in str(error)), f"{path}, {what}: {error}"


def test_every_reader_has_an_entry() -> None:
    assert set(data.__all__) == set(SETS) | set(FILES) | NO_FILES


@pytest.mark.parametrize(
    ("name", "layout"), [(name, k) for name, (layouts, _) in SETS.items() for k in range(len(layouts))]
)
def test_sets(tmp_path: Path, name: str, layout: int) -> None:
    layouts, opened = SETS[name]
    layouts[layout](tmp_path)
    whole = opened(tmp_path)
    assert len(whole)
    for item in whole:
        check_item(item)
    for path, what in each_damage(tmp_path):
        try:
            found = opened(tmp_path)
        except (ValueError, OSError) as error:
            check_error(error, path, tmp_path, what)
            continue
        for i in range(len(found)):
            try:
                item = found[i]
            except (ValueError, OSError) as error:
                check_error(error, path, tmp_path, what)
            else:
                check_item(item)


@pytest.mark.parametrize("name", FILES)
def test_single_files(tmp_path: Path, name: str) -> None:
    write, readers = FILES[name]
    write(tmp_path)
    for path in tmp_path.iterdir():
        for read in readers:
            check_item(read(path))
    for path, what in each_damage(tmp_path):
        for read in readers:
            try:
                item = read(path)
            except (ValueError, OSError) as error:
                check_error(error, path, path, what)
            else:
                check_item(item)


@pytest.mark.parametrize("write", [unlabelled, pictures, dicom_files, nifti_files])
def test_broken_files_are_skipped_and_those_after_them_read(tmp_path: Path, write: Callable[[Path], None]) -> None:
    write(tmp_path)
    good = tmp_path / "zz.png"
    picture(good)
    files = {path.name for path in tmp_path.iterdir()}
    for path, what in each_damage(tmp_path, flips=1):
        if path == good:
            continue
        found = UnlabelledImages(tmp_path, broken="skip")
        read = {file.name for file in found.files}
        if what not in ("missing", "a folder", "another ending"):
            assert read | set(found.skipped) == files
        items = list(found)
        assert len(items) == len(found)
        assert items[-1]["id"] == good.name
        for item in items:
            check_item(item)


def test_a_clip_that_lost_frames_after_it_was_listed(tmp_path: Path) -> None:
    SETS["CovidLUS"][0][0](tmp_path)
    clips = SETS["CovidLUS"][1](tmp_path)
    assert len(clips) == 4
    path = tmp_path / "pocus_videos/convex/Cov-Atlas.gif"
    Image.fromarray(np.zeros((8, 10), dtype=np.uint8)).save(path)
    with pytest.raises(ValueError, match=r"Cov-Atlas\.gif: frame 1 was expected"):
        list(clips)


def test_caches(tmp_path: Path) -> None:
    (tmp_path / "scans").mkdir()
    unlabelled(tmp_path / "scans")
    scans = UnlabelledImages(tmp_path / "scans", size=4)
    folder = tmp_path / "cache"
    assert len(DiskCache(scans, folder)) == len(scans)
    # Flips are left out: pixels lie in the cache as they are, without a checksum.
    for path, what in each_damage(folder, flips=0):
        try:
            found = DiskCache(scans, folder)
        except (ValueError, OSError) as error:
            check_error(error, path, path.parent, what)
            continue
        for i in range(len(found)):
            check_item(found[i])
    table = next(folder.rglob("items.json"))
    for content in ("3", "{}", "[3]", "[" * 10**5):
        table.write_text(content)
        with pytest.raises(ValueError, match=r"items\.json"):
            DiskCache(scans, folder)


@pytest.mark.parametrize("syntax", ["rle", "jpeg"])
def test_a_damaged_header_takes_no_memory(tmp_path: Path, syntax: str) -> None:
    path = compressed(tmp_path / "a.dcm", CLIP, syntax, Rows=65535, Columns=65535)
    with pytest.raises(ValueError, match=r"a\.dcm: the header has \(65535, 65535\)"):
        data.read_dicom(path)


def test_a_damaged_volumes_header_takes_no_memory(tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "a.nii", np.zeros((4, 5, 3)))
    content = bytearray(path.read_bytes())
    content[42:48] = np.array([32767] * 3, dtype="<i2").tobytes()
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.nii: truncated: .* bytes were expected"):
        data.read_nifti(path)
