"""Fine-tuning a segmentation network, and its evaluation case by case."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.inputs import ImageSet
from pipeline.runs import write_csv, write_npz
from sslmed import metrics
from sslmed.models import ResUNet

METRICS = ("dice", "jaccard", "precision", "recall", "hausdorff")
COLUMNS = ("id", "label", "target_empty", "pred_empty", *METRICS)


def poly_lr(epoch: int, *, start: float, end: float, epochs: int, power: float) -> float:
    """Learning rate of an epoch: (start - end) (1 - epoch / epochs)^power + end (Ellis et al., section IV-B)."""
    return (start - end) * (1 - min(epoch, epochs) / epochs) ** power + end


class Segmentation(L.LightningModule):
    """Two-class cross-entropy, Adam and the polynomial schedule of Ellis et al., section IV-B.

    Args:
        model: (B, 1, H, W) -> logits (B, 2, H, W).
        epochs: length of the schedule.
        lr: learning rate at the start and at the end.
        power: exponent of the schedule.
    """

    def __init__(self, model: ResUNet, *, epochs: int, lr: tuple[float, float], power: float) -> None:
        super().__init__()
        self.model = model.to(memory_format=torch.channels_last)
        self.epochs, self.lr, self.power = epochs, lr, power

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, 2, H, W) in float32."""
        return self.model(images.contiguous(memory_format=torch.channels_last)).float()

    def training_step(self, batch: list[Tensor], index: int) -> Tensor:
        """Lightning's hook."""
        images, masks = batch
        loss = F.cross_entropy(self(images), masks[:, 0].long())
        self.log("train_loss", loss, on_step=False, on_epoch=True, batch_size=len(images))
        self.log("lr", self.optimizers().param_groups[0]["lr"], on_step=False, on_epoch=True, batch_size=1)  # type: ignore[union-attr]
        return loss

    def validation_step(self, batch: list[Tensor], index: int) -> None:
        """Lightning's hook."""
        images, masks = batch
        logits = self(images)
        self.log("val_loss", F.cross_entropy(logits, masks[:, 0].long()), batch_size=len(images))
        dice = metrics.dice(logits.argmax(1, keepdim=True)[:, 0].bool(), masks[:, 0])
        self.log("val_dice", dice.mean(), batch_size=len(images))

    def configure_optimizers(self) -> Any:
        """Lightning's hook."""
        start, end = self.lr
        optimizer = torch.optim.Adam(self.parameters(), lr=start)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer,
            lambda epoch: poly_lr(epoch, start=start, end=end, epochs=self.epochs, power=self.power) / start,
        )
        return {"optimizer": optimizer, "lr_scheduler": schedule}


@torch.no_grad()
def predict(module: Segmentation, images: Tensor, *, batch_size: int = 32) -> Tensor:
    """Masks (N, H, W) bool of images (N, 1, H, W), on the CPU; in float32 whatever the training precision."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    module = module.to(device).eval()
    return torch.cat([module(part.to(device)).argmax(1).bool().cpu() for part in images.split(batch_size)])


def score(pred: Tensor, target: Tensor) -> dict[str, np.ndarray]:
    """Per-case metrics of masks (N, H, W); Hausdorff in pixels, empty masks by the library's policy."""
    values = {
        "dice": metrics.dice(pred, target),
        "jaccard": metrics.jaccard(pred, target),
        "precision": metrics.precision(pred, target),
        "recall": metrics.recall(pred, target),
        "hausdorff": metrics.hausdorff(pred, target),
    }
    return {name: value.double().numpy() for name, value in values.items()}


def evaluate(module: Segmentation, data: ImageSet, index: list[int], folder: Path) -> dict[str, Any]:
    """Score the test cases; write metrics.csv and cases.npz into `folder`.

    Returns:
        Mean and SD over cases, the pooled overlap, and the counts of empty masks.
    """
    if data.masks is None:
        raise ValueError(f"{data.name} has no masks to evaluate against")
    images, target = data.images[index], data.masks[index, 0]
    pred = predict(module, images)
    values = score(pred, target)
    target_empty, pred_empty = ~target.flatten(1).any(1), ~pred.flatten(1).any(1)
    rows = [
        {
            "id": data.ids[i],
            "label": "" if data.labels is None else data.labels[i],
            "target_empty": int(target_empty[k]),
            "pred_empty": int(pred_empty[k]),
            **{name: f"{values[name][k]:.6g}" for name in METRICS},
        }
        for k, i in enumerate(index)
    ]
    write_csv(folder / "metrics.csv", rows, columns=COLUMNS)
    _keep_cases(folder / "cases.npz", images, target, pred, values["dice"], [data.ids[i] for i in index])
    summary = metrics.summarize(values, counts=metrics.pixel_counts(pred, target))
    return {
        "mean": {row.metric: row.mean for row in summary.rows},
        "sd": {row.metric: row.sd or 0.0 for row in summary.rows},  # None for one case
        "pooled": {name: summary[name].pooled for name in ("dice", "jaccard")},
        "cases": len(index),
        "empty": summary.empty,
    }


def _keep_cases(
    path: Path, images: Tensor, target: Tensor, pred: Tensor, dice: np.ndarray, ids: list[str], each: int = 4
) -> None:
    """Best, middle and worst cases by Dice, among those that show a lesion (agreement on nothing shows nothing)."""
    shown = np.flatnonzero(target.flatten(1).any(1).numpy())
    order = shown[np.argsort(-dice[shown], kind="stable")]
    each = min(each, len(order) // 3)
    middle = (len(order) - each) // 2
    chosen = np.concatenate([order[:each], order[middle : middle + each], order[len(order) - each :]])
    write_npz(
        path,
        image=(images[chosen, 0].clamp(0, 1) * 255).round().byte().numpy(),
        target=target[chosen].numpy(),
        pred=pred[chosen].numpy(),
        id=np.array([ids[i] for i in chosen], dtype=str),
        dice=dice[chosen],
        tier=np.array(["best"] * each + ["middle"] * each + ["worst"] * each, dtype=str),
    )
