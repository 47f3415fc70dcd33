"""Run the cells of a study: each pretext and each cell once; a failure does not stop the others."""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from . import manifest
from .cells import SEGMENTATION, Cell, amount
from .locks import Busy, folder_lock
from .processes import barrier, broadcast_rank0, world_size
from .results import results
from .runs import read_json, write_json, write_text


def sharded(cells: Sequence[Cell], shard: tuple[int, int], pretext: Callable[[Cell], str | None]) -> list[Cell]:
    """The cells of share i of n; those that need one pretext stay together, so that no machine waits for another.

    The largest groups are assigned first, each to the smallest share; a pretext counts as one more cell.
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
    seed_word: str = "seed",
    pretrain: Callable[[Cell, Path], Path],
    finetune: Callable[[Cell, Path, Path | None], Mapping[str, Any]],
) -> list[dict[str, str]]:
    """Run every cell that has no result.json yet; a cell that fails is recorded, and the others continue.

    Args:
        folder: the run folder.
        cells: what to run; the manifest of the folder names their folders and pretexts.
        unit: of the labels, "%" or "volumes".
        seed_word: what a seed is called, "seed" or "fold".
        pretrain: (cell, folder of the pretext) -> the file of weights.
        finetune: (cell, its folder, file of weights or None) -> its result.

    Returns:
        The failures, as {"cell", "error"}; each traceback is in the cell's error.txt.

    Raises:
        Exception: under torchrun any failure ends all processes, since all must take the same steps.
    """
    failures: list[dict[str, str]] = []
    broken: dict[str, str] = {}
    for number, entry in enumerate(manifest.read(folder).of(cells), 1):
        cell, place = entry.cell, folder / entry.folder
        target = "" if cell.target == SEGMENTATION else f", {cell.target}"
        labels = amount(cell.labels, unit) + (" of the labels" if unit == "%" else " labelled")
        print(f"[{number}/{len(cells)}] {cell.method}{target}, {labels}, {cell.training(seed_word)}", flush=True)
        if broadcast_rank0((place / "result.json").exists()):
            print("    done before", flush=True)
            continue
        try:
            weights = None
            if entry.pretext in broken:
                raise RuntimeError(f"its pretext failed: {broken[entry.pretext]}")
            if entry.pretext is not None:
                weights = _pretrained(pretrain, cell, folder, entry.pretext, broken)
            with folder_lock(place):
                if broadcast_rank0((place / "result.json").exists()):
                    print("    done by another run meanwhile", flush=True)
                    continue
                result = finetune(cell, place, weights)
                write_json(place / "result.json", result)
                barrier()
                for left in (*place.rglob("*.ckpt"), place / "error.txt"):
                    left.unlink(missing_ok=True)
            print("    test " + in_words(result), flush=True)
        except Exception as error:
            failures.append({"cell": cell.name, "error": f"{type(error).__name__}: {error}"})
            if not isinstance(error, Busy):  # that folder is another run's
                with contextlib.suppress(OSError):  # a full disk is reported below
                    write_text(place / "error.txt", traceback.format_exc())
            print(f"    FAILED: {failures[-1]['error']}", flush=True)
            if world_size() > 1:
                raise
    return failures


def _pretrained(
    pretrain: Callable[[Cell, Path], Path], cell: Cell, run: Path, pretext: str, broken: dict[str, str]
) -> Path:
    try:
        with folder_lock(run / pretext):
            return pretrain(cell, run / pretext)
    except Exception as error:
        broken[pretext] = str(error)
        raise


def in_words(result: Mapping[str, Any]) -> str:
    """A cell's first metric in words."""
    name, value = next(iter(result["mean"].items()))
    spread = f" (SD {result['sd'][name]:.3f})" if result["sd"].get(name) is not None else ""
    return f"{name.replace('_', ' ')} {value:.3f}{spread}"


def write_failures(folder: Path, failures: list[dict[str, str]], cells: Sequence[Cell]) -> list[dict[str, str]]:
    """Bring failures.json up to date: failures of other commands' cells stay until these cells succeed.

    Returns:
        The failures of this command, except for cells that another run has finished meanwhile.
    """
    done = {result.cell.name for result in results(folder)}
    file = folder / "failures.json"
    own = {cell.name for cell in cells}
    before = read_json(file) if file.exists() else []
    failures = [failure for failure in failures if failure["cell"] not in done]
    others = [failure for failure in before if failure["cell"] not in own | done]
    write_json(file, others + failures)
    return failures
