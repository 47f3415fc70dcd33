"""What all tasks share: the interface, the network in training, and the results of a test."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from .._step import Step
from ..distributed import ddp_weight
from ._report import TaskReport
from .metrics import table_metrics

Batches = Iterable[tuple[Tensor, Tensor]]
KINDS: dict[str, type[Task]] = {}  # by their kind, as run folders record it
BATCH = 32  # images of a forward pass in testing


class Cases(Protocol):
    """A set of labelled images as tasks see it; pixels are read when they are requested."""

    @property
    def name(self) -> str:
        """Name of the set."""

    @property
    def ids(self) -> Sequence[str]:
        """Id of each case."""

    @property
    def groups(self) -> Sequence[str]:
        """Patient or volume of each case."""

    @property
    def labels(self) -> Sequence[str] | None:
        """Class of each case, or None."""

    @property
    def classes(self) -> Sequence[str]:
        """Names of all classes."""

    @property
    def structures(self) -> Sequence[str]:
        """Names of the numbers in label maps, from 1 on."""

    @property
    def outlined(self) -> Sequence[bool]:
        """Whether each case's mask shows anything; empty where there are no masks."""

    @property
    def has_masks(self) -> bool:
        """Whether all cases have masks."""

    @property
    def has_label_maps(self) -> bool:
        """Whether all cases have label maps."""

    def images(self, index: Sequence[int]) -> Tensor:
        """Images (N, 1, S, S) float32."""

    def masks(self, index: Sequence[int]) -> Tensor:
        """Masks (N, 1, S, S) bool."""

    def label_maps(self, index: Sequence[int]) -> Tensor:
        """Numbers of structures (N, 1, S, S) uint8."""

    def pairs(self, index: Sequence[int]) -> Dataset[Any]:
        """Pairs (image, mask)."""

    def mapped(self, index: Sequence[int]) -> Dataset[Any]:
        """Pairs (image, label map)."""

    def classified(self, index: Sequence[int]) -> Dataset[Any]:
        """Pairs (image, number of its class)."""


@dataclass(frozen=True)
class Evaluation:
    """The results of a test.

    Attributes:
        rows: of metrics.csv, one for each case.
        summary: of result.json: `mean` and `sd` of each metric, the number of `cases`, and what else the report shows.
        arrays: of cases.npz: the predictions, where they can be shown as pictures.
    """

    rows: list[dict[str, Any]]
    summary: dict[str, Any]
    arrays: dict[str, np.ndarray] = field(default_factory=dict)


class Learner(nn.Module, ABC):
    """A network that is fine-tuned, with its loss.

    Args:
        model: the network.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model: nn.Module = model.to(memory_format=torch.channels_last)

    @abstractmethod
    def forward(self, images: Tensor, target: Tensor) -> Step:
        """Compute the loss of a batch."""

    @abstractmethod
    def validate(self, batches: Batches) -> dict[str, float]:
        """Compute `val_loss` and other values of the whole validation set, in evaluation mode."""

    def logits(self, images: Tensor) -> Tensor:
        """The network's output for images (B, 1, H, W), in float32."""
        logits: Tensor = self.model(images.contiguous(memory_format=torch.channels_last))
        return logits.float()

    def predict_logits(self, images: Tensor) -> Tensor:
        """The logits that a test uses, of images (B, 1, H, W): those of the network."""
        return self.logits(images)

    def states(self) -> dict[str, dict[str, Tensor]]:
        """What a test needs, by name: the state of the network, "model"."""
        return {"model": self.model.state_dict()}

    def start(self, batches: Iterable[Any]) -> None:
        """Do nothing: tasks need no preparation."""

    def after_step(self) -> None:
        """Do nothing: tasks have no moving averages."""

    def parameter_groups(self) -> list[dict[str, Any]]:
        """All trained parameters, as one group."""
        return [{"params": [p for p in self.parameters() if p.requires_grad]}]


