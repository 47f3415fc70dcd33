"""U-Nets: a plain one, and one on a ResNet or another encoder.

Ronneberger et al., "U-Net", MICCAI 2015. `ResUNet` is the Res-UNet of Ellis et al., section IV (U-Net decoder on
a pretrained ResNet-50); the paper does not describe the decoder, so its widths are ours. Both resize a map to
the size its skip really has, so odd image sizes need no padding.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from .. import _checks
from .encoders import FeatureEncoder
from .resnet import ResNetEncoder, initialise

_SMALLEST = 32


class UNet(nn.Module):
    """The plain U-Net: four halvings, channels doubling from `width` to 16 x `width`, batch norm throughout.

    Args:
        in_channels: channels of the input, 1 for gray images.
        classes: channels of the logits.
        width: channels of the finest level.

    Raises:
        ValueError: a size below 1.

    Example:
        >>> import torch
        >>> UNet(width=4)(torch.rand(2, 1, 45, 50)).shape
        torch.Size([2, 1, 45, 50])
    """

    def __init__(self, *, in_channels: int = 1, classes: int = 1, width: int = 64) -> None:
        super().__init__()
        self.in_channels: int = _checks.integer("in_channels", in_channels, low=1)
        self.classes: int = _checks.integer("classes", classes, low=1)
        self.width: int = _checks.integer("width", width, low=1)
        channels = [width * 2**k for k in range(5)]
        self.down: nn.ModuleList = nn.ModuleList(
            _ConvBlock(before, after) for before, after in zip([in_channels, *channels[:-1]], channels, strict=True)
        )
        self.up: nn.ModuleList = nn.ModuleList(_Up(2 * c, c, c) for c in reversed(channels[:-1]))
        self.out: nn.Conv2d = nn.Conv2d(width, classes, 1)
        initialise(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Segment a batch.

        Args:
            x: (B, in_channels, H, W) floating point, H and W at least 32.

        Returns:
            Logits (B, classes, H, W).
        """
        return self.out(self.decoder_maps(x)[-1])  # type: ignore[no-any-return]

    def encoder_maps(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Give the maps of the contracting path.

        Args:
            x: as in `forward`.

        Returns:
            Five maps (B, width 2^k, H / 2^k, W / 2^k), rounded down, k = 0 to 4: the finest first, the bottom last.
        """
        _check_image(x, self.in_channels)
        maps = [self.down[0](x)]
        for block in self.down[1:]:
            maps.append(block(F.max_pool2d(maps[-1], 2)))
        return maps

    def decoder_maps(self, x: torch.Tensor, *, blocks: int = 4) -> list[torch.Tensor]:
        """Give the maps of the expanding path, for pretraining on them.

        Args:
            x: as in `forward`.
            blocks: how many of its four blocks to compute, from the coarsest.

        Returns:
            As many maps, block k of 1 to 4 giving (B, width 2^(4 - k), ...) of its skip's size: the finest last.

        Raises:
            ValueError: blocks outside 1..4, or as in `forward`.

        Example:
            >>> import torch
            >>> [tuple(m.shape) for m in UNet(width=4).decoder_maps(torch.rand(2, 1, 32, 48), blocks=2)]
            [(2, 32, 4, 6), (2, 16, 8, 12)]
        """
        _checks.integer("blocks", blocks, low=1, high=len(self.up))
        skips = self.encoder_maps(x)
        maps = [skips.pop()]
        for up in self.up[:blocks]:
            maps.append(up(maps[-1], skips.pop()))
        return maps[1:]

    def extra_repr(self) -> str:
        """Show the settings."""
        return f"in_channels={self.in_channels}, classes={self.classes}, width={self.width}"


class ResUNet(nn.Module):
    """A U-Net whose contracting path is a ResNet, or any other encoder that returns feature maps.

    The encoder's coarsest map is the bottom, the others are the skips: of a ResNet those of relu1, layer1, layer2 and
    layer3, with layer4 at the bottom. The decoder has 256, 128, 64, 32 and 16 channels (scaled by width / 64).

    Args:
        encoder: the name of a ResNet, or a `ResNetEncoder` or `FeatureEncoder`, for example a pretrained one. It
            becomes `.encoder`, not a copy.
        in_channels: channels of the input, 1 for gray images. With a given encoder its own number holds.
        classes: channels of the logits.
        width: a multiple of 4: a quarter of the channels of the decoder's first block, and the channels of a ResNet's
            first map. A given `ResNetEncoder` keeps its own width.
        standardise: bring each channel of each image to mean 0 and standard deviation 1 first, so that brightness and
            contrast of a scanner do not matter, and weights of ImageNet get what they expect.

    Raises:
        TypeError: the encoder is neither a name nor one of these encoders.
        ValueError: a setting out of range, or one that contradicts the given encoder.

    Example:
        >>> import torch
        >>> net = ResUNet("resnet18", in_channels=1, classes=2, width=8)
        >>> net(torch.rand(2, 1, 45, 50)).shape
        torch.Size([2, 2, 45, 50])
    """

    def __init__(
        self,
        encoder: str | ResNetEncoder | FeatureEncoder = "resnet18",
        *,
        in_channels: int = 1,
        classes: int = 1,
        width: int = 64,
        standardise: bool = False,
    ) -> None:
        super().__init__()
        self.classes: int = _checks.integer("classes", classes, low=1)
        self.standardise = standardise
        if isinstance(encoder, str):
            encoder = ResNetEncoder(encoder, in_channels=in_channels, width=width)
        elif not isinstance(encoder, ResNetEncoder | FeatureEncoder):
            raise TypeError(
                f"encoder must be a name, a ResNetEncoder or a FeatureEncoder, got {type(encoder).__name__}"
            )
        # The defaults cannot be told from the same values given by the caller; only another value is a
        # contradiction.
        own_width = encoder.width if isinstance(encoder, ResNetEncoder) else width
        if in_channels not in (1, encoder.in_channels) or width not in (64, own_width):
            raise ValueError(
                f"in_channels={in_channels} and width={width} contradict the given encoder, which has"
                f" in_channels={encoder.in_channels} and width={own_width}; leave them out"
            )
        if _checks.integer("width", own_width, low=1) % 4:
            raise ValueError(f"width must be a multiple of 4 for the decoder, got {own_width}")
        self.encoder = encoder
        *skips, bottom = encoder.channels
        decoder = [max(1, own_width * 4 // 2**k) for k in range(len(encoder.channels))]
        self.up: nn.ModuleList = nn.ModuleList(
            _Up(below, skip, after)
            for below, skip, after in zip([bottom, *decoder[:-1]], [*reversed(skips), 0], decoder, strict=True)
        )
        self.out: nn.Conv2d = nn.Conv2d(decoder[-1], classes, 1)
        initialise(self.up)
        initialise(self.out)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Segment a batch.

        Args:
            x: (B, in_channels, H, W) floating point, H and W at least 32.

        Returns:
            Logits (B, classes, H, W).
        """
        return self.out(self.decoder_maps(x)[-1])  # type: ignore[no-any-return]

    def encoder_maps(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Give the maps of the encoder, the finest first and the bottom last.

        Args:
            x: as in `forward`.
        """
        _check_image(x, self.encoder.in_channels)
        return self.encoder(F.instance_norm(x) if self.standardise else x)  # type: ignore[no-any-return]

    def decoder_maps(self, x: torch.Tensor, *, blocks: int | None = None) -> list[torch.Tensor]:
        """Give the maps of the expanding path, for pretraining on them.

        Args:
            x: as in `forward`.
            blocks: how many blocks to compute, from the coarsest; None for all, as many as the encoder has maps.

        Returns:
            As many maps. With a ResNet the first is (B, 4 width, ...) of layer3's size, the fifth (B, width / 4, H, W).

        Raises:
            ValueError: more blocks than there are or fewer than 1, or as in `forward`.
        """
        if blocks is not None:
            _checks.integer("blocks", blocks, low=1, high=len(self.up))
        # No map of the encoder has the image's own size: the last step has an empty skip that only tells the
        # size.
        skips = [x[:, :0], *self.encoder_maps(x)]
        maps = [skips.pop()]
        for up in self.up[:blocks]:
            maps.append(up(maps[-1], skips.pop()))
        return maps[1:]

    def extra_repr(self) -> str:
        """Show the settings."""
        return f"classes={self.classes}"


class _ConvBlock(nn.Sequential):
    """Twice: 3 x 3 convolution, batch norm, ReLU."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(
            nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
        )


class _Up(nn.Module):
    """Resize to the skip's size, join the two, convolve."""

    def __init__(self, below: int, skip: int, out_channels: int) -> None:
        super().__init__()
        self.block = _ConvBlock(below + skip, out_channels)

    def forward(self, x: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        x = F.interpolate(x, size=skip.shape[-2:], mode="bilinear", align_corners=False)
        if skip.shape[1]:
            x = torch.cat([x, skip], dim=1)
        return self.block(x)  # type: ignore[no-any-return]


def _check_image(x: torch.Tensor, channels: int) -> None:
    expected = f"(B, {channels}, H, W)"
    _checks.shaped("x", x, expected, ndim=4)
    _checks.floating("x", x)
    if x.shape[1] != channels:
        raise ValueError(f"x must have shape {expected}, got {tuple(x.shape)}")
    if min(x.shape[-2:]) < _SMALLEST:
        raise ValueError(f"x must be at least {_SMALLEST} pixels high and wide, got shape {tuple(x.shape)}")
