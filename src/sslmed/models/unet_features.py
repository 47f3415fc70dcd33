"""A U-Net as a source of one feature vector per image, so that contrastive methods can train it."""

from __future__ import annotations

import torch
from torch import nn

from .. import _checks
from .unet import UNet


class UNetFeatures(nn.Module):
    """A U-Net and the features of one of its maps: (B, C, H, W) -> (B, features).

    What the features do not depend on gets no gradient, and is frozen: otherwise DistributedDataParallel would wait
    for gradients that never come.

    Args:
        network: the U-Net.
        at: "bottom", the coarsest map, which trains the encoder alone; "decoder", the finest map before the last
            layer, which trains all but that layer.
        flat_size: None averages the map over its positions. The side of square images, in pixels, lays the bottom
            map out flat instead, as Chaitanya et al. (NeurIPS 2020) do: the features keep their positions, and belong
            to images of this size.

    Raises:
        ValueError: an unknown `at`, or a `flat_size` for the decoder.

    Example:
        >>> import torch
        >>> encoder = UNetFeatures(UNet(width=4))
        >>> encoder(torch.rand(2, 1, 45, 50)).shape, encoder.features
        (torch.Size([2, 64]), 64)
    """

    def __init__(self, network: UNet, *, at: str = "bottom", flat_size: int | None = None) -> None:
        super().__init__()
        self.at = _checks.choice("at", at, ("bottom", "decoder"))
        if flat_size is not None:
            _checks.integer("flat_size", flat_size, low=32)
            if at != "bottom":
                raise ValueError(
                    f"flat_size must be None for at={at!r}: only the bottom map is laid out flat"
                )
        self.network, self.flat_size = network, flat_size
        self.features = network.width * (16 if at == "bottom" else 1)
        if flat_size is not None:
            self.features *= (flat_size // 16) ** 2
        for part in [network.out] if at == "decoder" else [network.out, network.up]:
            part.requires_grad_(False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Features (B, features) of images (B, in_channels, H, W)."""
        maps = self.network.decoder_maps if self.at == "decoder" else self.network.encoder_maps
        found = maps(x)[-1]
        return found.mean((2, 3)) if self.flat_size is None else found.flatten(1)
