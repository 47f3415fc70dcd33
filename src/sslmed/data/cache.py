"""Decoded and resized items on disk: from the second epoch on, image files are not read."""

from __future__ import annotations

import hashlib
import json
import math
import operator
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import Dataset

from .. import _checks
from ._array_file import ArrayFile, to_disk, writing
from ._hashes import FileHashes
from ._part_folder import part_folder
from .formats._reading import Unreadable, reading

_PIXELS = ("image", "mask", "label_map")
_TABLE = "items.json"
_PLACES = {"root", "files", "tables", "skipped"}  # attributes of readers that may change though no item does


class BrokenItems(ValueError):
    """Some items of a data set cannot be decoded; the message names the first and counts the others."""


class _Layout(NamedTuple):
    """Where the pixels of an item lie in their file."""

    file: Path
    start: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]


class DiskCache(Dataset[dict[str, Any]]):
    """The items of a data set, decoded once and then read from files, each item by itself.

    The cache of a set is a folder named by a hash of all that its items are made of: the names and contents of its
    files and tables, its ids, labels, groups and settings, its class and the library's version. A changed image, mask,
    table, size or reader makes a new one, and nothing stale is ever read. The hashes of files are remembered in
    `folder`, so that files whose size, inode and times are unchanged are not read again. Of a set of your own with
    `files`, these are hashed, those in `tables` if there is such an attribute, and all public attributes that are
    numbers, strings, arrays, or lists and dicts of them.

    A cache is written to a hidden folder and then renamed, so that other processes see all of it or nothing; of several
    that write at once the first to finish wins, and all read the same. Its space is reserved before the second item is
    decoded, so that a full disk is noticed at once. A writer that was killed leaves a hidden folder `.*.part`, which
    the next one removes where folders can be locked. Items hold what the set's items hold: pixels, id, label and group,
    and nothing of a file's header.

    Memory does not grow with the number of pixels: an item is read when it is requested, and not kept.

    Args:
        dataset: a set whose items have equally large images: a reader with `size` set, or any map-style set of items
            with "image", perhaps "mask", and numbers or strings.
        folder: where caches lie; made if missing. One folder serves any number of sets.
        key: for sets without `files`, such as your own: a name of the content, to be changed along with it.
        broken: "error", or "skip" to leave out items whose files cannot be read, listed in `skipped`.
        progress: given the positions of the items, returns them again while they are decoded: a progress bar.

    Attributes:
        path: the folder of this cache.
        ids, labels, groups: as in `dataset`, or None where it has none.
        rows: what each item holds beside its pixels.
        layout: shape and dtype of the pixels of an item, by name: image, mask, label_map.
        skipped: the reason for each item left out, by its id.
        tiny: ids of the items with a structure smaller than a pixel, if `dataset` reports them.
        hashes: SHA-256 of each file of `dataset`, by its path below the root.

    Raises:
        TypeError: the set names no files and no `key` is given, or an item holds what JSON cannot.
        OSError: the cache cannot be written, as when the disk is full; the message names the file and its size, and
            nothing is left behind.
        ValueError: the set is empty, its images differ in size or type, files of the cache were damaged, or (its
            subclass `BrokenItems`) files of the set cannot be read.

    Example:
        >>> import tempfile
        >>> from sslmed.data import Phantom
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     scans = DiskCache(Phantom(4, size=32), folder, key="phantom, 4, 32, seed 0")
        ...     scans[3]["image"].shape, bool((scans[3]["image"] == Phantom(4, size=32)[3]["image"]).all())
        (torch.Size([1, 32, 32]), True)
    """

    def __init__(
        self,
        dataset: Any,
        folder: str | os.PathLike[str],
        *,
        key: str | None = None,
        broken: str = "error",
        progress: Callable[[Iterable[int]], Iterable[int]] | None = None,
    ) -> None:
        skip = _checks.choice("broken", broken, ("error", "skip")) == "skip"
        if not len(dataset):
            raise ValueError("dataset holds no item")
        place = os.path.abspath(getattr(dataset, "root", ""))
        name = hashlib.sha256(place.encode(errors="surrogateescape")).hexdigest()[:16]
        memory = FileHashes(Path(folder) / f"hashes-{name}.json")
        self.hashes: dict[str, str] = _hashed(dataset, "files", memory)
        self.path: Path = Path(folder) / _fingerprint(dataset, key, self.hashes | _hashed(dataset, "tables", memory))
        if not self.path.is_dir():
            _write(dataset, self.path, skip=skip, progress=progress or iter)
        memory.save()
        table = self._read_table()
        self.rows: list[dict[str, Any]] = table["rows"]
        self.tiny: list[str] = table["tiny"]
        self.skipped: dict[str, str] = {str(name): str(reason) for _, name, reason in table["skipped"]}
        if self.skipped and not skip:
            raise _broken([reason for _, _, reason in table["skipped"]])
        left_out = {position for position, _, _ in table["skipped"]}
        self.ids: Sequence[Any] | None
        self.labels: Sequence[Any] | None
        self.groups: Sequence[Any] | None
        self.ids, self.labels, self.groups = (
            _without(getattr(dataset, name, None), left_out) for name in ("ids", "labels", "groups")
        )
        self._files = self._found()
        self.layout: dict[str, tuple[tuple[int, ...], np.dtype[Any]]] = {
            name: (part.shape, part.dtype) for name, part in self._files.items()
        }

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        i = operator.index(index)
        row = self.rows[i]
        return {name: self.pixels(name, [i])[0] for name in self._files} | row

    def pixels(self, name: str, index: Sequence[int]) -> torch.Tensor:
        """Read one kind of pixels ("image", "mask" or "label_map") of some items, and stack them.

        Raises:
            KeyError: items have no such pixels.
            IndexError: there is no such item.
            ValueError: the cache's file was damaged in the meantime.
        """
        file, start, shape, dtype = self._files[name]
        found = np.empty((len(index), *shape), dtype)
        length = math.prod(shape) * dtype.itemsize
        places = range(len(self.rows))
        # Positioned reads, since pages of a memory map would count as this process's memory; opened each time, since
        # processes that were forked share the position of an open file.
        with open(file, "rb", buffering=0) as source:
            for one, i in zip(found, index, strict=True):
                source.seek(start + places[i] * length)
                if source.readinto(one) != length:
                    raise ValueError(f"{file}: the cache lacks items; delete {self.path}")
        return torch.from_numpy(found)

    def _read_table(self) -> dict[str, Any]:
        file = self.path / _TABLE
        with reading(file, f"table of the cache {self.path}; delete it"):
            table = json.loads(file.read_text(encoding="utf-8")) if file.exists() else None
            if not isinstance(table, dict) or not {"rows", "tiny", "skipped"} <= table.keys():
                raise Unreadable(f"the cache {self.path} lacks its table; delete it")
            return table

    def _found(self) -> dict[str, _Layout]:
        files = {}
        for name in _PIXELS:
            file = self.path / f"{name}.npy"
            if not file.exists():
                continue
            with reading(file, f"part of the cache {self.path}; delete it"):
                values = np.load(file, mmap_mode="r")  # for its header, and the check of its length
                if len(values) == len(self.rows):
                    files[name] = _Layout(file, values.offset, values.shape[1:], values.dtype)
                    continue
            raise ValueError(f"{self.path}: the cache lacks items; delete it")
        if "image" not in files:
            raise ValueError(f"{self.path}: the cache lacks items; delete it")
        return files


