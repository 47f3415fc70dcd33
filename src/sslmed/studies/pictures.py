"""The test cases that the report shows, chosen once for all methods of a target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ..tasks import Task
from .cells import slug
from .image_set import ImageSet
from .results import Result, arrays, results
from .runs import write_npz
from .splitting import Split


def write_pictures(
    folder: Path, task: Task, images: ImageSet, splits: Mapping[int, Split], test_sets: Mapping[str, ImageSet]
) -> None:
    """Keep what the report shows of some test cases, chosen by the results of all methods and amounts of labels.

    They are of one seed: the first of those with the most finished cells.

    Args:
        folder: the run folder.
        task: the target.
        images: at the size that the networks see.
        splits: of `images`, by seed.
        test_sets: the external test sets by name, at the same size.
    """
    cells: dict[int, list[Result]] = {seed: [] for seed in sorted(splits)}
    for cell in results(folder):
        if cell.target == task.name and cell.seed in cells:
            cells[cell.seed].append(cell)
    seed = max(cells, key=lambda seed: len(cells[seed]))
    tested: list[tuple[ImageSet, Sequence[int], str]] = [(images, splits[seed].test, "")]
    tested += [(external, range(len(external.ids)), name) for name, external in test_sets.items()]
    for cases, index, test_set in tested:
        found = [one for cell in cells[seed] if (one := cell.on(test_set)) is not None]
        shown = task.pictures(cases, index, [one.rows for one in found])
        if shown:
            place = cells[seed][0].test_sets.get(test_set, "")
            write_npz(_file(folder, task.name, place), seed=np.array(seed), **shown)


def pictures(folder: Path, target: str, place: str = "") -> dict[str, np.ndarray]:
    """What `write_pictures` kept of a target; empty where it kept nothing.

    Args:
        folder: the run folder.
        target: name of the target.
        place: of an external test set inside a cell's folder; "" for the usual test part.
    """
    return arrays(_file(folder, target, place))


def _file(folder: Path, target: str, place: str) -> Path:
    file = folder / "pictures" / slug(target) / place
    return file.with_name(f"{file.name}.npz")
