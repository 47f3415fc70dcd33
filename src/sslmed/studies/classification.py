"""Fine-tuning a classifier on a pretrained encoder, and its evaluation."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import lightning as L
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .. import metrics
from ..distributed import ddp_weight
from ..models import ResNetEncoder
from ..tasks.metrics import metrics_of, with_area
from .inputs import ImageSet
from .runs import write_csv
from .tuning import Tuning

KIND = "classification"


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


class Classification(L.LightningModule):
    """A classifier, cross-entropy and its schedule.

    Args:
        model: (B, 1, H, W) -> logits (B, classes).
        classes: number of classes.
        tuning: optimiser and schedule.
        epochs: length of the schedule.
    """

    def __init__(self, model: nn.Module, *, classes: int, tuning: Tuning, epochs: int) -> None:
        super().__init__()
        self.model, self.classes, self.tuning, self.epochs = model, classes, tuning, epochs
        self.held: list[tuple[Tensor, Tensor]] = []

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, classes) in float32."""
        return self.model(images).float()

    def training_step(self, batch: list[Tensor], index: int) -> Tensor:
        """Lightning's hook."""
        images, labels = batch
        loss = F.cross_entropy(self(images), labels)
        self.log("train_loss", loss, on_step=False, on_epoch=True, batch_size=len(images), sync_dist=True)
        self.log("lr", self.optimizers().param_groups[0]["lr"], on_step=False, on_epoch=True, batch_size=1)
        return loss * ddp_weight(len(images), device=loss.device)

    def validation_step(self, batch: list[Tensor], index: int) -> None:
        """Lightning's hook."""
        images, labels = batch
        logits = self(images)
        self.log("val_loss", F.cross_entropy(logits, labels), batch_size=len(images), sync_dist=True)
        self.held.append((logits.argmax(1), labels))

    def on_validation_epoch_end(self) -> None:
        """Lightning's hook: a metric of the whole set, not a mean over batches."""
        pred, labels = (torch.cat(parts) for parts in zip(*self.held, strict=True))
        self.held.clear()
        value = metrics.balanced_accuracy(pred, labels, classes=self.classes)
        self.log("val_balanced_accuracy", value.float(), sync_dist=True)

    def configure_optimizers(self) -> Any:
        """Lightning's hook."""
        return self.tuning.build(self.parameters(), epochs=self.epochs)


@torch.no_grad()
def chances(module: Classification, images: Tensor, *, batch_size: int = 64) -> Tensor:
    """Probabilities (N, classes) float64 of images (N, 1, H, W), on the CPU."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    module = module.to(device).eval()
    return torch.cat([module(part.to(device)).double().softmax(1).cpu() for part in images.split(batch_size)])


def evaluate(module: Classification, data: ImageSet, index: list[int], folder: Path) -> dict[str, Any]:
    """Score the test cases; write metrics.csv into `folder`.

    Returns:
        Metrics of the whole set, the areas as means over classes against the rest. A class without a test case, or one
        that has them all, has no area; it is left out, and `without_area` names it.
    """
    if data.labels is None:
        raise ValueError(f"{data.name} has no classes to evaluate against")
    probability = chances(module, data.images[index])
    target = torch.tensor([data.classes.index(data.labels[i]) for i in index])
    pred = probability.argmax(1)
    of_cases = {m.key: m(probability, target) for m in metrics_of(KIND, "cases")}
    of_set = {m.key: m(probability, target).item() for m in metrics_of(KIND, "set")}
    rows = [
        {
            "id": data.ids[i],
            "group": data.groups[i],
            "label": data.labels[i],
            "predicted": data.classes[int(pred[k])],
            **{name: f"{float(column[k]):.6g}" for name, column in of_cases.items()},
            **{f"p_{name}": f"{float(probability[k, c]):.6g}" for c, name in enumerate(data.classes)},
        }
        for k, i in enumerate(index)
    ]
    write_csv(folder / "metrics.csv", rows, columns=list(rows[0]))
    among = with_area(target, len(data.classes))
    return {
        "mean": {name: value for name, value in of_set.items() if not math.isnan(value)},
        "sd": {},
        "cases": len(index),
        "without_area": [name for c, name in enumerate(data.classes) if c not in among],
    }
