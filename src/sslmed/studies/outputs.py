"""What a run writes beside its cells: data, splits and hashes before training, tables and the report after it."""

from __future__ import annotations

import datetime
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from . import paired_tests, parts, tables
from .cells import Target
from .choice import tabulated_methods
from .image_set import ImageSet
from .pictures import write_pictures
from .processes import barrier, rank
from .report import write_report
from .runs import CONTENTS, environment, first_changed, read_json, write_json, write_npz

if TYPE_CHECKING:
    from .run import Run

SHOWN = 4  # images of a gallery


def sources(run: Run) -> dict[str, Any]:
    """The names of the folders that were read."""
    found: dict[str, Any] = {}
    for name, data in run.data.items():
        found[name or "data"] = data.data.source
        others = data.pools | {f"test set {test}": images for test, images in data.test_sets.items()}
        found |= {f"{name}, {other}" if name else other: images.source for other, images in others.items()}
    return found


def splits(run: Run) -> dict[str, Any]:
    """The content of splits.json: what is recorded there, and this command's seeds and labels."""
    file = run.folder.path / "splits.json"
    recorded = read_json(file) if file.exists() else {}
    for data in run.data.values():
        recorded |= data.grown_splits(recorded, run.folder.path)
    return recorded


def contents(run: Run) -> dict[str, str]:
    """The content of contents.json: hashes that are recorded there, and of what this command has read."""
    recorded = read_json(file) if (file := run.folder.path / CONTENTS).exists() else {}
    found = {name: value for data in run.data.values() for name, value in data.contents().items()}
    if changed := first_changed(recorded, found):
        raise ValueError(
            f"--out {run.folder.path} holds a run of other images: {changed} has changed since; choose another folder"
        )
    return recorded | found


def describe(run: Run) -> None:
    """Write what is known before training: data, splits, galleries."""
    path, descriptions = run.folder.path, []
    for name, data in run.data.items():
        description = data.description()
        counts = ", ".join(f"{n} {what}" for what, n in description["counts"].items())
        print(f"{name + ': ' if name else ''}{data.data.name}: {counts}")
        for test_set, count in description["test_sets"].items():
            print(f"  tested on {test_set} too: {count} images")
        for line in (*data.notes, *run.notes, *data.checks):
            print(f"  {line}")
        descriptions.append(description | {"domain": name, "notes": [*description["notes"], *run.notes]})
    alone = len(descriptions) == 1
    write_json(
        path / "data.json",
        descriptions[0] if alone else {"sets": descriptions, "notes": run.notes, "checks": []},
    )
    write_json(path / "splits.json", splits(run))
    write_json(path / CONTENTS, contents(run))
    first = next(iter(run.data.values())).data
    write_npz(path / "galleries.npz", **run.study.gallery(first.images(_spread(first))))


def tabulate(run: Run) -> None:
    """Write the tables and the pictures of cases, and print the tables."""
    path = run.folder.path
    if rank() == 0:
        # As recorded: another command may have added methods since the start.
        methods = tabulated_methods(read_json(path / "config.json"))
        cases = {name: run.data[task.domain].data for name, task in run.tasks.items()}
        targets = [Target(**task.entry(cases[name])) for name, task in run.tasks.items()]
        tests = dict.fromkeys(name for found in run.test_sets.values() for name in found)
        frame = tables.Frame(
            targets,
            methods,
            run.study.unit,
            run.study.baselines,
            list(tests),
            folds=run.study.folds,
            smoke=run.args.preset == "smoke",
        )
        tables.collect_cases(path)
        for task in run.tasks.values():
            images, others = run.images[task.domain], run.test_sets[task.domain]
            write_pictures(path, task, images, run.data[task.domain].splits, others)
        rows = tables.write_table(path, frame, _published(run))
        if run.study.parts:
            parts.write_parts(path, frame, run.study.parts, _published_parts(run))
        print(tables.show(rows, paired_tests.write_tests(path, frame), frame))
    barrier()


def _published(run: Run) -> dict[tuple[str, str, str, str], tables.Published]:
    """The paper's numbers by target, test set, labels and method."""
    found = dict[tuple[str, str, str, str], tables.Published]()
    for name, task in run.tasks.items():
        images = run.data[task.domain].data
        note = run.study.comparability_note(task, images)
        own = {key: replace(row, why_not_comparable=note) for key, row in run.study.published(images.name).items()}
        others = {test_set: run.study.published_external(images, test_set) for test_set in run.test_sets[task.domain]}
        for test_set, rows in {"": own, **others}.items():
            found |= {(name, test_set, *key[1:]): row for key, row in rows.items() if key[0] == name}
    return found


def _published_parts(run: Run) -> dict[tuple[str, str, str, str], tables.Published]:
    """The paper's numbers of the training and validation part by target, part, labels and method."""
    return {
        (name, part, *key[1:]): row
        for name, task in run.tasks.items()
        for part in run.study.parts
        for key, row in run.study.published_parts(run.data[task.domain].data.name, part).items()
        if key[0] == name
    }


def finish(run: Run) -> None:
    """Write the environment and the report."""
    seconds = round(time.monotonic() - run.began, 1)
    write_json(
        run.folder.path / "environment.json",
        {**environment(), "started": run.started, "finished": now(), "seconds": seconds},
    )
    if rank() == 0:
        print(f"\nreport: {write_report(run.folder.path)}")
    barrier()


def now() -> str:
    """The time, in UTC."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _spread(images: ImageSet) -> list[int]:
    """Positions of a few images, spread over the set."""
    return [int(i) for i in np.linspace(0, len(images) - 1, SHOWN).round()]
