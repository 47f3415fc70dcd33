"""Classification of images: a linear layer on an encoder, fine-tuning, and evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import Dataset

from .. import metrics
from .._step import Step
from ..models import ResNetEncoder
from ._classification_report import CLASSES
from ._report import TaskReport
from .base import Batches, Cases, Evaluation, Learner, Task, as_text, in_batches, mean_loss
from .metrics import metrics_of, with_area

VALIDATED = (metrics.balanced_accuracy, metrics.mcc, metrics.weighted_f1)  # in each epoch


class Classifier(nn.Module):
    """Pooled encoder features and one linear layer: (B, 1, H, W) -> logits (B, classes)."""

    def __init__(self, encoder: ResNetEncoder, classes: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.linear: nn.Linear = nn.Linear(encoder.channels[-1], classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, classes)."""
        logits: Tensor = self.linear(self.encoder(images)[-1].mean((2, 3)))
        return logits


class ClassLearner(Learner):
    """A classifier and cross-entropy.

    Args:
        model: (B, 1, H, W) -> logits (B, classes).
        classes: number of classes.
    """

    def __init__(self, model: nn.Module, *, classes: int) -> None:
        super().__init__(model)
        self.classes = classes

    def forward(self, images: Tensor, target: Tensor) -> Step:
        """Cross-entropy of images (B, 1, H, W) of classes (B,)."""
        return mean_loss(F.cross_entropy(self.logits(images), target), len(images))

    def validate(self, batches: Batches) -> dict[str, float]:
        """Cross-entropy and the metrics of the predicted classes, of all cases."""
        logits, labels = (torch.cat(part) for part in zip(*((self.logits(x), y) for x, y in batches), strict=True))
        pred = logits.argmax(1)
        values = {f"val_{m.__name__}": m(pred, labels, classes=self.classes).item() for m in VALIDATED}
        return {"val_loss": F.cross_entropy(logits.double(), labels).item(), **values}


def cross_entropy(probability: Tensor, target: Tensor) -> float:
    """The mean over cases of -log p of the true class; a probability that was rounded to 0 stays finite."""
    own = probability.double().gather(1, target[:, None])
    return -own.clamp_min(torch.finfo(torch.float64).tiny).log().mean().item()


@dataclass(frozen=True, kw_only=True)
class Classification(Task):
    """Classification of images into the classes of a set."""

    name: str = "classification"
    title: str = "Classification"
    metric: str = "balanced_accuracy"

    kind: ClassVar[str] = "classification"
    report: ClassVar[TaskReport] = CLASSES
    network_seed: ClassVar[str] = "classification"

    def check(self, cases: Cases, *, option: str) -> None:
        """Raise ValueError where there are no two classes."""
        if cases.labels is None or len(set(cases.labels)) < 2:
            raise ValueError(f"{option}, read as {cases.name}, has fewer than two classes; {self.name} needs two")

    def check_test_set(self, cases: Cases, trained: Cases, *, option: str) -> None:
        """Raise ValueError where there are no two classes, or one that the network has not learned."""
        super().check_test_set(cases, trained, option=option)
        if unknown := sorted(set(cases.labels or ()) - set(trained.classes)):
            raise ValueError(
                f"{option}, read as {cases.name}, has classes that {trained.name} lacks: {', '.join(unknown)}; "
                f"{trained.name} has {', '.join(trained.classes)}"
            )

    def pairs(self, cases: Cases, index: Sequence[int]) -> Dataset[Any]:
        """Pairs (image, number of its class)."""
        return cases.classified(index)

    def learner(self, cases: Cases, weights: Path | None) -> ClassLearner:
        """The network with its loss."""
        classes = len(cases.classes)
        return ClassLearner(self.network(classes, weights), classes=classes)

    def evaluate(self, learner: Learner, cases: Cases, index: Sequence[int]) -> Evaluation:
        """Test the network.

        Returns:
            Metrics of the whole set, areas under curves as means over classes against the rest. A class without test
            cases, or with all of them, has no area; it is left out and named in `without_area`.
        """
        assert cases.labels is not None  # `check` made sure of it
        names = list(cases.classes)
        probability = torch.cat([logits.cpu().double().softmax(1) for logits in in_batches(learner, cases, index)])
        target = torch.tensor([names.index(cases.labels[i]) for i in index])
        pred = probability.argmax(1)
        each = {m.key: m(probability, target) for m in metrics_of(self.kind, "cases")}
        rows = [
            {
                "id": cases.ids[i],
                "group": cases.groups[i],
                "label": cases.labels[i],
                "predicted": names[int(pred[k])],
                **{key: as_text(float(values[k])) for key, values in each.items()},
                **{f"p_{name}": f"{float(probability[k, c]):.6g}" for c, name in enumerate(names)},
            }
            for k, i in enumerate(index)
        ]
        means = {m.key: m(probability, target).item() for m in metrics_of(self.kind, "set")}
        means["test_loss"] = cross_entropy(probability, target)
        with_areas = with_area(target, len(names))
        return Evaluation(
            rows,
            {
                "mean": {key: value for key, value in means.items() if value == value},  # some may be undefined
                "sd": {},
                "cases": len(index),
                "without_area": [name for c, name in enumerate(names) if c not in with_areas],
            },
        )
