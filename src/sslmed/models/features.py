"""One feature vector per image, of any encoder; and a U-Net as such an encoder."""

from __future__ import annotations

import torch
from torch import nn

from .. import _checks
from .unet import ResUNet, UNet


def pooled_features(encoder: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """One vector per image.

    Args:
        encoder: (B, C, H, W) -> features (B, F), a map (B, F, h, w), or a list of maps, the coarsest last. Maps are
            averaged over their positions.
        images: (B, C, H, W); they are given to the encoder in channels_last layout, in which convolutions are fastest.

    Returns:
        (B, F).

    Raises:
        ValueError: an encoder that returns something else.

    Example:
        >>> import torch
        >>> from sslmed.models import ResNetEncoder
        >>> pooled_features(ResNetEncoder("resnet18", width=8), torch.rand(2, 1, 64, 64)).shape
        torch.Size([2, 64])
    """
    found = encoder(images.contiguous(memory_format=torch.channels_last))
    if isinstance(found, list | tuple):
        found = found[-1]
    if found.ndim == 4:
        found = found.mean((2, 3))
    if found.ndim != 2:
        raise ValueError(
            f"encoder must return features (B, F), a map (B, F, h, w) or a list of maps, got shape {tuple(found.shape)}"
        )
    return found  # type: ignore[no-any-return]


def feature_width(encoder: nn.Module) -> int:
    """The number of features F that `pooled_features` returns, as the encoder tells it.

    Args:
        encoder: with an int `features` or `num_features`, or a list `channels` whose last entry it is.

    Raises:
        ValueError: an encoder with none of them.

    Example:
        >>> from sslmed.models import ResNetEncoder
        >>> feature_width(ResNetEncoder("resnet18", width=8))
        64
    """
    for name in ("features", "num_features"):
        if isinstance(width := getattr(encoder, name, None), int):
            return width
    channels = getattr(encoder, "channels", None)
    if isinstance(channels, list | tuple) and channels:
        return int(channels[-1])
    raise ValueError(
        f"encoder {type(encoder).__name__} does not tell its number of features: give it an attribute `features`"
    )


class UNetFeatures(nn.Module):
    """A U-Net and the features of one of its maps: (B, C, H, W) -> (B, features).

    What the features do not depend on gets no gradient, and is frozen: otherwise DistributedDataParallel would wait
    for gradients that never come.

    Args:
        network: the U-Net, plain or on a ResNet.
        at: "bottom", the coarsest map, which trains the encoder alone; "decoder", the finest map before the last
            layer, which trains all but that layer.
        flat_size: None averages the map over its positions. The side of square images, in pixels, lays the bottom
            map out flat instead, as Chaitanya et al. (NeurIPS 2020) do: the features keep their positions, and belong
            to images of this size.

    Raises:
        ValueError: an unknown `at`, or a `flat_size` for the decoder or for a U-Net on a ResNet.

    Example:
        >>> import torch
        >>> encoder = UNetFeatures(UNet(width=4))
        >>> encoder(torch.rand(2, 1, 45, 50)).shape, encoder.features
        (torch.Size([2, 64]), 64)
    """

    def __init__(self, network: UNet | ResUNet, *, at: str = "bottom", flat_size: int | None = None) -> None:
        super().__init__()
        self.at: str = _checks.choice("at", at, ("bottom", "decoder"))
        if flat_size is not None:
            _checks.integer("flat_size", flat_size, low=32)
            if at != "bottom":
                raise ValueError(f"flat_size must be None for at={at!r}: only the bottom map is laid out flat")
            if isinstance(network, ResUNet):
                raise ValueError(
                    "flat_size must be None for a ResUNet: only a plain U-Net's bottom map is laid out flat"
                )
        self.network: UNet | ResUNet = network
        self.flat_size: int | None = flat_size
        bottom = network.encoder.channels[-1] if isinstance(network, ResUNet) else 16 * network.width
        self.features: int = bottom if at == "bottom" else network.out.in_channels
        if flat_size is not None:
            self.features *= (flat_size // 16) ** 2
        for part in [network.out] if at == "decoder" else [network.out, network.up]:
            part.requires_grad_(False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Features (B, features) of images (B, in_channels, H, W)."""
        maps = self.network.decoder_maps if self.at == "decoder" else self.network.encoder_maps
        found = maps(x)[-1]
        return found.mean((2, 3)) if self.flat_size is None else found.flatten(1)
