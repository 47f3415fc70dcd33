"""Fine-tuning a segmentation network, and its evaluation case by case."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .. import metrics
from ..distributed import ddp_weight, gather
from ..tasks.metrics import metrics_of
from .inputs import ImageSet
from .runs import write_csv, write_npz
from .tuning import Tuning

KIND = "segmentation"

Loss = Callable[[Tensor, Tensor], Tensor]


class Segmentation(L.LightningModule):
    """A segmentation network, its loss and its schedule.

    Args:
        model: (B, 1, H, W) -> logits (B, K, H, W): K = 1 for one structure, else K classes with the background.
        loss: (logits, structures (B, H, W) int64) -> a mean over the cases, or a loss of all processes' cases.
        tuning: optimiser and schedule.
        epochs: length of the schedule.
        augment: (images, masks (B, 1, H, W) float32) -> both, altered alike, in training.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        *,
        loss: Loss,
        tuning: Tuning,
        epochs: int,
        augment: Callable[[Tensor, Tensor], Sequence[Tensor]] | None = None,
    ) -> None:
        super().__init__()
        self.model = model.to(memory_format=torch.channels_last)
        self.loss, self.tuning, self.epochs, self.augment = loss, tuning, epochs, augment

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, K, H, W) in float32."""
        return self.model(images.contiguous(memory_format=torch.channels_last)).float()

    def training_step(self, batch: list[Tensor], index: int) -> Tensor:
        """Lightning's hook."""
        images, masks = batch
        if self.augment is not None:
            # In half precision, places would be off by parts of a pixel, and images off their masks.
            with torch.autocast(images.device.type, enabled=False):
                images, masks = self.augment(images, masks.float())
        loss = self.loss(self(images), masks[:, 0].long())
        self.log("train_loss", loss, on_step=False, on_epoch=True, batch_size=len(images), sync_dist=True)
        self.log("lr", self.optimizers().param_groups[0]["lr"], on_step=False, on_epoch=True, batch_size=1)
        return loss * ddp_weight(len(images), device=loss.device)

    def validation_step(self, batch: list[Tensor], index: int) -> None:
        """Lightning's hook."""
        images, masks = batch
        logits, target = self(images), masks[:, 0].long()
        self.log("val_loss", self.loss(logits, target), batch_size=len(images), sync_dist=True)
        dice = metrics.dice(classes_of(logits) > 0, target > 0)
        self.log("val_dice", dice.mean(), batch_size=len(images), sync_dist=True)

    def configure_optimizers(self) -> Any:
        """Lightning's hook."""
        return self.tuning.build(self.parameters(), epochs=self.epochs)


def classes_of(logits: Tensor) -> Tensor:
    """The structure (B, H, W) int64 of each pixel of logits (B, K, H, W)."""
    return (logits[:, 0] > 0).long() if logits.shape[1] == 1 else logits.argmax(1)


def dice_bce(logits: Tensor, target: Tensor) -> Tensor:
    """Binary cross-entropy plus 1 - soft Dice of one structure: logits (B, 1, H, W), target (B, H, W) of 0 and 1.

    Soft Dice is that of each image, smoothed by one pixel so that an empty mask, well found, costs nothing.
    """
    wanted = target[:, None].to(logits.dtype)
    chance = logits.sigmoid()
    overlap = (chance * wanted).sum((1, 2, 3))
    total = chance.sum((1, 2, 3)) + wanted.sum((1, 2, 3))
    return F.binary_cross_entropy_with_logits(logits, wanted) + (1 - (2 * overlap + 1) / (total + 1)).mean()


