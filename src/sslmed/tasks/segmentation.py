"""Segmentation of one structure: fine-tuning, and evaluation image by image."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from .. import metrics
from .._step import Step
from ..losses._overlap import dice_bce as dice_bce
from ._report import TaskReport
from ._segmentation_report import IMAGES
from .base import BATCH, Batches, Cases, Evaluation, Learner, Task, as_text, in_batches, mean_loss, means_and_sds
from .decision import Presence, confidence, encoder_features, enough, least_confidence
from .metrics import metrics_of
from .shown_cases import choose, sampled

Loss = Callable[[Tensor, Tensor], Tensor]
Augment = Callable[[Tensor, Tensor], Sequence[Tensor]]

DECISION = ("decided_dice", "false_alarms", "decided_false_alarms")
# Of the validation part, in each epoch.
VALIDATED = (metrics.dice, metrics.jaccard, metrics.precision, metrics.recall, metrics.pixel_accuracy)


class Segmenter(Learner):
    """A segmentation network and its loss.

    Args:
        model: (B, 1, H, W) -> logits (B, K, H, W): K = 1 for one structure, else K classes with the background.
        loss: (logits, structures (B, H, W) int64) -> a mean over the cases, or a loss of all processes' cases.
        augment: (images, masks (B, 1, H, W) float32) -> both, transformed alike, in training.
        rates: name of a part of the network, as `out` -> how many times as fast its parameters learn.
        mirrored: whether predicted logits are the mean of those of an image and of its mirror image.

    Attributes:
        presence: the classifier of images with and without the structure, or None.
        least_confidence: images of lower `confidence` are classified as showing none; see `Segmentation.calibrate`.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        loss: Loss,
        augment: Augment | None = None,
        rates: Mapping[str, float] | None = None,
        mirrored: bool = False,
    ) -> None:
        super().__init__(model)
        self.loss: Loss = loss
        self.mirrored: bool = mirrored
        self.augment: Augment | None = augment
        self.rates: dict[str, float] = dict(rates or {})
        self.presence: Presence | None = None
        self.least_confidence: float = 0.0
        parts = {name for name, _ in model.named_modules()}
        if unknown := [name for name in self.rates if name not in parts]:
            raise ValueError(f"rates must name parts of the network, got {unknown[0]!r}")

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The trained parameters, those of the parts in `rates` apart."""
        groups: dict[float, list[nn.Parameter]] = {1.0: []}
        for name, p in self.model.named_parameters():
            part = max((part for part in self.rates if name.startswith(f"{part}.")), key=len, default=None)
            if p.requires_grad:
                groups.setdefault(1.0 if part is None else self.rates[part], []).append(p)
        return [{"params": some, "lr_factor": factor} for factor, some in groups.items()]

    def predict_logits(self, images: Tensor) -> Tensor:
        """The logits that a test uses, (B, K, H, W)."""
        return with_mirror_images(self.logits, images) if self.mirrored else self.logits(images)

    def states(self) -> dict[str, dict[str, Tensor]]:
        """The network's, and that of `presence` if there is one."""
        return super().states() | ({} if self.presence is None else {"presence": self.presence.state_dict()})

    def forward(self, images: Tensor, target: Tensor) -> Step:
        """Compute the loss of images (B, 1, H, W) and masks or label maps (B, 1, H, W)."""
        if self.augment is not None:
            # In half precision, coordinates would be off by parts of a pixel, and images would not match their masks.
            with torch.autocast(images.device.type, enabled=False):
                images, target = self.augment(images, target.float())
        return mean_loss(self.loss(self.logits(images), target[:, 0].long()), len(images))

    def validate(self, batches: Batches) -> dict[str, float]:
        """The loss, and the mean over cases of each metric of all structures together."""
        found, counts = dict[str, list[Tensor]](), []
        for images, masks in batches:
            logits, target = self.logits(images), masks[:, 0].long()
            found.setdefault("val_loss", []).append(self.loss(logits, target))
            for m in VALIDATED:
                value = m(classes_of(logits) > 0, target > 0).double().mean()
                found.setdefault(f"val_{m.__name__}", []).append(value)
            counts.append(len(images))
        weights = torch.tensor(counts, dtype=torch.float64) / sum(counts)
        return {name: (torch.stack(v).double().cpu() * weights).sum().item() for name, v in found.items()}


