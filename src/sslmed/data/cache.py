"""Decoded and resized items on disk: the second epoch reads memory, not image files."""

from __future__ import annotations

import hashlib
import json
import operator
import os
import shutil
import uuid
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import Dataset

from ._array_file import ArrayFile, to_disk, writing
from .formats._reading import Unreadable, reading

_PIXELS = ("image", "mask", "label_map")
_TABLE = "items.json"
_PLACES = {"root", "files", "tables", "skipped"}  # attributes of readers that may change though no item does


class DiskCache(Dataset[dict[str, Any]]):
    """The items of a data set, decoded once and then read from memory-mapped files.

    The cache of a set is a folder named by a hash of all that its items are made of: the names and contents of its
    files and tables, its ids, labels, groups and settings, its class and the library's version. A changed image, mask,
    table, size or reader makes a new one, and nothing stale is ever read. Of a set of your own with `files`, these are
    hashed, those in `tables` if there is such an attribute, and all public attributes that are numbers, strings,
    arrays, or lists and dicts of them. It is written beside its
    place and moved there whole, so that other processes see all of it or nothing; of several that write at once the
    first to finish wins, and all read the same. Its space is reserved before the second item is decoded, so that a full
    disk is known at once. A writer that was killed leaves a hidden folder `.*.part`, which may be
    deleted. Items hold what the set's items hold: pixels, id, label and group, and nothing of a file's header.

    Args:
        dataset: a set whose items have equally large images: a reader with `size` set, or any map-style set of items
            with "image", perhaps "mask", and numbers or strings.
        folder: where caches lie; made if missing. One folder serves any number of sets.
        key: for sets without `files`, such as your own: a name of the content, to be changed along with it.

    Attributes:
        path: the folder of this cache.
        ids, labels, groups: as in `dataset`, or None where it has none.

    Raises:
        TypeError: the set names no files and no `key` is given, or an item holds what JSON cannot.
        OSError: the cache cannot be written, as when the disk is full; the message names the file and its size, and
            nothing is left behind.
        ValueError: the set is empty, its images differ in size or type, or files of the cache were damaged.

    Example:
        >>> import tempfile
        >>> from sslmed.data import Phantom
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     scans = DiskCache(Phantom(4, size=32), folder, key="phantom, 4, 32, seed 0")
        ...     scans[3]["image"].shape, bool((scans[3]["image"] == Phantom(4, size=32)[3]["image"]).all())
        (torch.Size([1, 32, 32]), True)
    """

    def __init__(self, dataset: Any, folder: str | os.PathLike[str], *, key: str | None = None) -> None:
        if not len(dataset):
            raise ValueError("dataset holds no item")
        self.path = Path(folder) / _fingerprint(dataset, key)
        self.ids = getattr(dataset, "ids", None)
        self.labels = getattr(dataset, "labels", None)
        self.groups = getattr(dataset, "groups", None)
        if not self.path.is_dir():
            _write(dataset, self.path)
        self._table = self._rows()
        self._pixels = self._mapped()

    def __len__(self) -> int:
        return len(self._table)

    def __getitem__(self, index: int) -> dict[str, Any]:
        i = operator.index(index)
        pixels = {name: torch.from_numpy(values[i].copy()) for name, values in self._pixels.items()}
        return pixels | self._table[i]

    def __getstate__(self) -> dict[str, Any]:
        # A mapping would be pickled as the whole file; a worker opens its own.
        return {name: value for name, value in self.__dict__.items() if name != "_pixels"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._pixels = self._mapped()

    def _rows(self) -> list[dict[str, Any]]:
        file = self.path / _TABLE
        with reading(file, f"table of the cache {self.path}; delete it"):
            rows = json.loads(file.read_text(encoding="utf-8")) if file.exists() else None
            if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
                raise Unreadable(f"the cache {self.path} lacks its table; delete it")
            return rows

    def _mapped(self) -> dict[str, npt.NDArray[Any]]:
        pixels = {}
        for name in _PIXELS:
            file = self.path / f"{name}.npy"
            if not file.exists():
                continue
            with reading(file, f"part of the cache {self.path}; delete it"):
                pixels[name] = np.load(file, mmap_mode="r")
        if "image" not in pixels or any(len(values) != len(self._table) for values in pixels.values()):
            raise ValueError(f"{self.path}: the cache lacks items; delete it")
        return pixels


def _fingerprint(dataset: Any, key: str | None) -> str:
    """Hash what the items are made of."""
    kind = type(dataset)
    files: Sequence[Path] | None = getattr(dataset, "files", None)
    if files is None and key is None:
        raise TypeError(f"key must be given for {kind.__name__}, which has no `files` whose contents name it")
    # What the set knows of its items may be properties, and its settings any other attributes.
    known = {name: getattr(dataset, name, None) for name in ("ids", "labels", "groups", "classes")}
    settings = {name: value for name, value in vars(dataset).items() if not name.startswith("_")}
    parts = [version("sslmed"), kind.__module__, kind.__qualname__, len(dataset), key]
    parts += [_plain(value) for value in (known, {k: v for k, v in settings.items() if k not in _PLACES})]
    state = hashlib.blake2b(json.dumps(parts, sort_keys=True).encode(), digest_size=16)
    root = getattr(dataset, "root", None)
    for file in (*(files or ()), *getattr(dataset, "tables", ())):
        name = file.relative_to(root) if root is not None and file.is_relative_to(root) else Path(file.name)
        state.update(json.dumps(name.as_posix()).encode())
        with file.open("rb") as content:
            state.update(hashlib.file_digest(content, "sha256").digest())
    return state.hexdigest()


def _plain(value: Any) -> Any:
    """Return what JSON can hold of a value; objects, whose text may differ from run to run, become None."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, Mapping):
        return [[str(name), _plain(part)] for name, part in value.items()]
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    return value if isinstance(value, (str, int, float, bool)) else None


def _write(dataset: Any, path: Path) -> None:
    """Decode every item into a folder of its own and move it to `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")
    part.mkdir()
    try:
        with ExitStack() as stack:
            pixels: dict[str, ArrayFile] = {}
            table = []
            for i in range(len(dataset)):
                item = dataset[i]
                arrays = _arrays(item, i)
                if not i:
                    pixels = {
                        name: stack.enter_context(ArrayFile(part / f"{name}.npy", array, len(dataset)))
                        for name, array in arrays.items()
                    }
                _same_layout(arrays, pixels, item.get("id", i))
                for name, array in arrays.items():
                    pixels[name].append(array)
                table.append({name: value for name, value in item.items() if name not in arrays})
                if json.loads(json.dumps(table[-1])) != table[-1]:
                    raise TypeError(
                        f"dataset[{i}] must hold pixels, numbers and strings only, got {table[-1]}"
                    )
        content = json.dumps(table).encode()
        with writing(part / _TABLE, len(content)), (part / _TABLE).open("wb") as file:
            file.write(content)
            to_disk(file)
        try:
            part.rename(path)
        except OSError:
            if not path.is_dir():  # else another process was faster with the same content
                raise
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _arrays(item: Any, i: int) -> dict[str, npt.NDArray[Any]]:
    if not isinstance(item, Mapping) or not isinstance(item.get("image"), torch.Tensor):
        raise TypeError(f'dataset[{i}] must be a mapping with a tensor "image", got {type(item).__name__}')
    return {name: item[name].numpy() for name in _PIXELS if name in item}


def _same_layout(arrays: dict[str, npt.NDArray[Any]], pixels: dict[str, ArrayFile], name: object) -> None:
    expected = {key: (values.shape, values.dtype) for key, values in pixels.items()}
    found = {key: (array.shape, array.dtype) for key, array in arrays.items()}
    if found != expected:
        first, own = (
            ", ".join(f"{k} {s} {d}" for k, (s, d) in layout.items()) for layout in (expected, found)
        )
        raise ValueError(
            f"dataset must give items of one layout (set size); {name!r} has {own}, the first {first}"
        )