def _hashed(dataset: Any, which: str, memory: FileHashes) -> dict[str, str]:
    """Hash the contents of a set's "files" or "tables", by their paths below its root."""
    root = getattr(dataset, "root", None)
    files: Sequence[Path] = getattr(dataset, which, ())
    names = (f.relative_to(root) if root and f.is_relative_to(root) else Path(f.name) for f in files)
    return dict(zip((name.as_posix() for name in names), memory.of(files), strict=True))


def _fingerprint(dataset: Any, key: str | None, hashes: Mapping[str, str]) -> str:
    """Hash what the items are made of."""
    kind = type(dataset)
    if key is None and not hasattr(dataset, "files"):
        raise TypeError(f"key must be given for {kind.__name__}, which has no `files` whose contents name it")
    # What the set knows of its items may be properties, and its settings any other attributes.
    known = {name: getattr(dataset, name, None) for name in ("ids", "labels", "groups", "classes")}
    settings = {name: value for name, value in vars(dataset).items() if not name.startswith("_")}
    parts = [version("sslmed"), kind.__module__, kind.__qualname__, len(dataset), key, list(hashes.items())]
    parts += [_plain(value) for value in (known, {k: v for k, v in settings.items() if k not in _PLACES})]
    return hashlib.blake2b(json.dumps(parts, sort_keys=True).encode(), digest_size=16).hexdigest()


