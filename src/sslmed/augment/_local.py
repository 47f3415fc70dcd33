"""Pairs of views for local contrastive learning: a location stays in its place, or its way is known."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .._checks import integer
from ._multiview import MultiView, View
from ._source import Seeded
from ._strengths import Range, crop, flips, jitter, strengths
from .pairs import LocalPair


def intensity_only(
    size: int | None = None,
    *,
    modality: str = "ultrasound",
    brightness: float | None = None,
    contrast: float | None = None,
    generator: torch.Generator | None = None,
) -> MultiView:
    """Umapathy et al.'s local stage: two draws of brightness and contrast, every pixel in its place.

    So a location of one view's feature map means the same in the other's, as LocalContrastive needs it.

    Args:
        size: side to which whole images are brought first, both views alike, with antialiasing; None keeps theirs.
        modality: as in `simclr`.
        brightness: as in GrayJitter; None for the modality's.
        contrast: as in GrayJitter; None for the modality's.
        generator: as in MultiView.

    Returns:
        MultiView giving [view0, view1], both (B, C, H, W) or (B, C, size, size).

    Raises:
        TypeError: a setting is of another type.
        ValueError: a setting is out of range.

    Reference:
        Umapathy et al., 2022, local stage; strengths for MR from Chaitanya et al., NeurIPS 2020, whose brightness
        is an offset of at most 0.3 on images in [0, 1] and here a factor, which suits every range.

    Example:
        >>> import torch
        >>> view0, view1 = intensity_only(modality="mr")(torch.randn(2, 1, 64, 48))
        >>> view0.shape
        torch.Size([2, 1, 64, 48])
    """
    chosen = strengths(modality, brightness=brightness, contrast=contrast)
    side = None if size is None else integer("size", size, low=2)
    resize = [] if side is None else [_Resized(side)]
    first, second = (View(*resize, jitter(chosen, p=1.0)) for _ in range(2))
    return MultiView(first, second, generator=generator)


def local_pair(
    size: int,
    *,
    modality: str = "ultrasound",
    scale: Range = (0.5, 1.0),
    hflip: float | None = None,
    vflip: float = 0.0,
    brightness: float | None = None,
    contrast: float | None = None,
    generator: torch.Generator | None = None,
) -> LocalPair:
    """Two crops, flips and jitters of an image, and the map from a location of one to the other.

    `correspond(points, pair.matrix0, pair.matrix1, size=(size, size))` takes locations of view 0 to view 1 and
    tells which of them view 1 shows.

    Args:
        size: as in `simclr`.
        modality: as in `simclr`.
        scale: as in `simclr`. From 0.5 of the area, a crop's sides are more than half of the image's, so two crops
            always overlap (of images with an aspect ratio of at most 3 to 2).
        hflip: as in `simclr`.
        vflip: as in `simclr`.
        brightness: as in `simclr`.
        contrast: as in `simclr`.
        generator: as in MultiView.

    Returns:
        LocalPair giving Pair(view0, view1, matrix0, matrix1), views (B, C, size, size), matrices (B, 3, 3).

    Raises:
        TypeError: a setting is of another type.
        ValueError: a setting is out of range.

    Example:
        >>> import torch
        >>> from sslmed.augment.views import correspond
        >>> pair = local_pair(64, hflip=0.0)(torch.rand(2, 1, 96, 96))
        >>> points1, inside = correspond(
        ...     torch.full((2, 1, 2), 31.5), pair.matrix0, pair.matrix1, size=(64, 64)
        ... )
        >>> points1.shape, inside.shape
        (torch.Size([2, 1, 2]), torch.Size([2, 1]))
    """
    chosen = strengths(modality, scale=scale, hflip=hflip, brightness=brightness, contrast=contrast)
    first, second = (
        (crop(size, scale=chosen.scale), *flips(hflip=chosen.hflip, vflip=vflip), jitter(chosen)) for _ in range(2)
    )
    return LocalPair(first, second, generator=generator)


class _Resized(Seeded, nn.Module):
    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side

    def extra_repr(self) -> str:
        return f"side={self.side}"

    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(x, (self.side, self.side), mode="bilinear", antialias=True)
