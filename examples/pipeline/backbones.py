"""Networks as sources of one feature vector an image, which is what contrastive pretexts train."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sslmed.models import ResNetEncoder, UNet


class PooledEncoder(nn.Module):
    """A ResNet and the mean of its last map: (B, 1, H, W) -> (B, features)."""

    def __init__(self, network: ResNetEncoder) -> None:
        super().__init__()
        self.network = network.to(memory_format=torch.channels_last)
        self.features = network.channels[-1]

    def forward(self, images: Tensor) -> Tensor:
        """Features (B, features)."""
        return self.network(images.contiguous(memory_format=torch.channels_last))[-1].mean((2, 3))


class FlatUNet(nn.Module):
    """The contracting path of a U-Net and its bottom map laid out flat: (B, 1, size, size) -> (B, features).

    Flattened as Chaitanya et al. do, the features keep their places, and belong to images of one size.
    """

    def __init__(self, network: UNet, *, size: int) -> None:
        super().__init__()
        self.network = network.to(memory_format=torch.channels_last)
        self.features = network.width * 16 * (size // 16) ** 2
        for module in (network.out, network.up):  # as in PooledUNet
            module.requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        """Features (B, features)."""
        return self.network.encoder_maps(images.contiguous(memory_format=torch.channels_last))[-1].flatten(1)


class PooledUNet(nn.Module):
    """A whole U-Net, or its contracting path, and the mean of a map: (B, 1, H, W) -> (B, features).

    Args:
        network: the U-Net.
        at: "decoder", the finest map before the classifier, which trains all but that; "bottom", the coarsest map,
            which trains the contracting path alone.
    """

    def __init__(self, network: UNet, *, at: str = "decoder") -> None:
        super().__init__()
        if at not in ("decoder", "bottom"):
            raise ValueError(f"at must be decoder or bottom, got {at!r}")
        self.network, self.at = network.to(memory_format=torch.channels_last), at
        self.features = network.width * (1 if at == "decoder" else 16)
        idle = [network.out] if at == "decoder" else [network.out, network.up]
        for module in idle:  # else DistributedDataParallel waits for gradients that never come
            module.requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        """Features (B, features)."""
        images = images.contiguous(memory_format=torch.channels_last)
        maps = self.network.decoder_maps if self.at == "decoder" else self.network.encoder_maps
        return maps(images)[-1].mean((2, 3))
