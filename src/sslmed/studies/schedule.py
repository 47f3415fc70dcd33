"""A study: targets x methods x amounts of labels x seeds. Each pretext is trained once, each cell is run once."""

from __future__ import annotations

import contextlib
import json
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .locks import Busy, folder_lock
from .processes import barrier, broadcast_rank0, world_size
from .runs import write_json, write_text

SUPERVISED = "supervised"
SEGMENTATION = "segmentation"  # the target of a study that has no other


@dataclass(frozen=True)
class Cell:
    """One fine-tuning: a method, what it is tuned to, how many labels it may use, and a seed."""

    method: str
    labels: float
    seed: int
    target: str = SEGMENTATION

    @property
    def name(self) -> str:
        """Folder name, as "cp-jig+freq_rcl+percep-l20-s0", with the target where it is not segmentation."""
        target = "" if self.target == SEGMENTATION else f"-{slug(self.target)}"
        # A share is a float, a number of volumes an int: 1.0 is all labels, 1 is one volume.
        labels = f"v{self.labels}" if isinstance(self.labels, int) else f"l{percent(self.labels)}"
        return f"{slug(self.method)}{target}-{labels}-s{self.seed}"


@dataclass(frozen=True)
class Target:
    """What cells are tuned to and tested on.

    Attributes:
        name: as in the cells.
        title: as in the report.
        kind: "segmentation", "classification" or "volumes".
        metric: the one that methods are compared by.
        metrics: those of the table.
    """

    name: str
    title: str
    kind: str
    metric: str
    metrics: tuple[str, ...]


def slug(name: str) -> str:
    """A name as part of a file name."""
    return name.replace("/", "_").replace(" ", "_")


def percent(fraction: float) -> str:
    """A fraction as a percentage without trailing zeros: 0.2 -> "20", 0.125 -> "12.5"."""
    return f"{fraction * 100:.6g}"


def amount(labels: float, unit: str) -> str:
    """An amount of labels as the tables print it: "20 %", "4 volumes"."""
    if unit == "volumes":
        return f"{labels:g} volume" + "s" * (labels != 1)
    return f"{percent(labels)} %"


def sharded(
    cells: Sequence[Cell], shard: tuple[int, int], pretext: Callable[[Cell], str | None]
) -> list[Cell]:
    """The cells of share i of n; those that need one pretext stay together, so that no machine waits for another.

    The largest groups are dealt first, each to the share that has least; a pretext counts as one cell more.
    """
    i, n = shard
    groups: dict[object, list[Cell]] = {}
    for cell in cells:
        groups.setdefault(pretext(cell) or cell, []).append(cell)
    load = [0] * n
    own: set[Cell] = set()
    for key in sorted(groups, key=lambda k: -len(groups[k])):  # stable: the same on all machines
        least = load.index(min(load))
        load[least] += len(groups[key]) + isinstance(key, str)
        own |= set(groups[key]) if least == i else set()
    return [cell for cell in cells if cell in own]


def run_cells(
    folder: Path,
    cells: Sequence[Cell],
    *,
    unit: str,
    pretext: Callable[[Cell], str | None],
    pretrain: Callable[[Cell, Path], Path],
    finetune: Callable[[Cell, Path, Path | None], Mapping[str, Any]],
) -> list[dict[str, str]]:
    """Run every cell that has no result.json yet; one that fails is noted, and the others go on.

    Args:
        folder: the run folder.
        cells: what to run.
        unit: of the labels, "%" or "volumes".
        pretext: name of the pretext that a cell starts from, None for a baseline without one.
        pretrain: (cell, folder of the pretext) -> the file of weights; called once for each name.
        finetune: (cell, its folder, file of weights or None) -> its result.

    Returns:
        The failures, as {"cell", "error"}; each traceback is in the cell's error.txt.

    Raises:
        Exception: of several processes, which must not part ways, any failure ends them all.
    """
    failures: list[dict[str, str]] = []
    broken: dict[str, str] = {}
    for number, cell in enumerate(cells, 1):
        place = folder / "cells" / cell.name
        target = "" if cell.target == SEGMENTATION else f", {cell.target}"
        labels = amount(cell.labels, unit) + (" of the labels" if unit == "%" else " labelled")
        print(f"[{number}/{len(cells)}] {cell.method}{target}, {labels}, seed {cell.seed}", flush=True)
        if broadcast_rank0((place / "result.json").exists()):
            print("    done before", flush=True)
            continue
        try:
            name = pretext(cell)
            if name in broken:
                raise RuntimeError(f"its pretext failed: {broken[name]}")
            weights = None if name is None else _pretrained(pretrain, cell, folder / "pretext" / name, broken)
            with folder_lock(place):
                if broadcast_rank0((place / "result.json").exists()):
                    print("    done by another run meanwhile", flush=True)
                    continue
                result = finetune(cell, place, weights)
                write_json(place / "result.json", result)
                barrier()
                for left in (*place.glob("*.ckpt"), place / "error.txt"):
                    left.unlink(missing_ok=True)
            print("    test " + said(result), flush=True)
        except Exception as error:
            failures.append({"cell": cell.name, "error": f"{type(error).__name__}: {error}"})
            if not isinstance(error, Busy):  # that folder is another run's
                with contextlib.suppress(OSError):  # a full disk is told below
                    write_text(place / "error.txt", traceback.format_exc())
            print(f"    FAILED: {failures[-1]['error']}", flush=True)
            if world_size() > 1:
                raise
    return failures


def _pretrained(
    pretrain: Callable[[Cell, Path], Path], cell: Cell, place: Path, broken: dict[str, str]
) -> Path:
    try:
        with folder_lock(place):
            return pretrain(cell, place)
    except Exception as error:
        broken[place.name] = str(error)
        raise


def said(result: Mapping[str, Any]) -> str:
    """A cell's first metric in words."""
    name, value = next(iter(result["mean"].items()))
    spread = f" (SD {result['sd'][name]:.3f})" if result["sd"].get(name) is not None else ""
    return f"{name.replace('_', ' ')} {value:.3f}{spread}"


def results(folder: Path) -> list[dict[str, Any]]:
    """All finished cells of a run folder."""
    files = sorted((folder / "cells").glob("*/result.json"))
    return [json.loads(file.read_text()) | {"folder": file.parent.name} for file in files]


def write_failures(
    folder: Path, failures: list[dict[str, str]], cells: Sequence[Cell]
) -> list[dict[str, str]]:
    """Bring failures.json up to date: what other commands wrote of other cells stays until these succeed.

    Returns:
        The failures of this command, but for cells that another run has done meanwhile.
    """

    def lacking(failure: dict[str, str]) -> bool:
        return not (folder / "cells" / failure["cell"] / "result.json").exists()

    file = folder / "failures.json"
    own = {cell.name for cell in cells}
    before = json.loads(file.read_text()) if file.exists() else []
    failures = list(filter(lacking, failures))
    write_json(file, [f for f in before if f["cell"] not in own and lacking(f)] + failures)
    return failures
