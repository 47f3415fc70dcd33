"""The run folder: one configuration, atomic files, and the facts of the machine that made them.

Of several processes the first one writes; on the others `write_*` do nothing.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import importlib.metadata
import io
import json
import os
import platform
import shutil
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..data.names import encodable
from .processes import rank

PACKAGES = ("sslmed", "torch", "torchvision", "numpy", "scipy", "kornia", "einops", "lightning")


CONTENTS = "contents.json"  # hashes of the files, classes and groups of a run
WORDS = ("paper", "title", "display", "words", "choice")  # of a configuration: they do not affect the results


class RunFolder:
    """A folder that holds one run, which may grow: more methods, label fractions and seeds, never other constants.

    Args:
        path: the folder; made if it is not there.
        writes: whether anything will be written there; else it must be there and may be read-only.

    Raises:
        ValueError: the path is no UTF-8, which TensorBoard and checkpoints would find out in the middle of the run.
        OSError: the folder cannot be made or written.
    """

    def __init__(self, path: Path, *, writes: bool = True) -> None:
        self.path = path
        if not writes:
            return
        whole = os.path.abspath(path)
        if (shown := encodable(whole)) != whole:
            raise ValueError(f"--out {shown}: the path is not UTF-8; choose another folder")
        try:
            path.mkdir(parents=True, exist_ok=True)
            probe = path / f".writable.{os.getpid()}"
            probe.touch()
            probe.unlink(missing_ok=True)
        except OSError as error:
            raise OSError(f"--out {path}: cannot write there ({error.strerror or error})") from error

    def discard(self) -> None:
        """Remove the folder if it holds no run: a mistake found before the run leaves nothing behind."""
        if not (self.path / "config.json").exists():
            shutil.rmtree(self.path / "cache", ignore_errors=True)
        with contextlib.suppress(OSError):
            self.path.rmdir()

    def join(self, config: dict[str, Any], *, growing: Sequence[str]) -> dict[str, Any]:
        """Check that a config.json here is the same except for words and the lists in `growing`; nothing is written.

        Returns:
            The configuration of both: the lists in `growing` are the union.

        Raises:
            ValueError: the folder holds a run with other constants, or its config.json is damaged.
        """
        file = self.path / "config.json"
        if file.exists():
            before = read_json(file)
            if not isinstance(before, dict) or not all(isinstance(before.get(key), list) for key in growing):
                raise ValueError(f"{file} is not the configuration of a run; choose another folder")
            config = json.loads(json.dumps(config))
            difference = _first_difference(before, config, skip={*growing, *WORDS})
            if difference is not None:
                raise ValueError(
                    f"--out {self.path} holds a run with another configuration ({difference}); choose another folder"
                )
            for key in growing:
                config[key] = before[key] + [value for value in config[key] if value not in before[key]]
        return config

    def check(self) -> None:
        """Check the files of an earlier run that this one will read.

        Raises:
            ValueError: one of these files is damaged; the message names it.
        """
        for name in ("config.json", "splits.json", CONTENTS):
            if (self.path / name).exists():
                read_json(self.path / name)
        for file in sorted(self.path.glob("cells/*/result.json")):
            if not isinstance(read_json(file, advice="delete it to run that cell again"), dict):
                raise ValueError(f"{file} is not the result of a cell; delete it to run that cell again")
            if not file.with_name("metrics.csv").is_file():
                raise ValueError(f"{file} has no metrics.csv beside it; delete it to run that cell again")
        for pattern in ("pretext/**/*.ckpt", "pretext/**/*.pt", "cells/**/*.ckpt"):
            for file in sorted(self.path.glob(pattern)):
                if not zipfile.is_zipfile(file):  # its directory is written last: a cut file has none
                    raise ValueError(f"{file} is damaged; delete it to train that part again")


def first_changed(recorded: Mapping[str, str], found: Mapping[str, str]) -> str | None:
    """Name the first of the contents that is recorded with another hash; files that came or went change the splits."""
    return next((name for name, value in found.items() if recorded.get(name, value) != value), None)


def _first_difference(before: Any, now: Any, *, skip: set[str], place: str = "") -> str | None:
    if isinstance(before, dict) and isinstance(now, dict):
        for key in sorted(before.keys() | now.keys(), key=str):
            if key in skip:
                continue
            found = _first_difference(before.get(key), now.get(key), skip=set(), place=f"{place}.{key}".lstrip("."))
            if found is not None:
                return found
        return None
    return None if before == now else f"{place}: {before!r} there, {now!r} now"


def read_json(path: Path, *, advice: str = "choose another folder, or restore it") -> Any:
    """Read a JSON file; one that is damaged raises a ValueError that names it and says what to do."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}); {advice}") from error


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file so that a reader, or a run killed half way, sees the old content or the new, never a part.

    Raises:
        OSError: the system refused, as when the disk is full; the earlier file is unchanged.
    """
    if rank() > 0:
        return
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(temporary, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
    except OSError as error:
        kept = "; the earlier file is unchanged" if path.exists() else ""
        raise OSError(
            error.errno, f"cannot write {path}, {len(content):,} bytes: {error.strerror}{_free(path)}{kept}"
        ) from error


def _free(path: Path) -> str:
    """The free space of the disk that a file was to be written to, in words."""
    try:
        return f"; {shutil.disk_usage(path.parent).free:,} bytes are free there"
    except OSError:
        return ""


def write_text(path: Path, text: str) -> None:
    r"""Write UTF-8 text, atomically; bytes of paths that are no UTF-8 become `\udce9`, which JSON reads back right."""
    write_bytes(path, encodable(text).encode())


def write_json(path: Path, content: Any) -> None:
    """Write `content` as indented JSON, atomically."""
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def write_csv(path: Path, rows: Iterable[Mapping[str, Any]], *, columns: Sequence[str]) -> None:
    """Write rows as CSV, atomically; None becomes an empty cell, an unknown key raises ValueError."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())


def read_csv(path: Path) -> list[dict[str, str]]:
    """Read a CSV file with a header as a list of rows."""
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write_npz(path: Path, **arrays: np.ndarray) -> None:
    """Write arrays as a compressed .npz, atomically."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type] # its keyword is for pickles
    write_bytes(path, buffer.getvalue())


def sha256(path: Path) -> str:
    """The SHA-256 of a file's content, in hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_tensors(path: Path, state: Mapping[str, Any]) -> None:
    """Write a state dict, atomically; it loads with `weights_only=True`."""
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    write_bytes(path, buffer.getvalue())


def environment() -> dict[str, Any]:
    """Python, platform, device and package versions of this process."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "not installed"
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": device,
        "packages": versions,
    }
