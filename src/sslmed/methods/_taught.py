"""What the mean teacher and self-training share: a student that learns from outlines and from a teacher's outlines."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from .. import _checks
from .._step import Step
from ..augment.joint import JointView
from ..distributed import ddp_weight
from ._base import Batches, Method, as_channels_last, channels_last


class Taught(Method):
    """A network, the student, and its copy in evaluation mode, the teacher, with the labelled images of both.

    Args:
        network: (B, 1, H, W) -> logits (B, 1, H, W).
        images: labelled images (N, 1, H, W) in [0, 1].
        masks: their outlines (N, 1, H, W), bool.
        augment: strong changes of images and masks.
        labelled: labelled images of a step, drawn with replacement.
        smallest: a scan counts if the teacher's outline covers at least this share of it, in [0, 1].
        loss: (logits (B, 1, H, W), masks (B, H, W) int64) -> a mean over the batch.

    Raises:
        ValueError: other shapes of images and masks, or a setting out of range.
    """

    def __init__(
        self,
        network: nn.Module,
        images: Tensor,
        masks: Tensor,
        *,
        augment: JointView,
        labelled: int,
        smallest: float,
        loss: Callable[[Tensor, Tensor], Tensor],
    ) -> None:
        super().__init__()
        _checks.shaped("images", images, "(N, 1, H, W)", ndim=4)
        if not len(images) or images.shape[1] != 1 or masks.shape != images.shape:
            raise ValueError(
                "images and masks must both have shape (N, 1, H, W) with N above 0, got "
                f"{tuple(images.shape)} and {tuple(masks.shape)}"
            )
        self.student: nn.Module = as_channels_last(network)
        self.teacher: nn.Module = copy.deepcopy(network).requires_grad_(False).eval()
        self.augment: JointView = augment
        self.loss: Callable[[Tensor, Tensor], Tensor] = loss
        self.labelled: int = _checks.integer("labelled", labelled, low=1)
        self.smallest: float = _checks.number("smallest", smallest, low=0, high=1)
        self.images: Tensor
        self.masks: Tensor
        self.register_buffer("images", images, persistent=False)
        self.register_buffer("masks", masks.bool(), persistent=False)

    def train(self, mode: bool = True) -> Taught:
        """Keep the teacher in evaluation mode."""
        super().train(mode)
        self.teacher.eval()
        return self

    def draw_labelled(self) -> tuple[Tensor, Tensor]:
        """Some of the labelled images and their outlines, changed alike."""
        chosen = torch.randint(len(self.images), (self.labelled,), device="cpu").to(self.images.device)
        with torch.autocast(self.images.device.type, enabled=False):  # half precision would part images and masks
            own, outlines = self.augment(self.images[chosen], self.masks[chosen])
        return own, outlines

    @torch.no_grad()
    def probability(self, images: Tensor) -> Tensor:
        """The teacher's probability of a lesion at each pixel, (B, 1, H, W) in float32."""
        probability: Tensor = self.teacher(channels_last(images)).float().sigmoid()
        return probability

    def mean_confidence(self, probability: Tensor, masks: Tensor) -> Tensor:
        """The mean (B,) of |2 p - 1| over each outline; -1 where the outline is empty or too small."""
        area = masks.sum((1, 2, 3))
        sure = torch.where(masks, (2 * probability - 1).abs(), 0.0).sum((1, 2, 3)) / area.clamp(min=1)
        return torch.where((area >= self.smallest * masks[0].numel()) & (area > 0), sure, -1.0)

    def learn(
        self,
        labelled: tuple[Tensor, Tensor],
        scans: Tensor,
        targets: Tensor,
        counted: Tensor,
        weight: Tensor,
    ) -> Step:
        """The loss of labelled images and of scans with the teacher's outlines, of which some count."""
        own, outlines = labelled
        logits = self.student(channels_last(torch.cat([own, scans.to(own.dtype)]))).float()
        supervised = self.loss(logits[: len(own)], outlines[:, 0].long())
        unlabelled = logits.new_zeros(())
        if counted.any():
            share = counted.float().mean()
            unlabelled = self.loss(logits[len(own) :][counted], targets[counted, 0].long()) * share
        loss = supervised + weight * unlabelled
        terms = {
            "loss": loss.detach(),
            "labelled": supervised.detach(),
            "unlabelled": unlabelled.detach(),
            "counted": counted.float().mean(),
        }
        return Step(loss * ddp_weight(len(scans), device=loss.device), terms)

    def validate(self, batches: Batches) -> dict[str, float]:
        """The mean loss of the network to keep on labelled pairs (image, mask), `val_loss`."""
        losses, counts = [], []
        for images, masks in batches:
            losses.append(self.loss(self.trained(channels_last(images)).float(), masks[:, 0].long()).double().cpu())
            counts.append(len(images))
        weights = torch.tensor(counts, dtype=torch.float64, device="cpu") / sum(counts)
        return {"val_loss": (torch.stack(losses) * weights).sum().item()}