@dataclass(frozen=True, kw_only=True)
class Task(ABC):
    """What networks are fine-tuned to and tested on.

    A subclass owns everything that depends on its kind: the pairs it trains on, its loss, its evaluation, its metrics
    and its part of the report.

    Attributes:
        network: (number of outputs, file of pretrained weights or None) -> the network.
        name: as in the tables.
        title: as in the report.
        metric: the one that methods are compared by; `sslmed.tasks.metrics` lists them.
        domain: name of the images that it uses, where a study has several sets.

    A subclass sets its `kind`, which run folders record, and its `report`; the report then finds it by its kind.
    """

    network: Callable[[int, Path | None], nn.Module]
    name: str
    title: str
    metric: str
    domain: str = ""

    kind: ClassVar[str]
    report: ClassVar[TaskReport]
    network_seed: ClassVar[str] = "segmentation"  # tasks with the same word draw the same random start

    def __init_subclass__(cls) -> None:
        KINDS[cls.kind] = cls

    @abstractmethod
    def check(self, cases: Cases, *, option: str) -> None:
        """Raise ValueError where images lack what the task needs; `option` is the option that named them."""

    def check_test_set(self, cases: Cases, trained: Cases, *, option: str) -> None:
        """Raise ValueError where a network that learned from `trained` cannot be tested on all of `cases`."""
        self.check(cases, option=option)

    @abstractmethod
    def pairs(self, cases: Cases, index: Sequence[int]) -> Dataset[Any]:
        """The pairs (image, target) of some cases."""

    @abstractmethod
    def learner(self, cases: Cases, weights: Path | None) -> Learner:
        """The network with its loss, started from pretrained weights or at random."""

    def calibrate(
        self,
        learner: Learner,
        cases: Cases,
        index: Sequence[int],
        *,
        labelled: Sequence[int] = (),
        weights: Path | None = None,
    ) -> None:
        """Choose by the validation cases what an evaluation relies on; nothing by default.

        Args:
            learner: the trained network.
            cases: the set.
            index: positions of the validation cases.
            labelled: positions of the labelled cases of the training part, also of those without the structure.
            weights: the file of its pretext, or None where it had none.
        """
        return

    @abstractmethod
    def evaluate(self, learner: Learner, cases: Cases, index: Sequence[int]) -> Evaluation:
        """Test the network on some cases."""

    def pictures(
        self, cases: Cases, index: Sequence[int], tests: Sequence[Sequence[Mapping[str, str]]]
    ) -> dict[str, np.ndarray]:
        """Choose test cases for the report, and give what it shows of them beside predictions; none by default.

        Args:
            cases: the set.
            index: positions of the test part.
            tests: the rows of metrics.csv of each test of one split.
        """
        return {}

    def metrics(self, cases: Cases) -> tuple[str, ...]:
        """The metrics of the tables."""
        return table_metrics(self.kind)

    def entry(self, cases: Cases) -> dict[str, Any]:
        """What config.json records of the task."""
        return {
            "name": self.name,
            "title": self.title,
            "kind": self.kind,
            "metric": self.metric,
            "metrics": list(self.metrics(cases)),
        }


def mean_loss(loss: Tensor, count: int) -> Step:
    """A step whose loss is a mean over this process's cases."""
    return Step(loss * ddp_weight(count, device=loss.device), {"train_loss": loss.detach()})


@torch.no_grad()
def in_batches(learner: Learner, cases: Cases, index: Sequence[int]) -> Iterable[Tensor]:
    """The predicted logits on the network's device, batch by batch, in evaluation mode and always in float32."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    learner.to(device).eval()
    for first in range(0, len(index), BATCH):
        yield learner.predict_logits(cases.images(index[first : first + BATCH]).to(device))


def as_text(value: float) -> str:
    """A metric of a case for metrics.csv: nine digits tell every float32 from all others, so that ties stay ties."""
    return f"{value:.9g}"


def means_and_sds(values: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Mean and SD over cases of each metric; no SD of one case."""
    return {
        "mean": {name: float(np.mean(v)) for name, v in values.items()},
        "sd": {name: float(np.std(v, ddof=1)) if len(v) > 1 else None for name, v in values.items()},
    }
