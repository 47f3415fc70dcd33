"""Estimate how long a run takes on this machine, from one timed step of each training."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from .engine import Trainable
from .run import Run

TIMED = 8  # images of a timed step


def estimate(run: Run) -> str:
    """A sentence on the time that a run takes, before it starts; the random state is not changed."""
    with torch.random.fork_rng(devices=[]):
        pretexts, tuning = _pretexts(run), _tuning(run)
    total = pretexts + tuning
    return (
        f"On this CPU the run takes about {_duration(total)}, of which {_duration(pretexts)} for pretexts (from one "
        "timed step of each; early stopping shortens it). A GPU is used automatically; --preset small is for CPUs."
    )


def _pretexts(run: Run) -> float:
    """Seconds of all pretexts."""
    costs: dict[str, float] = {}  # seconds an image and epoch, by method
    total, counted = 0.0, set[str]()
    for cell in run.cells():
        name, recipe = run.pretext(cell), run.study.methods[cell.method]
        if name is None or recipe is None or name in counted:
            continue
        counted.add(name)
        images = run.data[run.tasks[cell.target].domain].pretext(cell.seed, recipe.mix)
        batch = _batch(images, recipe.stages[0].fit.batch_size)
        index = torch.arange(len(batch[0]))
        for stage in recipe.stages:
            key = f"{cell.method} {stage.name}"
            if key not in costs:
                method = stage.build(len(index), None)
                method.start([(batch[0], index)])
                costs[key] = _seconds(method, (batch[0], index))
            total += costs[key] * len(images) * stage.fit.epochs
    return total


def _tuning(run: Run) -> float:
    """Seconds of all fine-tunings; validation, without a backward pass, counts a third."""
    costs: dict[str, float] = {}
    total = 0.0
    for cell in run.cells() if run.trains else ():
        task = run.tasks[cell.target]
        split, images = run.data[task.domain].splits[cell.seed], run.images[task.domain]
        labelled = split.labelled[cell.labels]
        if task.name not in costs:
            batch = _batch(task.pairs(images, labelled), run.study.finetune.batch_size)
            costs[task.name] = _seconds(task.learner(images, None), batch)
        total += costs[task.name] * (len(labelled) + len(split.val) / 3) * run.study.finetune.epochs
    return total


def _batch(data: Dataset[Any], size: int) -> list[Tensor]:
    count = min(TIMED, size, len(data))  # type: ignore[arg-type]
    batch: list[Tensor] = default_collate([data[i] for i in range(count)])
    return batch


def _seconds(module: Trainable, batch: Sequence[Tensor]) -> float:
    """Seconds an image of a forward and backward pass; the first one, which allocates, is not timed."""
    for _ in range(2):
        began = time.perf_counter()
        module(*batch).loss.backward()
    return (time.perf_counter() - began) / len(batch[0])


def _duration(seconds: float) -> str:
    for unit, length in (("days", 86400.0), ("hours", 3600.0), ("minutes", 60.0)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
