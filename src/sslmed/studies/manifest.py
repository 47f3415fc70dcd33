"""manifest.json: which folders of a run hold which cells and pretexts, so that no folder name has to be parsed."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .cells import Cell
from .runs import read_json, write_json

MANIFEST = "manifest.json"
FORMAT = 1
CELL = tuple(field.name for field in dataclasses.fields(Cell))


@dataclass(frozen=True)
class CellEntry:
    """A cell.

    Attributes:
        folder: its folder, relative to the run's.
        cell: what it is.
        domain: of its images.
        pretext: folder of the pretext that it starts from, relative to the run's.
        test_sets: name of each external test set -> folder of its results, relative to the cell's.
    """

    folder: str
    cell: Cell
    domain: str = ""
    pretext: str | None = None
    test_sets: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class PretextEntry:
    """A pretext training, or one stage of it: its folder, relative to the run's, and its title in the report."""

    folder: str
    method: str
    seed: int
    title: str


@dataclass(frozen=True)
class Manifest:
    """The cells and pretexts of a run, in the order in which they were recorded."""

    cells: list[CellEntry] = field(default_factory=list)
    pretexts: list[PretextEntry] = field(default_factory=list)

    def of(self, cells: Iterable[Cell]) -> list[CellEntry]:
        """The entries of these cells, in their order."""
        known = {entry.cell: entry for entry in self.cells}
        return [known[cell] for cell in cells]


def record(folder: Path, cells: Iterable[CellEntry] = (), pretexts: Iterable[PretextEntry] = ()) -> None:
    """Add entries to the manifest of a run, atomically; an entry with a recorded folder replaces the old one.

    Call it with the run's folder locked: between reading and writing, another process could add entries.
    """
    known = read(folder) if (folder / MANIFEST).exists() else Manifest()
    content = {
        "format": FORMAT,
        "cells": [
            {"folder": e.folder, **_of(e.cell), "domain": e.domain, "pretext": e.pretext}
            | ({"test_sets": dict(e.test_sets)} if e.test_sets else {})
            for e in {e.folder: e for e in (*known.cells, *cells)}.values()
        ],
        "pretexts": [dataclasses.asdict(e) for e in {e.folder: e for e in (*known.pretexts, *pretexts)}.values()],
    }
    write_json(folder / MANIFEST, content)


def _of(cell: Cell) -> dict[str, Any]:
    """A cell's fields; the repeat only where it is not the first, as in the folder's name."""
    return {name: value for name, value in dataclasses.asdict(cell).items() if name != "repeat" or value}


def read(folder: Path) -> Manifest:
    """The manifest of a run.

    Raises:
        ValueError: the folder has none, or it is damaged or of another format.
    """
    file = folder / MANIFEST
    if not file.exists():
        raise ValueError(f"{folder} was written by an older version of sslmed; run the study again in a new folder")
    content = read_json(file)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        found = content.get("format") if isinstance(content, dict) else content
        raise ValueError(f"{file} must be a manifest of format {FORMAT}, got {found!r}; use the version that wrote it")
    return Manifest(
        [
            CellEntry(
                e["folder"],
                Cell(**{name: e[name] for name in CELL if name in e}),
                e["domain"],
                e["pretext"],
                e.get("test_sets", {}),
            )
            for e in content["cells"]
        ],
        [PretextEntry(**e) for e in content["pretexts"]],
    )


def check(folder: Path, *, option: str = "") -> None:
    """Raise ValueError where a folder holds a study but no manifest that this version reads.

    Args:
        folder: a run folder, perhaps empty or of a pretraining, which needs no manifest.
        option: the option that named the folder, for the message.
    """
    file = folder / "config.json"
    config: Any = read_json(file) if file.exists() else None
    if isinstance(config, dict) and "methods" in config:
        try:
            read(folder)
        except ValueError as error:
            raise ValueError(f"{option} {error}".lstrip()) from error
