"""From images of any size to squares of one: stretched, or padded with black first."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from ... import _checks

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
    """Resize a bool or integer (C, H, W) to (C, size, size) as `resize_labels` does; `fit` as for its image."""
    return resize_labels(_squared(mask, fit), (size, size))[0]


def resize_labels(mask: torch.Tensor, shape: tuple[int, int]) -> tuple[torch.Tensor, bool]:
    """Resize a bool or integer (C, H, W), of numbers below 256, by the nearest pixel's centre.

    A structure that no centre meets would vanish, and its image would count as normal. It keeps the one pixel that it
    covers most, unless that is the last pixel of another structure.

    Returns:
        The resized mask, and whether a structure would have vanished.
    """
    if mask.shape[1:] == shape:
        return mask, False
    small = F.interpolate(mask[None].to(torch.uint8), shape, mode="nearest-exact")[0]
    lost = _lost(mask, small)
    for channel, number in lost:
        counts = torch.bincount(small[channel].flatten().long())
        counts[0] = 0
        single = (counts == 1).nonzero().flatten()
        coverage = F.adaptive_avg_pool2d((mask[channel] == number).double()[None], shape)[0]
        coverage[torch.isin(small[channel], single)] = 0
        best = coverage.argmax()
        if coverage.view(-1)[best] > 0:
            small[channel].view(-1)[best] = number
    return small.to(mask.dtype), bool(lost)


def _lost(mask: torch.Tensor, small: torch.Tensor) -> list[tuple[int, int]]:
    """List channel and number of each structure of a mask that its resized copy lacks."""
    if mask.dtype == torch.bool:
        lost = mask.flatten(1).any(1) & ~small.flatten(1).any(1)
        return [(k, 1) for k in lost.nonzero().flatten().tolist()]
    return [
        (k, number)
        for k, (full, part) in enumerate(zip(mask, small, strict=True))
        for number in sorted(set(full.unique().tolist()) - set(part.unique().tolist()) - {0})
    ]


class Sizing:
    """What a reader does with the size of its images.

    Args:
        size: side in pixels, or None to keep each image as it is.
        fit: as in `resize_image`.

    Attributes:
        tiny: names of the masks so far that show a structure which lies between the centres of the resized pixels, so
            that one pixel was kept for it.

    Raises:
        TypeError: `size` is no integer.
        ValueError: `size` is below 1, or `fit` unknown.
    """

    def __init__(self, size: int | None, fit: str) -> None:
        self.size = None if size is None else _checks.integer("size", size, low=1)
        self.fit = _checks.choice("fit", fit, FITS)
        self.tiny: set[str] = set()

    def image(self, image: torch.Tensor) -> torch.Tensor:
        """Bring an image (C, H, W) to size."""
        return image if self.size is None else resize_image(image, self.size, fit=self.fit)

    def mask(self, mask: torch.Tensor, name: str) -> torch.Tensor:
        """Bring the mask (C, H, W) of the case called `name` to size."""
        if self.size is None:
            return mask
        small, lost = resize_labels(_squared(mask, self.fit), (self.size, self.size))
        if lost:
            self.tiny.add(name)
        return small


def _squared(image: torch.Tensor, fit: str) -> torch.Tensor:
    if _checks.choice("fit", fit, FITS) == "stretch" or image.shape[1] == image.shape[2]:
        return image
    side = max(image.shape[1:])
    top, left = (side - image.shape[1]) // 2, (side - image.shape[2]) // 2
    square = image.new_zeros(len(image), side, side)
    square[:, top : top + image.shape[1], left : left + image.shape[2]] = image
    return square
