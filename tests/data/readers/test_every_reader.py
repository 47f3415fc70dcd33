"""What must hold for every reader: small lesions stay, and whatever an item is made of names its cache."""

from __future__ import annotations

import copy
import gzip
import inspect
import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset

from ambient import STATES
from miniatures import MINIATURES, Miniature, table
from sslmed import data, metrics
from sslmed.data import DiskCache, LabelledImages
from sslmed.data._hashes import FileHashes
from sslmed.data.cache import _fingerprint, _hashed

# Which files are read decides on the items, and no file is read otherwise.
CHOICES = {"allow_partial", "videos", "licences", "broken"}


@pytest.fixture(params=MINIATURES)
def miniature(request: pytest.FixtureRequest) -> Miniature:
    found = MINIATURES[request.param]
    for package in found.needs:
        pytest.importorskip(package)
    return found


def fingerprint(dataset: Any) -> str:
    memory = FileHashes(Path("none"))
    return _fingerprint(dataset, None, _hashed(dataset, "files", memory) | _hashed(dataset, "tables", memory))


def opened(miniature: Miniature, root: Path, **settings: Any) -> Any:
    partial = "allow_partial" in inspect.signature(miniature.reader).parameters
    return miniature.reader(root, **({"allow_partial": True} if partial else {}) | settings)


def test_every_reader_has_a_miniature() -> None:
    made_up = {data.Phantom, data.MammogramPhantom, data.MRPhantom, data.DiskCache}
    public = {value for name in data.__all__ if inspect.isclass(value := getattr(data, name))}
    readers = {value for value in public if issubclass(value, Dataset)} - made_up
    assert readers == {miniature.reader for miniature in MINIATURES.values()}


@pytest.mark.parametrize("fit", ["stretch", "pad"])
def test_a_lesion_smaller_than_a_pixel_keeps_one(miniature: Miniature, tmp_path: Path, fit: str) -> None:
    scans = opened(miniature, miniature.build(tmp_path), size=8, fit=fit)
    items = list(scans)
    assert miniature.masks == all("mask" in item for item in items)
    if not miniature.masks:
        return
    small = [item for item in items if item["mask"].sum() == 1]
    assert small
    assert all(item["mask"].any() for item in items)
    assert scans.tiny == sorted(item["id"] for item in small)
    for item in small:
        assert item["mask"][0, 3:5, 3:5].any()  # where the lesion is, whichever way up
        assert "label_map" not in item or torch.equal(item["label_map"] > 0, item["mask"])
        assert metrics.dice(torch.zeros_like(item["mask"]), item["mask"]) == 0


def test_items_do_not_follow_the_state_of_torch(miniature: Miniature, tmp_path: Path) -> None:
    root = miniature.build(tmp_path)
    for size in (None, 8):
        want = list(opened(miniature, root, size=size))
        for state in STATES.values():
            with state():
                got = list(opened(miniature, root, size=size))
            for item, expected in zip(got, want, strict=True):
                for name, value in expected.items():
                    same = torch.equal if isinstance(value, torch.Tensor) else lambda a, b: a == b
                    assert same(item[name], value)
                    assert not isinstance(value, torch.Tensor) or item[name].dtype == value.dtype


def test_threads_that_share_a_reader_do_not_meet(miniature: Miniature, tmp_path: Path) -> None:
    scans = opened(miniature, miniature.build(tmp_path))
    want = list(scans)
    order = (torch.randint(10**6, (200,), generator=torch.Generator().manual_seed(0)) % len(scans)).tolist()
    with ThreadPoolExecutor(4) as pool:
        for i, item in zip(order, pool.map(scans.__getitem__, order), strict=True):
            assert item["id"] == want[i]["id"]
            assert torch.equal(item["image"], want[i]["image"])
            assert "mask" not in item or torch.equal(item["mask"], want[i]["mask"])


def test_an_item_may_be_changed(miniature: Miniature, tmp_path: Path) -> None:
    scans = opened(miniature, miniature.build(tmp_path))
    want = [{name: copy.deepcopy(value) for name, value in scans[i].items()} for i in range(len(scans))]
    for i, expected in enumerate(want):
        for value in scans[i].values():
            if isinstance(value, torch.Tensor):
                value.zero_()
        assert all(torch.equal(scans[i][name], expected[name]) for name in ("image", "mask") if name in expected)


def files_below(root: Path) -> Iterator[Path]:
    yield from (path for path in sorted(root.rglob("*")) if path.is_file())


def changed(path: Path) -> bytes:
    """Return another content that the reader can read: the values or text of the file, changed in one place."""
    before = path.read_bytes()
    if path.suffix in (".png", ".bmp", ".tif"):
        pixels = np.asarray(Image.open(path)).copy()
        pixels[10, 10] ^= 128
        Image.fromarray(pixels).save(path)
    elif path.suffix == ".gz":
        values = bytearray(gzip.decompress(before))
        values[-1] ^= 1
        path.write_bytes(gzip.compress(bytes(values)))
    elif path.suffix in (".dcm", ".raw"):
        path.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
    elif path.suffix == ".xlsx":
        import openpyxl

        book = openpyxl.load_workbook(path)
        book.create_sheet("remarks")
        book.save(path)
    else:  # text
        path.write_bytes(before + b"\n")
    after = path.read_bytes()
    path.write_bytes(before)
    assert after != before
    return after