def soft_dice(logits: Tensor, target: Tensor) -> Tensor:
    """1 - soft Dice over K classes, background included: logits (B, K, H, W), target (B, H, W) of 0..K - 1.

    The multi-label Dice loss of Umapathy et al. Each class's Dice is that of the whole batch, of all processes: of
    single slices, most of which lack a structure, it would be 0 / 0 or all but 0 whatever the network says.
    """
    wanted = F.one_hot(target, logits.shape[1]).movedim(-1, 1).to(logits.dtype)
    chance = logits.softmax(1)
    sums = torch.stack([(chance * wanted).sum((2, 3)), (chance + wanted).sum((2, 3))], dim=1)  # (B, 2, K)
    # In validation every process has all cases: gathered, they would count as often as there are processes.
    overlap, total = (gather(sums) if sums.requires_grad else sums).sum(0)
    return 1 - ((2 * overlap + 1) / (total + 1)).mean()


@torch.no_grad()
def predict(module: Segmentation, images: Tensor, *, batch_size: int = 32) -> Tensor:
    """Structures (N, H, W) int64 of images (N, 1, H, W), on the CPU; in float32 whatever the training precision."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    module = module.to(device).eval()
    return torch.cat([classes_of(module(part.to(device))).cpu() for part in images.split(batch_size)])


def score(pred: Tensor, target: Tensor) -> dict[str, np.ndarray]:
    """Metrics of single cases of masks (N, H, W), by the library's policy for empty masks."""
    return {m.key: m(pred, target).double().numpy() for m in metrics_of(KIND, "cases")}


def evaluate(module: Segmentation, data: ImageSet, index: list[int], folder: Path) -> dict[str, Any]:
    """Score the test cases; write metrics.csv and cases.npz into `folder`.

    Returns:
        Mean and SD over cases, the metrics of the whole set, and the counts of empty masks.
    """
    if data.masks is None:
        raise ValueError(f"{data.name} has no masks to evaluate against")
    images, target = data.images[index], data.masks[index, 0]
    pred = predict(module, images) > 0
    values = score(pred, target)
    target_empty, pred_empty = ~target.flatten(1).any(1), ~pred.flatten(1).any(1)
    rows = [
        {
            "id": data.ids[i],
            "group": data.groups[i],
            "label": "" if data.labels is None else data.labels[i],
            "target_empty": int(target_empty[k]),
            "pred_empty": int(pred_empty[k]),
            **{name: f"{column[k]:.6g}" for name, column in values.items()},
        }
        for k, i in enumerate(index)
    ]
    write_csv(folder / "metrics.csv", rows, columns=list(rows[0]))
    keep_cases(folder / "cases.npz", images, target, pred, values["dice"], [data.ids[i] for i in index])
    counts = metrics.pixel_counts(pred, target)
    summary = metrics.summarize(values, counts=counts)
    return {
        "mean": {row.metric: row.mean for row in summary.rows}
        | {m.key: m(pred, target).item() for m in metrics_of(KIND, "set")},
        "sd": {row.metric: row.sd for row in summary.rows},  # None for one case
        "cases": len(index),
        "empty": summary.empty,
    }


def keep_cases(
    path: Path, images: Tensor, target: Tensor, pred: Tensor, dice: np.ndarray, ids: list[str], each: int = 4
) -> None:
    """Best, middle and worst cases by Dice, among those that show a lesion (agreement on nothing shows nothing)."""
    shown = np.flatnonzero(target.flatten(1).any(1).numpy())
    order = shown[np.argsort(-dice[shown], kind="stable")]
    each = min(each, len(order) // 3)
    middle = (len(order) - each) // 2
    chosen = np.concatenate([order[:each], order[middle : middle + each], order[len(order) - each :]])
    tiers = ["best"] * each + ["middle"] * each + ["worst"] * each
    if not each:  # of one or two cases there is no middle
        chosen, tiers = order, ["best", "worst"][: len(order)]
    write_npz(
        path,
        image=(images[chosen, 0].clamp(0, 1) * 255).round().byte().numpy(),
        target=target[chosen].numpy(),
        pred=pred[chosen].numpy(),
        id=np.array([ids[i] for i in chosen], dtype=str),
        dice=dice[chosen],
        tier=np.array(tiers, dtype=str),
    )
