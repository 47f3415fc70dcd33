"""Random crops and flips of views, under this library's randomness contract.

kornia's draw from torch's global generator, in the default dtype, and differently for every size of batch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from .._compat import moved
from ._base import Geometry
from ._draws import Params

_TRIES = 10  # torchvision's and kornia's


class Crop(Geometry):
    """Crop a random part of the image, of random area and ratio of sides, and bring it to one size.

    Of ten draws the first that fits in the image counts; where none does, the largest part of a ratio in the
    interval. Pixels are interpolated between the centres of the crop's outermost pixels, so nothing beyond the crop
    is seen; there is no low-pass filter.

    Args:
        size: side of the result in pixels.
        scale: least and greatest area as a share of the image.
        ratio: least and greatest width / height; drawn log-uniformly.

    Parameters (of `forward_parameters`):
        left, top, width, height: (B,) int64 pixels of the crop.
    """

    names = ("left", "top", "width", "height")

    def __init__(self, size: int, *, scale: tuple[float, float], ratio: tuple[float, float] = (3 / 4, 4 / 3)) -> None:
        super().__init__()
        self.size, self.scale, self.ratio = size, scale, ratio

    def extra_repr(self) -> str:
        """Settings, for `repr`."""
        ratio = f"({self.ratio[0]:.4g}, {self.ratio[1]:.4g})"
        return f"size={self.size}, scale={self.scale}, ratio={ratio}, {super().extra_repr()}"

    def draws(self) -> int:
        """Areas, ratios and a place."""
        return 2 * _TRIES + 2

    def parameters_from(self, u: Tensor, size: tuple[int, int]) -> Params:
        """Map uniforms (B, K) to crops of images (H, W)."""
        height, width = size
        # In float64 the rounding is the same on every machine but for ties, which have no chance.
        u = u.double()
        (least, most), (narrow, wide) = self.scale, self.ratio
        area = (least + (most - least) * u[:, :_TRIES]) * (height * width)
        low, high = math.log(narrow), math.log(wide)
        ratio = (low + (high - low) * u[:, _TRIES : 2 * _TRIES]).exp()
        widths, heights = (area * ratio).sqrt().round().long(), (area / ratio).sqrt().round().long()
        fits = (widths > 0) & (widths <= width) & (heights > 0) & (heights <= height)
        tries = torch.arange(_TRIES, device=u.device)
        first = torch.where(fits, tries, _TRIES).amin(dim=1, keepdim=True)
        whole = min(width, max(1, round(height * wide))), min(height, max(1, round(width / narrow)))
        w, h = (
            torch.where(first < _TRIES, sides.gather(1, first.clamp(max=_TRIES - 1)), largest).squeeze(1)
            for sides, largest in zip((widths, heights), whole, strict=True)
        )
        return {
            "left": (u[:, -2] * (width - w + 1)).long(),
            "top": (u[:, -1] * (height - h + 1)).long(),
            "width": w,
            "height": h,
        }

    def transform(self, x: Tensor, params: Params, *, mode: str = "bilinear") -> Tensor:
        """Crop every row."""
        if x.shape[0] == 0:
            return x.new_empty((0, x.shape[1], self.size, self.size))
        left, top, width, height = self._places(params, x)
        step = torch.arange(self.size, dtype=x.dtype, device=x.device) / max(self.size - 1, 1)
        # Places in the image, as grid_sample counts them: -1 and 1 are the centres of its outermost pixels.
        across, down = (
            (first + (count - 1) * step) * (2 / max(side - 1, 1)) - 1
            for first, count, side in ((left, width, x.shape[3]), (top, height, x.shape[2]))
        )
        shape = (-1, self.size, self.size)
        grid = torch.stack([across[:, None, :].expand(shape), down[:, :, None].expand(shape)], dim=3)
        return F.grid_sample(x, grid, mode=mode, align_corners=True, padding_mode="border")

    def matrix(self, params: Params, like: Tensor) -> Tensor:
        """Stretch the crop to the view. A crop one pixel wide has no such matrix; there its pixel goes to 0."""
        left, top, width, height = self._places(params, like)
        across, down = ((self.size - 1) / (count - 1).clamp(min=1) for count in (width, height))
        zero = torch.zeros_like(left)
        rows = (across, zero, -left * across), (zero, down, -top * down), (zero, zero, zero + 1)
        return torch.stack([torch.cat(row, dim=1) for row in rows], dim=1)

    def _places(self, params: Params, like: Tensor) -> Iterator[Tensor]:
        """The parameters as numbers (B, 1) of like's dtype and device."""
        return (moved(params[name], like.device).to(like.dtype)[:, None] for name in self.names)


class Flip(Geometry):
    """Flip images left to right (`dim=3`) or top to bottom (`dim=2`) with probability p."""

    def __init__(self, dim: int, *, p: float) -> None:
        super().__init__(p=p)
        self.dim = dim

    def extra_repr(self) -> str:
        """Settings, for `repr`."""
        return f"dim={self.dim}, {super().extra_repr()}"

    def draws(self) -> int:
        """None besides the gate."""
        return 0

    def parameters_from(self, u: Tensor, size: tuple[int, int]) -> Params:
        """Nothing is drawn besides the gate."""
        return {}

    def transform(self, x: Tensor, params: Params, *, mode: str = "bilinear") -> Tensor:
        """Flip every row."""
        return x.flip(self.dim)

    def matrix(self, params: Params, like: Tensor) -> Tensor:
        """Mirror x or y."""
        rows = [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
        axis = 3 - self.dim
        rows[axis][axis], rows[axis][2] = -1, like.shape[self.dim] - 1
        matrix = moved(torch.tensor(rows, dtype=like.dtype, device="cpu"), like.device)
        return matrix.expand(like.shape[0], 3, 3)
