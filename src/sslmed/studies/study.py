"""The declaration of a study: its data, methods, tasks and published results."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from ..methods import Method
from ..tasks import Task
from .cells import SUPERVISED, seed_word
from .data_spec import DataSpec
from .engine import Fit
from .image_set import ImageSet
from .optimisers import Optimiser
from .tables import Published

__all__ = ["SUPERVISED", "Recipe", "Refinement", "Stage", "Study"]


@dataclass(frozen=True)
class Stage:
    """One training of a pretext.

    Attributes:
        build: (number of images, weights of the stage before or None) -> the method.
        optimiser: of its parameters.
        fit: length, batches and precision.
        name: of the stage, where a pretext has several.
    """

    build: Callable[[int, Path | None], Method]
    optimiser: Optimiser
    fit: Fit
    name: str = ""


@dataclass(frozen=True)
class Refinement:
    """A training after fine-tuning, on images with and without labels.

    Its network replaces the fine-tuned one, unless it is shown to be worse on the validation part.

    Attributes:
        build: (fine-tuned network, labelled images (N, 1, S, S), their targets (N, 1, S, S)) -> the method, whose
            `validate` takes labelled pairs.
        optimiser: of its parameters.
        fit: length, batches and precision.
        mix: the mix of images (`DataSpec.mixes`) without labels.
    """

    build: Callable[[nn.Module, Tensor, Tensor], Method]
    optimiser: Optimiser
    fit: Fit
    mix: str = ""


@dataclass(frozen=True)
class Recipe:
    """How a network is trained with images that have no labels.

    Attributes:
        stages: trainings before fine-tuning that follow each other; the last one leaves the weights for fine-tuning.
        mix: the mix of images (`DataSpec.mixes`) that all stages learn from.
        validated: whether the loss of the validation part, without its labels, controls a "plateau" schedule; else the
            training loss does. The last epoch's weights are kept in either case.
        pretext: name of what the stages train, which recipes share by the same name; None for the method's own.
        finetune: length, batches and precision of fine-tuning; None for the study's.
        refinement: a training after fine-tuning.
    """

    stages: tuple[Stage, ...] = ()
    mix: str = ""
    validated: bool = False
    pretext: str | None = None
    finetune: Fit | None = None
    refinement: Refinement | None = None


@dataclass(frozen=True, kw_only=True)
class Study:
    """The declaration of a paper's program; `sslmed.studies.run.Run` carries it out.

    Attributes:
        citation: of the paper, as in config.json and the report; "" where the study follows none.
        title: heading of the report.
        preset: all its numbers, recorded in config.json.
        arguments: other choices of the command line, recorded there too.
        data: the sets of images, one for each domain.
        methods: by name, in the order of the tables; None for a method without a pretext.
        tasks: what networks are fine-tuned to and tested on.
        size: pixels a side of fine-tuning images.
        finetune: length, batches and precision of fine-tuning.
        tuning: optimiser of fine-tuning.
        display: names to print of methods and domains.
        words: method, or a part of one -> its name and a sentence that describes it.
        proposed: the paper's own proposal, if it has one.
        choice: the name in the tables of the network of all methods with the highest metric on the validation part, if
            the study reports it.
        baselines: methods that others are tested against, supervised training first.
        published: name of the set -> the paper's numbers by (task, labels, method).
        comparability_note: (task, images) -> why our numbers and the paper's are not comparable.
        parts: parts of the split, "train" (the labelled cases) and "val", on which trained networks are evaluated as on
            the test part; results are in parts.csv and the report.
        published_parts: (name of the set, part) -> the paper's numbers of such a part by (task, labels, method).
        published_external: (labelled set, name of an external test set) -> the paper's numbers of networks that were
            trained on one set and tested on another, by (task, labels, method), each with its `why_not_comparable`.
        gallery: images (N, 1, S, S) -> arrays of galleries.npz.
        embedding: file of weights, or None for a random start -> the encoder whose features of test images the report
            draws; None draws none.
    """

    citation: str
    title: str
    preset: Any
    data: Sequence[DataSpec]
    methods: Mapping[str, Recipe | None]
    tasks: Sequence[Task]
    size: int
    finetune: Fit
    tuning: Optimiser
    display: Mapping[str, str]
    words: Mapping[str, tuple[str, str]]
    comparability_note: Callable[[Task, ImageSet], str]
    gallery: Callable[[Tensor], Mapping[str, np.ndarray]]
    arguments: Mapping[str, Any] = field(default_factory=dict)
    proposed: str | None = None
    choice: str | None = None
    baselines: Sequence[str] = (SUPERVISED,)
    published: Callable[[str], Mapping[tuple[str, str, str], Published]] = lambda _: {}
    parts: Sequence[str] = ()
    published_parts: Callable[[str, str], Mapping[tuple[str, str, str], Published]] = lambda *_: {}
    published_external: Callable[[ImageSet, str], Mapping[tuple[str, str, str], Published]] = lambda *_: {}
    embedding: Callable[[Path | None], nn.Module] | None = None

    @property
    def unit(self) -> str:
        """What labels are counted in: "%" of the training cases, or "volumes"."""
        return self.data[0].unit

    @property
    def folds(self) -> int | None:
        """The number of folds of a cross-validation, which the seeds then number, or None."""
        return self.data[0].folds

    @property
    def seed_word(self) -> str:
        """What a seed is called, "seed" or "fold"."""
        return seed_word(self.folds)
