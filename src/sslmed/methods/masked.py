"""Masked pixels: a whole network fills in hidden pixels.

Umapathy et al., "Learning to segment with limited annotations: Self-supervised pretraining with regression and
contrastive loss in MRI", section II.B.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from .._step import Step
from ..augment import RandomPatchMask, RandomPixelMask
from ..distributed import ddp_weight
from ..losses import masked_l1
from ..models import UNet
from ._base import Method, as_channels_last, channels_last


class MaskedPixels(Method):
    """Predict hidden pixels from the rest of the image.

    Umapathy et al., section II.B: L = || M psi(x~) - M x ||_1, as the mean over the hidden pixels.

    Args:
        network: (B, C, H, W) -> (B, C, H, W), such as a U-Net.
        mask: hides pixels; its parameters say which.

    Example:
        >>> import torch
        >>> from sslmed.augment import RandomPixelMask
        >>> from sslmed.models import UNet
        >>> method = MaskedPixels(UNet(width=4), mask=RandomPixelMask(ratio=0.1))
        >>> method(torch.rand(2, 1, 32, 32)).loss.shape
        torch.Size([])
    """

    command = "masked"

    def __init__(self, network: nn.Module, *, mask: RandomPixelMask | RandomPatchMask) -> None:
        super().__init__()
        self.network: nn.Module = as_channels_last(network)
        self.mask = mask

    @classmethod
    def for_images(cls, count: int, *, width: int, ratio: float = 0.5, patch: int = 8, **settings: Any) -> Method:
        """As `Method.for_images`, with a U-Net and hidden patches; `encoder` is not used, and there are no views."""
        return cls(UNet(width=width), mask=RandomPatchMask(ratio=ratio, patch=patch))

    def forward(self, images: Tensor, index: Tensor | None = None) -> Step:
        """As `Method.forward`; `index` is not used."""
        params = self.mask.forward_parameters(images.shape)
        hidden = self.mask(images, params=params)
        where = params["mask"].to(images.device)
        loss = masked_l1(self.network(channels_last(hidden)), images, where) * ddp_weight(where.sum())
        # Over processes, terms are weighed by images, the loss by hidden pixels.
        return Step(loss, {"loss": loss.detach() / ddp_weight(len(images), device=loss.device)})

    @property
    def trained(self) -> nn.Module:
        """The whole network."""
        return self.network
