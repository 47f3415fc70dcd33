"""The cache: the very items, whole or not at all, and new where anything changed."""

from __future__ import annotations

import errno
import hashlib
import os
import pickle
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import multiprocessing
from torch.utils.data import DataLoader, Dataset, TensorDataset

from sslmed.data import Phantom, UnlabelledImages, _array_file, _hashes
from sslmed.data.cache import BrokenItems, DiskCache


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    folder = tmp_path / "scans ü"
    folder.mkdir()
    generator = torch.Generator().manual_seed(0)
    for k in range(6):
        pixels = torch.randint(0, 256, (40 + k, 30), generator=generator, dtype=torch.uint8)
        Image.fromarray(pixels.numpy()).save(folder / f"{k}.png")
    return folder


def same(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return a.keys() == b.keys() and all(
        torch.equal(a[k], b[k]) if isinstance(a[k], torch.Tensor) else a[k] == b[k] for k in a
    )


def test_items_are_the_very_same(scans: Path, tmp_path: Path) -> None:
    plain = UnlabelledImages(scans, size=32)
    cached = DiskCache(plain, tmp_path / "cache")
    assert len(cached) == 6
    assert cached.ids == plain.ids
    assert cached.labels is None
    assert all(same(cached[i], plain[i]) for i in (*range(6), -1))
    phantom = Phantom(5, size=32)
    cached = DiskCache(phantom, tmp_path / "cache", key="phantom")
    assert all(same(cached[i], phantom[i]) for i in range(5))
    assert cached[0]["mask"].dtype == torch.bool
    assert cached.labels == phantom.labels
    with pytest.raises(IndexError):
        cached[5]


def test_items_may_be_changed(scans: Path, tmp_path: Path) -> None:
    cached = DiskCache(UnlabelledImages(scans, size=32), tmp_path)
    before = cached[0]["image"].clone()
    cached[0]["image"].zero_()
    assert torch.equal(cached[0]["image"], before)


def test_second_time_decodes_nothing(scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = DiskCache(UnlabelledImages(scans, size=32), tmp_path / "cache")
    items = [first[i] for i in range(6)]

    def decode(*_: object) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr(UnlabelledImages, "__getitem__", decode)
    again = DiskCache(UnlabelledImages(scans, size=32), tmp_path / "cache")
    assert again.path == first.path
    assert all(same(again[i], items[i]) for i in range(6))


def test_whatever_changes_makes_another_cache(scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def path(size: int = 32, key: str | None = None) -> Path:
        return DiskCache(UnlabelledImages(scans, size=size), tmp_path / "cache", key=key).path

    paths = [path(), path(size=24), path(key="mine")]
    Image.new("L", (30, 40), 9).save(scans / "0.png")
    paths.append(path())
    (scans / "1.png").rename(scans / "9.png")
    paths.append(path())
    monkeypatch.setattr("sslmed.data.cache.version", lambda _: "0")
    paths.append(path())
    assert len(set(paths)) == len(paths)
    changed = DiskCache(UnlabelledImages(scans, size=32), tmp_path / "cache")
    assert same(changed[0], UnlabelledImages(scans, size=32)[0])


def test_a_writer_that_fails_leaves_nothing(scans: Path, tmp_path: Path) -> None:
    (scans / "5.png").write_bytes((scans / "5.png").read_bytes()[:60])
    with pytest.raises(ValueError, match=r"5\.png"):
        DiskCache(UnlabelledImages(scans, size=32), tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def counted(dataset: Dataset[Any], monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The indices of the items that are decoded from now on."""
    decoded: list[int] = []
    plain = type(dataset).__getitem__
    monkeypatch.setattr(type(dataset), "__getitem__", lambda self, i: decoded.append(i) or plain(self, i))
    return decoded


@pytest.fixture
def small_files() -> Iterator[None]:
    """No file may grow beyond 10,000 bytes."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.usefixtures("small_files")
@pytest.mark.parametrize("reserves", [True, False])
def test_a_file_that_may_not_grow(reserves: bool, scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not reserves:
        monkeypatch.delattr(os, "posix_fallocate", raising=False)
    dataset = UnlabelledImages(scans, size=64)
    decoded = counted(dataset, monkeypatch)
    with pytest.raises(OSError, match=r"the cache needs 98,304 bytes for .*image\.npy: File too large") as caught:
        DiskCache(dataset, tmp_path / "cache")
    assert caught.value.errno == errno.EFBIG
    assert decoded == [0]
    assert list((tmp_path / "cache").iterdir()) == []


def full(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize(("place", "name", "work"), [("posix_fallocate", "image.npy", 1), ("fsync", "mask.npy", 5)])
def test_a_full_disk_is_told(place: str, name: str, work: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    phantom = Phantom(5, size=32)
    decoded = counted(phantom, monkeypatch)
    monkeypatch.setattr(os, place, full, raising=False)
    with pytest.raises(OSError, match=rf"the cache needs [\d,]+ bytes for .*{name}: No space left") as caught:
        DiskCache(phantom, tmp_path, key="phantom")
    assert caught.value.errno == errno.ENOSPC
    assert len(decoded) == work
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("code", [None, errno.EOPNOTSUPP, errno.EINVAL])
def test_where_nothing_can_be_reserved_the_space_is_filled(
    code: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(code, "refused")

    phantom = Phantom(3, size=32)
    plain = DiskCache(phantom, tmp_path / "plain", key="phantom")
    if code is None:
        monkeypatch.delattr(os, "posix_fallocate", raising=False)
    else:
        monkeypatch.setattr(os, "posix_fallocate", refuse, raising=False)
    monkeypatch.setattr(_array_file, "_BLOCK", 1000)
    filled = DiskCache(phantom, tmp_path / "filled", key="phantom")
    for name in ("image.npy", "mask.npy", "items.json"):
        assert (filled.path / name).read_bytes() == (plain.path / name).read_bytes()


@pytest.mark.skipif(os.name != "posix", reason="folders cannot be locked")
def test_a_killed_writers_part_is_removed_and_not_read(scans: Path, tmp_path: Path) -> None:
    whole = DiskCache(UnlabelledImages(scans, size=32), tmp_path / "cache")
    part = whole.path.with_name(f".{whole.path.name}.0123abcd.part")
    whole.path.rename(part)
    (part / "image.npy").write_bytes((part / "image.npy").read_bytes()[:500])
    again = DiskCache(UnlabelledImages(scans, size=32), tmp_path / "cache")
    assert same(again[5], UnlabelledImages(scans, size=32)[5])
    assert not part.exists()


@pytest.mark.parametrize("name", ["image.npy", "items.json"])
def test_damaged_files_are_named(name: str, scans: Path, tmp_path: Path) -> None:
    cached = DiskCache(UnlabelledImages(scans, size=32), tmp_path / "cache")
    file = cached.path / name
    file.write_bytes(file.read_bytes()[:-40])
    with pytest.raises(ValueError, match=cached.path.name):
        DiskCache(UnlabelledImages(scans, size=32), tmp_path / "cache")
    file.unlink()
    with pytest.raises(ValueError, match=cached.path.name):
        DiskCache(UnlabelledImages(scans, size=32), tmp_path / "cache")


def build(scans: Path, folder: Path, seen: Any) -> None:
    torch.set_num_threads(1)
    cached = DiskCache(UnlabelledImages(scans, size=32), folder)
    seen.put((str(cached.path), [cached[i]["image"].sum().item() for i in range(6)]))


def test_parallel_writers_end_with_one_cache(scans: Path, tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    seen = context.SimpleQueue()
    workers = [context.Process(target=build, args=(scans, tmp_path / "cache", seen)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(600)
        assert worker.exitcode == 0
    results = [seen.get() for _ in workers]
    assert results[0] == results[1] == results[2]
    assert [str(path) for path in (tmp_path / "cache").iterdir() if path.is_dir()] == [results[0][0]]


def test_losing_the_race_reads_the_winners(scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cached = DiskCache(UnlabelledImages(scans, size=32), tmp_path / "cache")
    is_dir, calls = Path.is_dir, []

    def blind(path: Path) -> bool:  # the winner finishes after the first look
        calls.append(path)
        return is_dir(path) and (path != cached.path or calls.count(path) > 1)

    monkeypatch.setattr(Path, "is_dir", blind)
    again = DiskCache(UnlabelledImages(scans, size=32), tmp_path / "cache")
    assert same(again[3], cached[3])
    assert [path for path in (tmp_path / "cache").iterdir() if path.is_dir()] == [cached.path]


def test_workers_read_the_files_themselves(scans: Path, tmp_path: Path) -> None:
    cached = DiskCache(UnlabelledImages(scans, size=64), tmp_path / "cache")
    assert len(pickle.dumps(cached)) < 6 * 64 * 64
    loader = DataLoader(cached, batch_size=3, num_workers=1, multiprocessing_context="spawn")
    images = torch.cat([batch["image"] for batch in loader])
    assert torch.equal(images, torch.stack([cached[i]["image"] for i in range(6)]))


class Mixed(Dataset[dict[str, Any]]):
    """Images of two sizes, or items that no cache can hold."""

    def __init__(self, odd: dict[str, Any]) -> None:
        self.items = [{"image": torch.zeros(1, 8, 8), "id": "a"}, odd]

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.items[index]


@pytest.mark.parametrize(
    ("odd", "error", "message"),
    [
        ({"image": torch.zeros(1, 8, 9), "id": "b"}, ValueError, r"set size.*'b' has image \(1, 8, 9\)"),
        ({"image": torch.zeros(1, 8, 8, dtype=torch.float64)}, ValueError, "float64"),
        ({"image": torch.zeros(1, 8, 8), "mask": torch.zeros(1, 8, 8)}, ValueError, "mask"),
        ({"image": torch.zeros(1, 8, 8), "place": (1, 2)}, TypeError, r"dataset\[1\]"),
        ({"image": torch.zeros(1, 8, 8), "thing": object()}, TypeError, "JSON"),
        ({"id": "b"}, TypeError, 'tensor "image"'),
    ],
)
def test_items_that_do_not_fit(odd: Any, error: type[Exception], message: str, tmp_path: Path) -> None:
    with pytest.raises(error, match=message):
        DiskCache(Mixed(odd), tmp_path, key="mixed")
    assert list(tmp_path.iterdir()) == []


def test_sets_without_files_need_a_key(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="key must be given for Phantom"):
        DiskCache(Phantom(2), tmp_path)
    with pytest.raises(ValueError, match="no item"):
        DiskCache(TensorDataset(torch.zeros(0)), tmp_path, key="none")


def test_items_that_cannot_be_read_are_counted_or_left_out(scans: Path, tmp_path: Path) -> None:
    for name in ("1.png", "4.png"):
        (scans / name).write_bytes((scans / name).read_bytes()[:60])
    plain = UnlabelledImages(scans, size=32)
    with pytest.raises(BrokenItems, match=r"1\.png.*, and 1 more cannot be read"):
        DiskCache(plain, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []
    cached = DiskCache(plain, tmp_path / "cache", broken="skip")
    assert cached.ids == ["0.png", "2.png", "3.png", "5.png"]
    assert len(cached) == 4
    assert all(same(cached[k], plain[i]) for k, i in enumerate((0, 2, 3, 5)))
    assert list(cached.skipped) == ["1.png", "4.png"]
    again = DiskCache(plain, tmp_path / "cache", broken="skip")
    assert (again.path, again.skipped, again.ids) == (cached.path, cached.skipped, cached.ids)
    with pytest.raises(BrokenItems, match=r"1\.png.*, and 1 more cannot be read"):
        DiskCache(plain, tmp_path / "cache")


def test_a_set_of_which_nothing_can_be_read_is_refused(scans: Path, tmp_path: Path) -> None:
    plain = UnlabelledImages(scans, size=32)
    for path in scans.iterdir():
        path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(BrokenItems, match="and 5 more cannot be read"):
        DiskCache(plain, tmp_path / "cache", broken="skip")


def test_some_pixels_are_read_without_the_others(tmp_path: Path) -> None:
    phantom = Phantom(5, size=32)
    cached = DiskCache(phantom, tmp_path, key="phantom")
    assert torch.equal(cached.pixels("mask", [3, 0]), torch.stack([phantom[3]["mask"], phantom[0]["mask"]]))
    assert cached.pixels("image", []).shape == (0, 1, 32, 32)
    with pytest.raises(IndexError):
        cached.pixels("image", [5])
    with pytest.raises(KeyError):
        cached.pixels("label_map", [0])


def test_a_file_that_was_cut_later_is_named(scans: Path, tmp_path: Path) -> None:
    cached = DiskCache(UnlabelledImages(scans, size=32), tmp_path / "cache")
    file = cached.path / "image.npy"
    file.write_bytes(file.read_bytes()[:-40])
    assert cached[4]["id"] == "4.png"
    with pytest.raises(ValueError, match=r"image\.npy: the cache lacks items; delete"):
        cached[5]


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="needs Linux's list of mapped memory")
def test_no_file_of_the_cache_is_mapped(scans: Path, tmp_path: Path) -> None:
    cached = DiskCache(UnlabelledImages(scans, size=64), tmp_path / "cache")
    items = [cached[i] for i in range(6)]
    assert len(items) == 6
    assert str(tmp_path) not in Path("/proc/self/smaps").read_text()


def test_unchanged_files_are_hashed_once(scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_hashes, "_RECENT_NS", -(10**18))  # files of this test are young
    read: list[str] = []
    plain = hashlib.file_digest
    monkeypatch.setattr(hashlib, "file_digest", lambda f, name: read.append(f.name) or plain(f, name))

    def hashed() -> tuple[int, Path]:
        read.clear()
        path = DiskCache(UnlabelledImages(scans, size=32), tmp_path / "cache").path
        return len(read), path

    (first, path), (second, again) = hashed(), hashed()
    assert (first, second) == (6, 0)
    assert again == path
    status = (scans / "3.png").stat()
    whole = (scans / "3.png").read_bytes()
    (scans / "3.png").write_bytes(whole[:-20] + bytes(20))  # of the same size, and its time set back
    os.utime(scans / "3.png", ns=(status.st_atime_ns, status.st_mtime_ns))
    memory = _hashes.FileHashes(next((tmp_path / "cache").glob("hashes-*.json")))
    before = memory.of([scans / "2.png", scans / "3.png"])
    assert before == [hashlib.sha256((scans / f"{k}.png").read_bytes()).hexdigest() for k in (2, 3)]
    (scans / "3.png").write_bytes(whole)
    memory.file.write_text("{")
    assert hashed()[0] == 6  # a damaged memory is made anew


def test_young_files_are_not_remembered(scans: Path, tmp_path: Path) -> None:
    (scans / "0.png").touch()
    memory = _hashes.FileHashes(tmp_path / "memory.json")
    memory.of([scans / "0.png"])
    memory.save()
    assert not memory.file.exists()


def test_progress_is_given_all_items_once(scans: Path, tmp_path: Path) -> None:
    seen: list[int] = []

    def noted(index: Iterable[int]) -> Iterator[int]:
        for i in index:
            seen.append(i)
            yield i

    for _ in range(2):
        DiskCache(UnlabelledImages(scans, size=32), tmp_path / "cache", progress=noted)
    assert seen == [*range(6)]
