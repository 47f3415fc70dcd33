"""Self-training: a segmentation network learns on from a few outlines and from its own, confident ones.

Lee, "Pseudo-Label", ICML workshop 2013, for segmentation; the teacher does not change, as in Xie et al., "Self-training
with noisy student improves ImageNet classification", CVPR 2020.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from .. import _checks
from .._step import Step
from ..augment.joint import JointView
from ..losses._overlap import dice_bce
from ._base import Batches
from ._taught import Taught


class SelfTraining(Taught):
    """Train a network on labelled images and on the outlines that it drew before on unlabelled ones.

    Start from a network that was trained on the labelled images; a fixed copy of it is the teacher. The teacher
    outlines each scan and its mirror image, and averages both. `start` passes over all scans once and finds how
    confident the most confident share of them is; only these scans are learned from, strongly changed. A scan without
    an outline is left out, so the network never learns from it that there is nothing.

    Args:
        network: (B, 1, H, W) -> logits (B, 1, H, W); it becomes the student, and its copy the teacher.
        images: labelled images (N, 1, H, W) in [0, 1].
        masks: their outlines (N, 1, H, W), bool.
        augment: strong changes of images and masks, as `views.segmentation(size)`.
        labelled: labelled images of a step, drawn with replacement.
        kept: share of the scans that are learned from, above 0 and at most 1: the most confident ones, by the mean of
            |2 p - 1| over the teacher's outline.
        smallest: a scan counts if the outline covers at least this share of it, in [0, 1].
        loss: (logits (B, 1, H, W), masks (B, H, W) int64) -> a mean over the batch.

    Raises:
        ValueError: other shapes of images and masks, or a setting out of range.

    Example:
        >>> import torch
        >>> from sslmed.augment import views
        >>> from sslmed.models import UNet
        >>> images, masks = torch.rand(4, 1, 32, 32), torch.rand(4, 1, 32, 32) > 0.5
        >>> method = SelfTraining(UNet(width=4), images, masks, augment=views.segmentation(32), labelled=2)
        >>> scans = torch.rand(3, 1, 32, 32)
        >>> method.start([(scans, torch.arange(3))])
        >>> step = method(scans)
        >>> sorted(step.terms)
        ['counted', 'labelled', 'loss', 'unlabelled']
    """

    def __init__(
        self,
        network: nn.Module,
        images: Tensor,
        masks: Tensor,
        *,
        augment: JointView,
        labelled: int = 8,
        kept: float = 0.6,
        smallest: float = 0.003,
        loss: Callable[[Tensor, Tensor], Tensor] = dice_bce,
    ) -> None:
        super().__init__(network, images, masks, augment=augment, labelled=labelled, smallest=smallest, loss=loss)
        self.kept: float = _checks.number("kept", kept, low=0, high=1, low_open=True)
        self.least: Tensor
        self.register_buffer("least", torch.zeros((), dtype=torch.float32))

    def start(self, batches: Batches) -> None:
        """Find the confidence that the most confident share of all scans reaches."""
        found = torch.cat([self._outlined(images.to(self.least.device))[1] for images, _ in batches])
        chosen = found.sort(descending=True).values[max(1, round(self.kept * len(found))) - 1]
        self.least.copy_(chosen.clamp(min=0))

    def forward(self, images: Tensor, index: Tensor | None = None) -> Step:
        """One step on unlabelled scans (B, 1, H, W), and labelled images that are drawn here; `index` is not used."""
        labelled = self.draw_labelled()
        masks, confidence = self._outlined(images)
        with torch.autocast(images.device.type, enabled=False):
            changed, targets = self.augment(images, masks)
        # A module in half precision holds a rounded threshold, which scans must not miss by its rounding.
        counted = confidence.to(self.least.dtype) >= self.least
        return self.learn(labelled, changed, targets, counted, torch.ones_like(self.least))

    def _outlined(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The teacher's masks (B, 1, H, W), and its confidence in each (B,)."""
        probability = (self.probability(images) + self.probability(images.flip(3)).flip(3)) / 2
        masks = probability > 0.5
        return masks, self.mean_confidence(probability, masks)

    @property
    def trained(self) -> nn.Module:
        """The student."""
        return self.student
