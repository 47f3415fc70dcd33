"""The test cases that the report shows, chosen once for all methods of a target."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ..tasks import Task
from .cells import slug
from .image_set import ImageSet
from .results import Result, arrays, results
from .runs import write_npz
from .splitting import Split


def write_pictures(folder: Path, task: Task, images: ImageSet, splits: Mapping[int, Split]) -> None:
    """Keep what the report shows of some test cases, chosen by the results of all methods and amounts of labels.

    They are of one seed: the first of those with the most finished cells.

    Args:
        folder: the run folder.
        task: the target.
        images: at the size that the networks see.
        splits: of `images`, by seed.
    """
    cells: dict[int, list[Result]] = {seed: [] for seed in sorted(splits)}
    for cell in results(folder):
        if cell.target == task.name and cell.seed in cells:
            cells[cell.seed].append(cell)
    seed = max(cells, key=lambda seed: len(cells[seed]))
    shown = task.pictures(images, splits[seed].test, [cell.rows for cell in cells[seed]])
    if shown:
        write_npz(_file(folder, task.name), seed=np.array(seed), **shown)


def pictures(folder: Path, target: str) -> dict[str, np.ndarray]:
    """What `write_pictures` kept of a target; empty where it kept nothing."""
    return arrays(_file(folder, target))


def _file(folder: Path, target: str) -> Path:
    return folder / "pictures" / f"{slug(target)}.npz"
