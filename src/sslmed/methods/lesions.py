"""Synthetic lesions: a segmentation network learns to outline lesions that were drawn into unlabelled scans."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from .. import augment
from .._step import Step
from ..augment import views
from ..augment.joint import JointView
from ..distributed import ddp_weight
from ..losses._overlap import dice_bce
from ..models import ResUNet
from ._base import Method, as_channels_last, channels_last


class SyntheticLesions(Method):
    """Draw a lesion with a known outline into each scan, and train the network to outline it.

    It needs no labels, and trains the decoder too, so fine-tuning starts from a network that outlines dark blobs.

    Args:
        network: (B, 1, H, W) -> logits (B, 1, H, W), such as a U-Net.
        lesions: draws the lesions.
        view: changes of the pair after that, such as `views.segmentation(size, degrees=0, zoom=(1, 1), hflip=0)`: a
            blur and noise hide where a lesion was pasted. None for no change.
        loss: (logits (B, 1, H, W), masks (B, H, W) int64) -> a scalar; binary cross-entropy plus 1 - soft Dice by
            default.

    Reference:
        `sslmed.augment.SyntheticLesions` has the recipe and its sources.

    Example:
        >>> import torch
        >>> from sslmed.models import UNet
        >>> method = SyntheticLesions(UNet(width=4), view=views.segmentation(48, degrees=0, zoom=(1, 1), hflip=0))
        >>> method(torch.rand(2, 1, 48, 48)).loss.shape
        torch.Size([])
    """

    command = "synthetic-lesions"

    def __init__(
        self,
        network: nn.Module,
        *,
        lesions: augment.SyntheticLesions | None = None,
        view: JointView | None = None,
        loss: Callable[[Tensor, Tensor], Tensor] = dice_bce,
    ) -> None:
        super().__init__()
        self.network: nn.Module = as_channels_last(network)
        self.lesions: augment.SyntheticLesions = augment.SyntheticLesions() if lesions is None else lesions
        self.view = view
        self.loss = loss

    @classmethod
    def for_images(cls, count: int, *, encoder: str, width: int, size: int, modality: str, **options: Any) -> Method:
        """As `Method.for_images`, with a U-Net on the encoder; the views move no pixel."""
        view = views.segmentation(size, modality=modality, degrees=0, zoom=(1, 1), hflip=0)
        return cls(ResUNet(encoder, width=width), view=view, **options)

    def forward(self, images: Tensor, index: Tensor | None = None) -> Step:
        """As `Method.forward`; `index` is not used."""
        with torch.autocast(images.device.type, enabled=False):  # half precision would part images and masks
            drawn, masks = self.lesions(images)
            if self.view is not None:
                drawn, masks = self.view(drawn, masks)
        logits = self.network(channels_last(drawn)).float()
        loss = self.loss(logits, masks[:, 0].long())
        # Of those that have a lesion: a scan that is black all over gets none.
        found = torch.where(masks, logits > 0, False).float().sum() / masks.sum().clamp(min=1)
        terms = {"loss": loss.detach(), "recall": found}
        return Step(loss * ddp_weight(len(images), device=loss.device), terms)

    @property
    def trained(self) -> nn.Module:
        """The whole network."""
        return self.network