def test_whatever_an_item_is_made_of_names_its_cache(miniature: Miniature, tmp_path: Path) -> None:
    root = miniature.build(tmp_path)
    settings: list[dict[str, Any]] = [{}]
    if miniature.reader is not data.CBISDDSM:  # which reads all by itself
        settings += [{name: value} for name, value in miniature.options.items()]
    settings = [one for one in settings if works(miniature, root, one)]
    before = [fingerprint(opened(miniature, root, **one)) for one in settings]
    assert before == [fingerprint(opened(miniature, root, **one)) for one in settings]
    for path in files_below(tmp_path):
        content = path.read_bytes()
        path.write_bytes(changed(path))
        after = [fingerprint(opened(miniature, root, **one)) for one in settings]
        path.write_bytes(content)
        assert any(a != b for a, b in zip(after, before, strict=True)), path.name


def works(miniature: Miniature, root: Path, settings: dict[str, Any]) -> bool:
    try:
        return len(opened(miniature, root, **settings)) > 0
    except ValueError:  # the older CAMUS has no outlines of sequences
        return False


def test_every_setting_names_the_cache(miniature: Miniature, tmp_path: Path) -> None:
    root = miniature.build(tmp_path)
    others = {"size": 8, "fit": "pad", **miniature.options}
    names = set(inspect.signature(miniature.reader).parameters) - {"root"} - CHOICES
    assert names == set(others)
    found = {"": fingerprint(opened(miniature, root))}
    usual = {name: p.default for name, p in inspect.signature(miniature.reader).parameters.items()}
    for name in (name for name in names if usual[name] != others[name]):
        found[name] = fingerprint(opened(miniature, root, **{name: others[name]}))
    assert len(set(found.values())) == len(found), found


def test_another_place_is_the_same_set(miniature: Miniature, tmp_path: Path) -> None:
    first, second = (fingerprint(opened(miniature, miniature.build(tmp_path / name))) for name in ("a", "b"))
    written_anew = {"XLSX": ".xlsx", "gz": ".gz"}.values()  # with the time of writing inside
    if not any(path.suffix in written_anew for path in files_below(tmp_path)):
        assert first == second


def test_a_corrected_table_is_read(tmp_path: Path) -> None:
    root = MINIATURES["LabelledImages"].build(tmp_path / "scans")
    before = DiskCache(LabelledImages(root, size=8), tmp_path / "cache")
    head = ("image", "class", "group")
    for rows in (
        (("scan 0", "malignant", "patient 7"), ("scan 1", "benign", "patient 8")),
        (("scan 0", "benign", "patient 8"), ("scan 1", "malignant", "patient 8")),
    ):
        table(root / "cases.csv", head, *rows)
        now = DiskCache(LabelledImages(root, size=8), tmp_path / "cache")
        plain = LabelledImages(root, size=8)
        assert now.path != before.path
        assert [(item["label"], item["group"]) for item in now] == [(x["label"], x["group"]) for x in plain]


def test_masks_that_change_hands_make_another_cache(tmp_path: Path) -> None:
    pytest.importorskip("pydicom")
    root = MINIATURES["CBISDDSM"].build(tmp_path)
    path = root / "mass_case_description_train_set.csv"
    before = fingerprint(opened(MINIATURES["CBISDDSM"], root))
    rows = [line.split(",") for line in path.read_text().splitlines()]
    rows[1][4], rows[2][4] = rows[2][4], rows[1][4]
    table(path, *map(tuple, rows))
    assert fingerprint(opened(MINIATURES["CBISDDSM"], root)) != before


def test_settings_of_a_set_of_ones_own() -> None:
    class Own:
        def __init__(self, **settings: Any) -> None:
            self.files: list[Path] = []
            self.__dict__.update(settings)

        def __len__(self) -> int:
            return 1

    settings: list[dict[str, Any]] = [
        {},
        {"a": 1},
        {"a": "1"},
        {"a": [1, {"b": 2}]},
        {"a": [1, {"b": 3}]},
        {"a": np.arange(3)},
        {"a": torch.arange(4)},
        {"labels": [0]},
        {"a": object()},
    ]
    found = [fingerprint(Own(**one)) for one in settings]
    for (i, a), (j, b) in itertools.combinations(enumerate(found), 2):
        assert a != b, (settings[i], settings[j])
    assert found[-1] == fingerprint(Own(a=object()))


def test_a_reader_recognises_the_folder_that_it_reads(miniature: Miniature, tmp_path: Path) -> None:
    if miniature.reader not in data.READERS:
        return
    root = opened(miniature, miniature.build(tmp_path)).root
    recognising = [reader for reader in data.READERS if reader.recognises(root)]
    assert recognising[0] is miniature.reader