def _plain(value: Any) -> Any:
    """Return what JSON can hold of a value; objects, whose text may differ from run to run, become None."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, Mapping):
        return [[str(name), _plain(part)] for name, part in value.items()]
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    return value if isinstance(value, (str, int, float, bool)) else None


def _without(values: Sequence[Any] | None, left_out: set[int]) -> Sequence[Any] | None:
    if values is None or not left_out:
        return values
    return [value for i, value in enumerate(values) if i not in left_out]


def _broken(reasons: Sequence[str]) -> BrokenItems:
    others = len(set(reasons)) - 1  # frames of one file fail alike
    return BrokenItems(reasons[0] + (f", and {others} more cannot be read" if others else ""))


def _write(dataset: Any, path: Path, *, skip: bool, progress: Callable[[Iterable[int]], Iterable[int]]) -> None:
    """Decode every item into a folder of its own and move it to `path`."""
    with part_folder(path) as part:
        rows: list[dict[str, Any]] = []
        skipped: list[tuple[int, Any, str]] = []
        first: Exception | None = None
        with ExitStack() as stack:
            pixels: dict[str, ArrayFile] = {}
            for i in progress(range(len(dataset))):
                try:
                    item = dataset[i]
                except (ValueError, OSError) as error:
                    first = first or error
                    ids = getattr(dataset, "ids", None)
                    skipped.append((i, i if ids is None else ids[i], str(error)))
                    continue
                if skipped and not skip:
                    continue  # the others are decoded to count the broken ones among them
                arrays = _arrays(item, i)
                if not pixels:
                    pixels = {
                        name: stack.enter_context(ArrayFile(part / f"{name}.npy", array, len(dataset) - len(skipped)))
                        for name, array in arrays.items()
                    }
                _same_layout(arrays, pixels, item.get("id", i))
                for name, array in arrays.items():
                    pixels[name].append(array)
                rows.append({name: value for name, value in item.items() if name not in arrays})
                if json.loads(json.dumps(rows[-1])) != rows[-1]:
                    raise TypeError(f"dataset[{i}] must hold pixels, numbers and strings only, got {rows[-1]}")
            if skipped and not (skip and rows):
                raise _broken([reason for _, _, reason in skipped]) from first
        table = {"rows": rows, "tiny": list(getattr(dataset, "tiny", ())), "skipped": skipped}
        content = json.dumps(table).encode()
        with writing(part / _TABLE, len(content)), (part / _TABLE).open("wb") as file:
            file.write(content)
            to_disk(file)


def _arrays(item: Any, i: int) -> dict[str, npt.NDArray[Any]]:
    if not isinstance(item, Mapping) or not isinstance(item.get("image"), torch.Tensor):
        raise TypeError(f'dataset[{i}] must be a mapping with a tensor "image", got {type(item).__name__}')
    return {name: item[name].numpy() for name in _PIXELS if name in item}


def _same_layout(arrays: dict[str, npt.NDArray[Any]], pixels: dict[str, ArrayFile], name: object) -> None:
    expected = {key: (values.shape, values.dtype) for key, values in pixels.items()}
    found = {key: (array.shape, array.dtype) for key, array in arrays.items()}
    if found != expected:
        first, own = (", ".join(f"{k} {s} {d}" for k, (s, d) in layout.items()) for layout in (expected, found))
        raise ValueError(f"dataset must give items of one layout (set size); {name!r} has {own}, the first {first}")
