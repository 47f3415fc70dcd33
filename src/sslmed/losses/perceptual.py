"""Perceptual loss: an image and its patches should have like features deep in the encoder.

Ellis et al., section III, Eqs. 11-12: the mean over the patches of the squared error between the encoder's
feature maps of the image and of each patch (ResNet's `layer3`). The two maps differ in size and the paper
does not say how they are matched; `match` names two ways.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from .. import _checks
from .._tensor import compute_dtype

_MATCHES = ("pool", "adaptive")


def perceptual(image: torch.Tensor, patches: torch.Tensor, *, match: str = "pool") -> torch.Tensor:
    """Mean squared error between the features of each image and of its patches.

    Args:
        image: (N, F, h, w), the encoder's map of each image.
        patches: (N, P, F, h', w'), its maps of each image's patches.
        match: "pool" averages both maps over their positions; "adaptive" averages the image's map over h' x
            w' cells and compares position by position, for h' <= h and w' <= w.

    Returns:
        The loss, a scalar of at least float32. Its gradient passes through both arguments.

    Raises:
        TypeError: a tensor is not of floating point.
        ValueError: shapes or devices that do not fit, an empty tensor, or an unknown `match`.

    Example:
        >>> import torch
        >>> perceptual(torch.ones(2, 8, 14, 14), torch.zeros(2, 36, 8, 3, 3))
        tensor(1.)
    """
    _checks.choice("match", match, _MATCHES)
    _checks.floating("image", image)
    _checks.floating("patches", patches)
    _checks.shaped("image", image, "(N, F, h, w)", ndim=4)
    _checks.shaped("patches", patches, "(N, P, F, h', w')", ndim=5)
    if patches.shape[0] != image.shape[0] or patches.shape[2] != image.shape[1]:
        raise ValueError(
            f"patches must have shape (N, P, F, h', w') with N, F = {tuple(image.shape[:2])} as image has, "
            f"got {tuple(patches.shape)}"
        )
    if not image.numel() or not patches.numel():
        raise ValueError(
            f"image and patches must not be empty, got shapes {tuple(image.shape)} and {tuple(patches.shape)}"
        )
    _checks.same_device(image=image, patches=patches)
    dtype = compute_dtype(image, patches)
    image, patches = image.to(dtype), patches.to(dtype)
    if match == "pool":
        image, patches = image.mean(dim=(2, 3)), patches.mean(dim=(3, 4))
    else:
        if patches.shape[3] > image.shape[2] or patches.shape[4] > image.shape[3]:
            raise ValueError(
                f"match='adaptive' needs patch maps no larger than the image map {tuple(image.shape[2:])}, "
                f"got {tuple(patches.shape[3:])}"
            )
        image = F.adaptive_avg_pool2d(image, (patches.shape[3], patches.shape[4]))
    return (patches - image[:, None]).square().mean()


class Perceptual(nn.Module):
    """Agreement of the features of an image and of its patches: `perceptual` with stored settings.

    Args:
        match: as in `perceptual`.

    Example:
        >>> import torch
        >>> Perceptual(match="adaptive")(torch.rand(2, 8, 14, 14), torch.rand(2, 36, 8, 3, 3)).shape
        torch.Size([])
    """

    def __init__(self, *, match: str = "pool") -> None:
        super().__init__()
        self.match: str = _checks.choice("match", match, _MATCHES)

    def forward(self, image: torch.Tensor, patches: torch.Tensor) -> torch.Tensor:
        """The loss of image maps (N, F, h, w) and patch maps (N, P, F, h', w')."""
        return perceptual(image, patches, match=self.match)

    def extra_repr(self) -> str:
        """Show the settings."""
        return f"match={self.match!r}"
