"""Mean teacher: a segmentation network learns from a few outlines and from scans without outlines.

Tarvainen and Valpola, "Mean teachers are better role models", NeurIPS 2017, for segmentation; the two strengths of
augmentation and the threshold of confidence are those of Sohn et al., "FixMatch", NeurIPS 2020.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from .. import _checks
from .._step import Step
from ..augment.joint import JointView
from ..losses._overlap import dice_bce
from ..memory import update_ema
from ._taught import Taught


class MeanTeacher(Taught):
    """Train a network on labelled images and on the outlines that a moving average of it draws on unlabelled ones.

    Start from a network that was trained on the labelled images. The teacher sees a weakly changed scan; what it
    outlines is the student's target on the same scan after strong changes of its gray values. A scan without a
    confident outline is left out, so the network never learns from it that there is nothing.

    Args:
        network: (B, 1, H, W) -> logits (B, 1, H, W); it becomes the student, and its copy the teacher.
        images: labelled images (N, 1, H, W) in [0, 1].
        masks: their outlines (N, 1, H, W), bool.
        augment: strong changes of images and masks, as `views.segmentation(size)`.
        weak: weak changes that may move pixels, as `views.segmentation(size, degrees=15, zoom=(0.8, 1.25))`.
        strong: changes that move no pixel, as `views.segmentation(size, degrees=0, zoom=(1, 1), hflip=0)`.
        steps: steps of the training: the weight of the unlabelled scans grows from 0 to 1 over the first fifth of them.
        labelled: labelled images of a step, drawn with replacement.
        decay: of the moving average.
        confidence: a scan counts if the mean of |2 p - 1| over the teacher's outline is at least this, in [0, 1].
        smallest: a scan counts if the outline covers at least this share of it, in [0, 1].
        loss: (logits (B, 1, H, W), masks (B, H, W) int64) -> a mean over the batch.

    Raises:
        ValueError: other shapes of images and masks, or a setting out of range.

    Example:
        >>> import torch
        >>> from sslmed.augment import views
        >>> from sslmed.models import UNet
        >>> changed = views.segmentation(32, degrees=0, zoom=(1, 1), hflip=0)
        >>> images, masks = torch.rand(4, 1, 32, 32), torch.rand(4, 1, 32, 32) > 0.5
        >>> views_of = {"augment": views.segmentation(32), "weak": views.segmentation(32), "strong": changed}
        >>> method = MeanTeacher(UNet(width=4), images, masks, **views_of, steps=100, labelled=2)
        >>> step = method(torch.rand(2, 1, 32, 32))
        >>> sorted(step.terms)
        ['counted', 'labelled', 'loss', 'unlabelled', 'weight']
    """

    def __init__(
        self,
        network: nn.Module,
        images: Tensor,
        masks: Tensor,
        *,
        augment: JointView,
        weak: JointView,
        strong: JointView,
        steps: int,
        labelled: int = 8,
        decay: float = 0.98,
        confidence: float = 0.6,
        smallest: float = 0.003,
        loss: Callable[[Tensor, Tensor], Tensor] = dice_bce,
    ) -> None:
        super().__init__(network, images, masks, augment=augment, labelled=labelled, smallest=smallest, loss=loss)
        self.weak: JointView = weak
        self.strong: JointView = strong
        self.ramp: float = _checks.integer("steps", steps, low=1) / 5
        self.decay: float = _checks.number("decay", decay, low=0, high=1)
        self.confidence: float = _checks.number("confidence", confidence, low=0, high=1)
        self.done: Tensor
        self.register_buffer("done", torch.zeros((), dtype=torch.int64))

    def forward(self, images: Tensor, index: Tensor | None = None) -> Step:
        """One step on unlabelled scans (B, 1, H, W), and labelled images that are drawn here; `index` is not used."""
        labelled = self.draw_labelled()
        with torch.autocast(images.device.type, enabled=False):  # half precision would part images and masks
            seen, inside = self.weak(images, torch.ones_like(images, dtype=torch.bool))
        targets, counted = self._outlines(seen, inside)
        with torch.autocast(images.device.type, enabled=False):
            changed, _ = self.strong(seen, inside)
        weight = (self.done.float() / self.ramp).clamp(max=1)  # not in the default dtype
        step = self.learn(labelled, changed, targets, counted, weight)
        return Step(step.loss, {**step.terms, "weight": weight})

    def _outlines(self, seen: Tensor, inside: Tensor) -> tuple[Tensor, Tensor]:
        """The teacher's masks (B, 1, H, W), and whether each of the scans counts (B,)."""
        probability = self.probability(seen)
        masks = (probability > 0.5) & inside
        return masks, self.mean_confidence(probability, masks) >= self.confidence

    def after_step(self) -> None:
        """Move the teacher towards the student."""
        self.done += 1
        update_ema(self.teacher, self.student, decay=self.decay)

    @property
    def trained(self) -> nn.Module:
        """The teacher: the average of many students is better than the last one."""
        return self.teacher
