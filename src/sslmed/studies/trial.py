"""Build what a study will train once before it trains, so that what cannot work is found before any work is lost."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator

import torch

from ..tasks import Task
from .cells import amount
from .image_set import ImageSet
from .study import Study
from .study_data import StudyData


def methods(study: Study, names: Iterable[str]) -> None:
    """Build the stages of some methods.

    Raises:
        ValueError: a method or its optimiser refuses its settings.
    """
    with torch.random.fork_rng(devices=[]):
        for name in names:
            recipe = study.methods[name]
            for stage in recipe.stages if recipe else ():
                with _refused(name):
                    stage.optimiser.build(stage.build(2, None).parameter_groups(), epochs=stage.fit.epochs)


def task(study: Study, chosen: Task, data: StudyData, images: ImageSet) -> None:
    """Build the network of a task, and choose the pairs of each part of each split.

    Raises:
        ValueError: the network or its optimiser refuses its settings, or a part lacks what the task needs.
    """
    with torch.random.fork_rng(devices=[]), _refused(chosen.name):
        groups = chosen.learner(images, None).parameter_groups()
        study.tuning.build(groups, epochs=study.finetune.epochs)
    for seed, split in data.splits.items():
        parts = {f"{amount(share, study.unit)} of the labels": part for share, part in split.labelled.items()}
        for name, part in (parts | {"the validation part": split.val, "the test part": split.test}).items():
            try:
                chosen.pairs(data.data, part)
            except ValueError as error:
                option = data.spec.labelled.option
                raise ValueError(f"{option}, {study.seed_word} {seed}, {name}: {error}") from error


@contextlib.contextmanager
def _refused(name: str) -> Iterator[None]:
    """Turn what a network raises while it is built into a user's mistake."""
    try:
        yield
    except (ValueError, TypeError, RuntimeError, ArithmeticError) as error:
        raise ValueError(f"the settings of {name} do not fit: {error}") from error