def with_mirror_images(network: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """The mean of a network's output for images (B, 1, H, W) and of that for their mirror images, left to right.

    The output for the mirror images is turned back first. A network that was trained with such flips errs differently
    on the two, and the mean errs less.
    """
    return (network(images) + network(images.flip(-1)).flip(-1)) / 2


def classes_of(logits: Tensor) -> Tensor:
    """The structure (B, H, W) int64 of each pixel of logits (B, K, H, W)."""
    return (logits[:, 0] > 0).long() if logits.shape[1] == 1 else logits.argmax(1)


@dataclass(frozen=True, kw_only=True)
class Segmentation(Task):
    """Segmentation of one structure.

    Attributes:
        loss: (logits (B, K, H, W), masks (B, H, W) int64) -> a scalar.
        augment: (images, masks (B, 1, H, W) float32) -> both, transformed alike, in training.
        rates: of the parts of the network, as in `Segmenter`.
        decides: whether the network learns from images with a lesion only, and then decides by its `confidence` which
            images show none. The overlap is that of the images with a lesion; in the others, false alarms are counted.
        mirrored: as in `Segmenter`; the validation loss in training is that of the images alone.
    """

    loss: Loss
    augment: Augment | None = None
    rates: Mapping[str, float] = field(default_factory=dict)
    decides: bool = False
    mirrored: bool = False
    name: str = "segmentation"
    title: str = "Segmentation"
    metric: str = "dice"

    kind: ClassVar[str] = "segmentation"
    report: ClassVar[TaskReport] = IMAGES

    def check(self, cases: Cases, *, option: str) -> None:
        """Raise ValueError where images have no masks."""
        if not cases.has_masks:
            more = "; classification needs none" if cases.labels else ""
            raise ValueError(f"{option}, read as {cases.name}, has no masks, which {self.name} needs{more}")

    def check_test_set(self, cases: Cases, trained: Cases, *, option: str) -> None:
        """Raise ValueError where images have no masks, or no mask shows anything."""
        super().check_test_set(cases, trained, option=option)
        if not any(cases.outlined):
            raise ValueError(f"{option}, read as {cases.name}, shows no lesion in any of its {len(cases.ids)} masks")

    def pairs(self, cases: Cases, index: Sequence[int]) -> Dataset[Any]:
        """Pairs (image, mask); only those with a lesion, if the network decides which images show none."""
        chosen = [i for i in index if cases.outlined[i]] if self.decides else index
        if index and not chosen:
            raise ValueError(f"none of the {len(index)} images shows a lesion")
        return cases.pairs(chosen)

    def learner(self, cases: Cases, weights: Path | None) -> Segmenter:
        """The network with its loss."""
        network = self.network(1, weights)
        return Segmenter(network, loss=self.loss, augment=self.augment, rates=self.rates, mirrored=self.mirrored)

    def metrics(self, cases: Cases) -> tuple[str, ...]:
        """The metrics of the tables; those of the decision after Dice."""
        first, *others = super().metrics(cases)
        return (first, *(DECISION if self.decides else ()), *others)

    def calibrate(
        self,
        learner: Learner,
        cases: Cases,
        index: Sequence[int],
        *,
        labelled: Sequence[int] = (),
        weights: Path | None = None,
    ) -> None:
        """Choose the least confidence of a lesion: that of the highest mean Dice over all validation cases.

        An image without a lesion scores 1 if nothing is outlined in it, else 0. Where the network started from a
        pretext that trained an encoder, and there are labelled cases enough, its `presence` is found first.
        """
        if not self.decides:
            return
        assert isinstance(learner, Segmenter)
        learner.presence = None
        logits = torch.cat([part.cpu() for part in in_batches(learner, cases, index)])
        target = cases.masks(index)[:, 0]
        scores = metrics.dice(classes_of(logits) > 0, target).double()
        lesion, sure = target.flatten(1).any(1), confidence(logits)
        shown = torch.tensor([bool(cases.outlined[i]) for i in labelled], dtype=torch.bool)
        if weights is not None and enough(shown) and lesion.any() and not lesion.all():
            with torch.random.fork_rng(devices=[]):  # of the part that no pretext trained
                encoder = getattr(self.network(1, weights), "encoder", None)
            if encoder is not None:
                encoder = encoder.to(next(learner.parameters()).device).eval()
                own, val = (_encoder_features(encoder, cases, part) for part in (labelled, index))
                presence = Presence(encoder.cpu(), features=val.shape[1])
                if presence.learn(own, shown, val, sure):
                    learner.presence, sure = presence, presence.joined(val, sure)
        learner.least_confidence = least_confidence(sure, scores, lesion)

    def evaluate(self, learner: Learner, cases: Cases, index: Sequence[int]) -> Evaluation:
        """Test the network image by image.

        Returns:
            Mean and SD over images of each metric, those of the whole set, and the counts of empty masks.
        """
        assert isinstance(learner, Segmenter)  # `learner` made it
        others: list[int] = []
        if self.decides:
            others = [i for i in index if not cases.outlined[i]]
            index = [i for i in index if cases.outlined[i]]
        pred, sure, loss = self._tested(learner, cases, index)
        target = cases.masks(index)[:, 0]
        each = {m.key: m(pred, target).double().numpy() for m in metrics_of(self.kind, "cases")}
        if self.decides:
            each["decided_dice"] = np.where(sure.numpy(), each["dice"], 0.0)
        target_empty, pred_empty = (~masks.flatten(1).any(1) for masks in (target, pred))
        rows = [
            {
                "id": cases.ids[i],
                "group": cases.groups[i],
                "label": "" if cases.labels is None else cases.labels[i],
                "target_empty": int(target_empty[k]),
                "pred_empty": int(pred_empty[k]),
                **{name: as_text(values[k]) for name, values in each.items()},
            }
            for k, i in enumerate(index)
        ]
        summary = means_and_sds(each)
        summary["mean"] |= {m.key: m(pred, target).item() for m in metrics_of(self.kind, "set")}
        summary["mean"]["test_loss"] = loss
        if self.decides:
            summary["mean"] |= self._false_alarms(learner, cases, others)
        summary |= {"cases": len(index), "empty": empty_counts(target_empty, pred_empty)}
        return Evaluation(rows, summary, predictions([cases.ids[i] for i in index], pred))

    def _tested(self, learner: Segmenter, cases: Cases, index: Sequence[int]) -> tuple[Tensor, Tensor, float]:
        """The structure (N, H, W) in some cases, whether they are classified as showing it (N,), and the mean loss."""
        target, found, sure, losses = cases.masks(index)[:, 0], [], [], []
        for k, logits in enumerate(in_batches(learner, cases, index)):
            own = target[k * BATCH : (k + 1) * BATCH].to(logits.device)
            losses.append(learner.loss(logits, own.long()).item() * len(own))
            found.append(classes_of(logits).cpu() > 0)
            if self.decides:
                own_confidence = confidence(logits)
                if learner.presence is not None:
                    images = cases.images(index[k * BATCH : (k + 1) * BATCH]).to(logits.device)
                    own_confidence = learner.presence(images, own_confidence)
                sure.append(own_confidence.cpu() >= learner.least_confidence)
        shown = torch.cat(sure) if self.decides else torch.ones(len(index), dtype=torch.bool)
        return torch.cat(found), shown, sum(losses) / len(index)

    def _false_alarms(self, learner: Segmenter, cases: Cases, others: Sequence[int]) -> dict[str, float]:
        """The least confidence, and the shares of cases without a lesion in which something is outlined, if any."""
        found = {"least_confidence": learner.least_confidence, "presence": float(learner.presence is not None)}
        if others:
            pred, sure, _ = self._tested(learner, cases, others)
            alarms = pred.flatten(1).any(1)
            found["false_alarms"] = alarms.double().mean().item()
            found["decided_false_alarms"] = (alarms & sure).double().mean().item()
        return found

    def pictures(
        self, cases: Cases, index: Sequence[int], tests: Sequence[Sequence[Mapping[str, str]]]
    ) -> dict[str, np.ndarray]:
        """Images and references of the test cases that `choose` draws, with its words on each."""
        place = self.slices(cases, index)
        shown = choose([[row for row in rows if row["id"] in place] for rows in tests])
        if not shown:
            return {}
        slices = [place[case.id] for case in shown]
        return {
            "id": np.array([case.id for case in shown], dtype=str),
            "tier": np.array([case.tier for case in shown], dtype=str),
            "label": np.array([case.label for case in shown], dtype=str),
            "score": np.array([case.score for case in shown]),
            "image": (cases.images(slices)[:, 0].clamp(0, 1) * 255).round().byte().numpy(),
            "target": self.references(cases, slices).byte().numpy(),
            "structures": np.array(self.structures(cases), dtype=str),
        }

    def structures(self, cases: Cases) -> Sequence[str]:
        """The names of the structures in `references` from 1 on; none of a single one."""
        return ()

    def slices(self, cases: Cases, index: Sequence[int]) -> dict[str, int]:
        """The position of the image that shows each test case."""
        return {cases.ids[i]: i for i in index}

    def references(self, cases: Cases, index: Sequence[int]) -> Tensor:
        """The numbers of the structures (N, H, W) in some images."""
        return cases.masks(index)[:, 0]


def predict(learner: Learner, cases: Cases, index: Sequence[int]) -> Tensor:
    """Structures (N, H, W) int64 of some images, on the CPU."""
    return torch.cat([classes_of(logits).cpu() for logits in in_batches(learner, cases, index)])


def _encoder_features(encoder: nn.Module, cases: Cases, index: Sequence[int]) -> Tensor:
    """The features (N, F) of some cases, on the CPU, computed where the encoder is."""
    device = next(encoder.parameters()).device
    parts = [index[k : k + BATCH] for k in range(0, len(index), BATCH)]
    return torch.cat([encoder_features(encoder, cases.images(part).to(device)).cpu() for part in parts])


def empty_counts(target: Tensor, pred: Tensor) -> dict[str, int]:
    """How many masks are empty, given whether each one is."""
    return {"target": int(target.sum()), "pred": int(pred.sum()), "both": int((target & pred).sum())}


def predictions(ids: Sequence[str], pred: Tensor) -> dict[str, np.ndarray]:
    """The content of cases.npz: the predicted structures (N, H, W) of each test case, or of a sample of many."""
    kept = sampled(ids)
    return {"id": np.array([ids[k] for k in kept], dtype=str), "pred": pred[kept].byte().numpy()}
