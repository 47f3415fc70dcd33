"""What a paper's own file says of its study: what is read, learnt, tuned, tested, and set beside its numbers."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import lightning as L
import numpy as np
import torch
from torch.utils.data import TensorDataset

from ..tasks.metrics import table_metrics
from . import tables
from .cells import SEGMENTATION, SUPERVISED, Cell, Target, slug
from .manifest import PretextEntry
from .material import Material, Wanted
from .pretext import Pretext, pretrain
from .seeding import derived_seed
from .segmentation import KIND
from .training import Fit


@dataclasses.dataclass(frozen=True)
class Paper:
    """What a paper's own file says of it once and for all.

    Attributes:
        citation: as in config.json and the report.
        title: heading of the report.
        display: method -> the name to print.
        words: method, or a part of one -> its name and a plain sentence on it.
        proposed: the paper's own proposal, if it has one.
        baselines: methods that others are tested against, supervised training first.
        unit: of the labels, "%" of the training cases or "volumes".
        shows_features: whether to draw the features of each pretext, by t-SNE.
    """

    citation: str
    title: str
    display: Mapping[str, str]
    words: Mapping[str, tuple[str, str]]
    proposed: str | None = None
    baselines: tuple[str, ...] = (SUPERVISED,)
    unit: str = "%"
    shows_features: bool = False


class Plan:
    """The paper's part of an `Experiment`; each method may be overridden, those that raise must be.

    Attributes:
        paper: what holds for all runs.
        args: the command line.
        preset: how large the run is.
        materials: the images, by domain.
    """

    paper: ClassVar[Paper]
    args: argparse.Namespace
    preset: Any
    materials: dict[str, Material]
    methods: list[str]

    def check(self) -> None:
        """Check arguments that are the paper's own, before anything is read."""

    def arguments(self) -> dict[str, Any]:
        """The paper's own arguments, for config.json."""
        raise NotImplementedError

    def wanted(self) -> Sequence[Wanted]:
        """The sets to read."""
        raise NotImplementedError

    def targets(self) -> Sequence[Target]:
        """What is tuned to and tested on."""
        return [Target(SEGMENTATION, "Segmentation", KIND, "dice", table_metrics(KIND))]

    def method(self, cell: Cell, data: TensorDataset) -> Pretext:
        """The pretext of a cell."""
        raise NotImplementedError

    def module(self, cell: Cell, weights: Path | None) -> L.LightningModule:
        """The fine-tuning module of a cell, started from what the pretext left."""
        raise NotImplementedError

    def gallery(self) -> dict[str, np.ndarray]:
        """Arrays of galleries.npz."""
        raise NotImplementedError

    def published(self) -> Mapping[tuple[str, str, str], tables.Published]:
        """(target, labels, method) -> what the paper publishes of it."""
        return {}

    def comparability_note(self, target: str) -> str:
        """Why ours and the paper's numbers are not comparable."""
        raise NotImplementedError

    # What it may say otherwise.

    def cells(self) -> list[Cell]:
        """The cells of the study, in the order of their runs."""
        return [
            Cell(method, labels, seed, target.name)
            for seed in self.args.seeds
            for target in self.targets()
            for method in self.methods
            for labels in self.args.labels
        ]

    def domain(self, cell: Cell) -> str:
        """The name of the material that a cell uses."""
        return ""

    def mix(self, cell: Cell) -> str:
        """The name of the mix of images that a cell's pretext learns from."""
        return ""

    def pretext(self, cell: Cell) -> str | None:
        """The folder of a cell's pretext; cells with the same share it. None for a baseline."""
        return None if cell.method == SUPERVISED else f"{slug(cell.method)}-s{cell.seed}"

    def pretexts(self, cell: Cell) -> list[PretextEntry]:
        """The trainings that make up a cell's pretext; one, unless the method has several stages."""
        name = self.pretext(cell)
        display, domain = self.paper.display, self.domain(cell)
        title = display.get(cell.method, cell.method) + (f", {display.get(domain, domain)}" if domain else "")
        return [] if name is None else [PretextEntry(f"pretext/{name}", cell.method, cell.seed, title)]

    def fit_of(self, cell: Cell) -> Fit:
        """Settings of a cell's pretext."""
        return self.preset.pretext

    def pretrain(self, cell: Cell, folder: Path) -> Path:
        """Train a cell's pretext and return the file of its weights."""
        data = self.materials[self.domain(cell)].pretext(cell.seed, self.mix(cell))
        torch.manual_seed(derived_seed(cell.seed, "pretext model"))
        return pretrain(
            self.method(cell, data), data, self.fit_of(cell), folder=folder, seed=cell.seed,
            title=f"pretext {cell.method}",
        )  # fmt: skip


def shown_cases(material: Material, count: int = 4) -> torch.Tensor:
    """Images (count, 1, S, S) for galleries, spread over the set."""
    index = np.linspace(0, len(material.large) - 1, count).round().astype(int)
    return material.large.images[index]
