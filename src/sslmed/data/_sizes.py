"""From images of any size to squares of one: stretched, or padded with black first."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from .. import _checks

FITS = ("stretch", "pad")


def resize_image(image: torch.Tensor, size: int, *, fit: str = "stretch") -> torch.Tensor:
    """Resize (C, H, W) to (C, size, size), bilinear with antialiasing.

    Args:
        image: (C, H, W) in [0, 1].
        size: side in pixels.
        fit: "stretch" does not keep the aspect, as in Ellis et al., and because BUSI's normals were squashed to squares
            by its authors while its lesions were not, so that a kept aspect would give the class away; "pad" makes the
            image square with black on both ends of its shorter side first.
    """
    image = _squared(image, fit)
    if image.shape[1:] == (size, size):
        return image
    # Rounding of the filter's weights may leave [0, 1] by an ulp.
    return F.interpolate(image[None], (size, size), mode="bilinear", antialias=True)[0].clamp_(0, 1)


def resize_mask(mask: torch.Tensor, size: int, *, fit: str = "stretch") -> torch.Tensor:
    """Resize a bool or integer (C, H, W) to (C, size, size) by the nearest pixel's centre; `fit` as for its image."""
    mask = _squared(mask, fit)
    if mask.shape[1:] == (size, size):
        return mask
    small = F.interpolate(mask[None].to(torch.uint8), (size, size), mode="nearest-exact")[0]
    return small.to(mask.dtype)


class Sizing:
    """What a reader does with the size of its images.

    Args:
        size: side in pixels, or None to keep each image as it is.
        fit: as in `resize_image`.

    Raises:
        TypeError: `size` is no integer.
        ValueError: `size` is below 1, or `fit` unknown.
    """

    def __init__(self, size: int | None, fit: str) -> None:
        self.size = None if size is None else _checks.integer("size", size, low=1)
        self.fit = _checks.choice("fit", fit, FITS)

    def image(self, image: torch.Tensor) -> torch.Tensor:
        """Bring an image (C, H, W) to size."""
        return image if self.size is None else resize_image(image, self.size, fit=self.fit)

    def mask(self, mask: torch.Tensor) -> torch.Tensor:
        """Bring a mask (C, H, W) to size."""
        return mask if self.size is None else resize_mask(mask, self.size, fit=self.fit)


def _squared(image: torch.Tensor, fit: str) -> torch.Tensor:
    if _checks.choice("fit", fit, FITS) == "stretch" or image.shape[1] == image.shape[2]:
        return image
    side = max(image.shape[1:])
    top, left = (side - image.shape[1]) // 2, (side - image.shape[2]) // 2
    square = image.new_zeros(len(image), side, side)
    square[:, top : top + image.shape[1], left : left + image.shape[2]] = image
    return square
