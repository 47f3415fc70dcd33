"""ResNet feature encoders with torchvision's blocks, names and initialisation.

He et al., "Deep Residual Learning for Image Recognition", CVPR 2016. The classifier is left out, any number
of input channels is taken, and every stage can be narrowed. At width 64 the state dict has torchvision's keys
and shapes, so weights saved from a torchvision ResNet load as they are (see `load_encoder`).
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import skip_init

from .. import _checks, _compat
from .._tensor import compute_dtype

_DEPTHS = {
    "resnet18": ("BasicBlock", (2, 2, 2, 2)),
    "resnet34": ("BasicBlock", (3, 4, 6, 3)),
    "resnet50": ("Bottleneck", (3, 4, 6, 3)),
    "resnet101": ("Bottleneck", (3, 4, 23, 3)),
    "resnet152": ("Bottleneck", (3, 8, 36, 3)),
}


def initialise(module: nn.Module) -> None:
    """Give the convolutions and batch norms inside `module` torchvision's initialisation of a ResNet."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")
            if part.bias is not None:
                nn.init.zeros_(part.bias)
        elif isinstance(part, nn.BatchNorm2d):
            nn.init.ones_(part.weight)
            nn.init.zeros_(part.bias)


class ResNetEncoder(nn.Module):
    """The convolutional part of a ResNet, returning its five feature maps.

    The maps are those after `relu` (stride 2) and after `layer1` to `layer4` (strides 4 to 32). `layer3` is
    what Ellis et al. call "layer 40" of a ResNet-50: 1 + 3*3 + 3*4 + 3*6 = 40 convolutions end there.

    Args:
        name: "resnet18", "resnet34", "resnet50", "resnet101" or "resnet152".
        in_channels: channels of the input, 1 for gray images.
        width: channels of the first map; each later stage scales with it. 64 is the standard network, 32 has
            half the channels everywhere and about a quarter of the work.

    Raises:
        ValueError: an unknown name, or a size below 1.
        ImportError: torchvision is missing or does not fit the installed torch.

    Example:
        >>> import torch
        >>> encoder = ResNetEncoder("resnet18", in_channels=1, width=16)
        >>> [tuple(f.shape) for f in encoder(torch.rand(2, 1, 64, 64))]
        [(2, 16, 32, 32), (2, 16, 16, 16), (2, 32, 8, 8), (2, 64, 4, 4), (2, 128, 2, 2)]
        >>> encoder.channels
        (16, 16, 32, 64, 128)
    """

    def __init__(self, name: str = "resnet18", *, in_channels: int = 1, width: int = 64) -> None:
        super().__init__()
        self.name: str = _checks.choice("name", name, tuple(_DEPTHS))
        self.in_channels: int = _checks.integer("in_channels", in_channels, low=1)
        self.width: int = _checks.integer("width", width, low=1)
        block_name, depths = _DEPTHS[name]
        block: Any = getattr(_compat.torchvision("models.resnet"), block_name)
        self._expansion: int = block.expansion

        self.conv1: StridedConv = StridedConv(in_channels, width, 7, stride=2, padding=3, bias=False)
        self.bn1: nn.BatchNorm2d = nn.BatchNorm2d(width)
        self.relu: nn.ReLU = nn.ReLU(inplace=True)
        self.maxpool: nn.MaxPool2d = nn.MaxPool2d(3, stride=2, padding=1)
        channels = (width, *(width * 2**k for k in range(4)))
        ins = (width, *(c * self._expansion for c in channels[1:4]))
        self.layer1: nn.Sequential = _stage(block, ins[0], channels[1], depths[0], stride=1)
        self.layer2: nn.Sequential = _stage(block, ins[1], channels[2], depths[1], stride=2)
        self.layer3: nn.Sequential = _stage(block, ins[2], channels[3], depths[2], stride=2)
        self.layer4: nn.Sequential = _stage(block, ins[3], channels[4], depths[3], stride=2)
        initialise(self)

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels of the five maps, finest first."""
        return (self.width, *(self.width * 2**k * self._expansion for k in range(4)))

    @property
    def strides(self) -> tuple[int, ...]:
        """Pixels of the input per pixel of each map, finest first."""
        return (2, 4, 8, 16, 32)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Encode a batch.

        Args:
            x: (B, in_channels, H, W) floating point, of any size.

        Returns:
            Five maps, finest first; map k has shape (B, channels[k], ceil(H / strides[k]), ceil(W /
            strides[k])).
        """
        expected = f"(B, {self.in_channels}, H, W)"
        _checks.shaped("x", x, expected, ndim=4)
        _checks.floating("x", x)
        if x.shape[1] != self.in_channels:
            raise ValueError(f"x must have shape {expected}, got {tuple(x.shape)}")
        stem = self.relu(self.bn1(self.conv1(x)))
        maps = [stem, self.layer1(self.maxpool(stem))]
        for stage in (self.layer2, self.layer3, self.layer4):
            maps.append(stage(maps[-1]))
        return maps

    def extra_repr(self) -> str:
        """Show the settings."""
        return f"name={self.name!r}, in_channels={self.in_channels}, width={self.width}"


class StridedConv(nn.Conv2d):
    """A strided convolution that avoids two faults of oneDNN on CPUs.

    Its backward pass of a 1 x 1 kernel on fewer than 16 channels writes beyond its memory for channels_last inputs (its
    issue 6035, torch 2.15). And where the output is one pixel wide, its bfloat16 kernels give garbage or NaN as output
    and as weight gradient (torch 2.14, 2.15, AVX512 and AMX); unstrided ones are right there.
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Convolve `input` (B, C, H, W)."""
        down, right = self.stride
        if self.kernel_size == (1, 1):
            if self.in_channels < 16:
                return F.conv2d(input[..., ::down, ::right], self.weight, self.bias)
        # The input is padded by half a kernel, so the output has one column.
        elif input.device.type == "cpu" and input.shape[-1] <= right:
            wide = compute_dtype(input)
            bias = None if self.bias is None else self.bias.to(wide)
            with torch.autocast("cpu", enabled=False):
                result: torch.Tensor = self._conv_forward(input.to(wide), self.weight.to(wide), bias)
            return result.to(input.dtype)
        return super().forward(input)


def _stage(block: Any, in_channels: int, planes: int, depth: int, *, stride: int) -> nn.Sequential:
    """Stack `depth` residual blocks; the first one changes the channels and the stride."""
    out_channels = planes * block.expansion
    shortcut = None
    if stride != 1 or in_channels != out_channels:
        shortcut = nn.Sequential(
            StridedConv(in_channels, out_channels, 1, stride=stride, bias=False),
            nn.BatchNorm2d(out_channels),
        )
    first = block(in_channels, planes, stride, shortcut)
    for name, conv in first.named_children():
        if isinstance(conv, nn.Conv2d) and conv.stride != (1, 1):
            # Without an initialisation of its own, which would draw random numbers: seeds keep their weights.
            strided = skip_init(  # type: ignore[no-untyped-call]
                StridedConv, conv.in_channels, conv.out_channels, 3, stride=stride, padding=1, bias=False
            )
            setattr(first, name, strided)
    return nn.Sequential(first, *(block(out_channels, planes) for _ in range(depth - 1)))
