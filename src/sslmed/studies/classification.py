"""Fine-tuning a classifier on a pretrained encoder, and its evaluation."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .. import metrics
from ..distributed import ddp_weight
from ..methods import Step
from ..models import ResNetEncoder
from .inputs import ImageSet
from .runs import write_csv

METRICS = ("mcc", "balanced_accuracy", "weighted_f1", "accuracy", "roc_auc", "average_precision")


class Classifier(nn.Module):
    """Pooled encoder features and one linear layer: (B, 1, H, W) -> logits (B, classes)."""

    def __init__(self, encoder: ResNetEncoder, classes: int) -> None:
        super().__init__()
        self.encoder = encoder.to(memory_format=torch.channels_last)
        self.linear = nn.Linear(encoder.channels[-1], classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, classes)."""
        maps = self.encoder(images.contiguous(memory_format=torch.channels_last))
        return self.linear(maps[-1].mean((2, 3)))


class Classification(nn.Module):
    """A classifier and cross-entropy.

    Args:
        model: (B, 1, H, W) -> logits (B, classes).
        classes: number of classes.
    """

    def __init__(self, model: nn.Module, *, classes: int) -> None:
        super().__init__()
        self.model, self.classes = model, classes

    def forward(self, images: Tensor, labels: Tensor) -> Step:
        """The loss of a batch."""
        loss = F.cross_entropy(self.model(images).float(), labels)
        weight = ddp_weight(len(images), device=loss.device)
        return Step(loss * weight, {"train_loss": loss.detach()})

    def validate(self, batches: Iterable[Sequence[Tensor]]) -> dict[str, float]:
        """The mean loss over cases, and the balanced accuracy of the whole set."""
        parts = [(self.model(images).float(), labels) for images, labels in batches]
        loss = sum(len(labels) * F.cross_entropy(logits, labels) for logits, labels in parts)
        logits, labels = (torch.cat(column) for column in zip(*parts, strict=True))
        accuracy = metrics.balanced_accuracy(logits.argmax(1), labels, classes=self.classes)
        return {"val_loss": float(loss / len(labels)), "val_balanced_accuracy": float(accuracy)}

    def start(self, batches: Iterable[Any]) -> None:
        """Nothing is to be prepared."""

    def after_step(self) -> None:
        """Nothing follows the network."""

    def parameter_groups(self) -> list[dict[str, Any]]:
        """All parameters, in one group."""
        return [{"params": list(self.parameters())}]


@torch.no_grad()
def chances(model: nn.Module, images: Tensor, *, batch_size: int = 64) -> Tensor:
    """Probabilities (N, classes) float64 of images (N, 1, H, W), on the CPU."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = model.to(device).eval()
    return torch.cat(
        [model(part.to(device)).float().double().softmax(1).cpu() for part in images.split(batch_size)]
    )


def evaluate(model: nn.Module, data: ImageSet, index: list[int], folder: Path) -> dict[str, Any]:
    """Score the test cases; write metrics.csv into `folder`.

    Returns:
        Metrics of the whole set, the areas as means over classes against the rest. A class without a test case, or one
        that has them all, has no area; it is left out, and `without_area` names it.
    """
    if data.labels is None:
        raise ValueError(f"{data.name} has no classes to evaluate against")
    probability = chances(model, data.images[index])
    target = torch.tensor([data.classes.index(data.labels[i]) for i in index])
    pred = probability.argmax(1)
    rows = [
        {
            "id": data.ids[i],
            "group": data.groups[i],
            "label": data.labels[i],
            "predicted": data.classes[int(pred[k])],
            "correct": int(pred[k] == target[k]),
            **{f"p_{name}": f"{float(probability[k, c]):.6g}" for c, name in enumerate(data.classes)},
        }
        for k, i in enumerate(index)
    ]
    write_csv(folder / "metrics.csv", rows, columns=list(rows[0]))
    count = len(data.classes)
    among = [c for c in range(count) if 0 < int((target == c).sum()) < len(target)]
    areas = [(metrics.roc_auc(probability[:, c], (target == c).long()).item(),
              metrics.average_precision(probability[:, c], (target == c).long()).item()) for c in among]  # fmt: skip
    means = [sum(column) / len(column) for column in zip(*areas, strict=True)]
    return {
        "mean": {
            "mcc": metrics.mcc(pred, target, classes=count).item(),
            "balanced_accuracy": metrics.balanced_accuracy(pred, target, classes=count).item(),
            "weighted_f1": metrics.weighted_f1(pred, target, classes=count).item(),
            "accuracy": (pred == target).double().mean().item(),
            **dict(zip(("roc_auc", "average_precision"), means, strict=False)),  # none where no class has one
        },
        "sd": {},
        "cases": len(index),
        "without_area": [name for c, name in enumerate(data.classes) if c not in among],
    }
