"""Rotate, zoom and shift images: the map from coordinates of the result to those of the image, and its use."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from .._checks import number
from .._compat import moved
from ._base import Geometry
from ._draws import Params
from ._ranges import interval, spread

AFFINE_DRAWS = 4


def affine_from(u: Tensor, size: tuple[int, int], *, degrees: float, zoom: tuple[float, float]) -> Tensor:
    """Draw maps from coordinates of the result to coordinates of the image.

    Args:
        u: uniforms (B, 4).
        size: (H, W) of the image. The rotation is in pixels of the image, whatever the result's size.
        degrees: maximum angle in either direction.
        zoom: minimum and maximum magnification, drawn log-uniformly. At 2 half of each side is seen, at 0.5 the image
            fills half of each side of the result.

    Returns:
        (B, 2, 3): x and y in the image of (x, y, 1) in the result, all from -1 to 1 between the borders. The visible
        part is placed uniformly within the image, or the image within the result.
    """
    height, width = size
    angle = (2 * u[:, 0] - 1) * math.radians(degrees)
    low, high = (math.log(end) for end in zoom)
    part = (-spread(u[:, 1], (low, high))).exp()
    cos, sin = part * angle.cos(), part * angle.sin()
    shift = (2 * u[:, 2:] - 1) * (1 - part).abs()[:, None]
    rows = (cos, sin * (height / width), shift[:, 0]), (sin * (-width / height), cos, shift[:, 1])
    return torch.stack([torch.stack(row, dim=1) for row in rows], dim=1)


def resample(x: Tensor, affine: Tensor, size: tuple[int, int], *, mode: str = "bilinear") -> Tensor:
    """Resample images (B, C, H, W) by maps (B, 2, 3) to a result of `size`; 0 outside the image."""
    if x.shape[0] == 0:
        return x.new_empty((0, x.shape[1], *size))
    down, right = centres(size, x)
    # Not affine_grid: TF32 would round its coordinates to a tenth of a pixel and worse.
    of_x, of_y, of_1 = moved(affine, x.device).to(x.dtype)[:, None].unbind(3)
    grid = (down[:, None] * of_y)[:, :, None] + (right[:, None] * of_x + of_1)[:, None]
    return F.grid_sample(x, grid, mode=mode, padding_mode="zeros", align_corners=False)


def resample_over_black(x: Tensor, affine: Tensor, size: tuple[int, int]) -> Tensor:
    """Look up images as `resample` does, bilinearly; pixels outside an image get its minimum."""
    black = x.detach().amin(dim=(2, 3), keepdim=True)
    return resample(x - black, affine, size) + black


def centres(size: tuple[int, int], like: Tensor) -> tuple[Tensor, Tensor]:
    """Centres of an image's rows (H,) and columns (W,), from -1 to 1 between its borders."""
    down, right = ((2 * torch.arange(n, dtype=like.dtype, device=like.device) + 1) / n - 1 for n in size)
    return down, right


class Affine(Geometry):
    """Rotate, magnify and shift images at random, resampled once, to one size.

    Pixels outside the image get its minimum value. There is no low-pass filter.

    Args:
        size: side of the result in pixels.
        degrees: maximum angle in either direction.
        zoom: minimum and maximum magnification, above 0; drawn log-uniformly.

    Parameters (of `forward_parameters`):
        affine: (B, 2, 3), as `affine_from` returns it.
    """

    names = ("affine",)

    def __init__(self, size: int, *, degrees: float, zoom: tuple[float, float]) -> None:
        super().__init__()
        self.size = size
        self.degrees = number("degrees", degrees, low=0, high=180)
        self.zoom = interval("zoom", zoom, low_open=True)

    def extra_repr(self) -> str:
        """Settings, for `repr`."""
        return f"size={self.size}, degrees={self.degrees:g}, zoom={self.zoom}, {super().extra_repr()}"

    def draws(self) -> int:
        """An angle, a magnification and a position."""
        return AFFINE_DRAWS

    def parameters_from(self, u: Tensor, size: tuple[int, int]) -> Params:
        """Map uniforms (B, 4) to maps of coordinates."""
        return {"affine": affine_from(u, size, degrees=self.degrees, zoom=self.zoom)}

    def transform(self, x: Tensor, params: Params, *, mode: str = "bilinear") -> Tensor:
        """Resample every row; pixels outside a mask get 0."""
        size = (self.size, self.size)
        if mode == "nearest":
            return resample(x, params["affine"], size, mode=mode)
        return resample_over_black(x, params["affine"], size)

    def matrix(self, params: Params, like: Tensor) -> Tensor:
        """Invert the map of coordinates, in pixels from the centre of the upper left one."""
        height, width = like.shape[2:]
        affine = moved(params["affine"], like.device).to(like.dtype)
        (a, b, c), (d, e, f) = (row.unbind(1) for row in affine.unbind(1))
        determinant, half = a * e - b * d, self.size / 2
        zero = torch.zeros_like(a)
        rows = (e, -b, b * f - c * e), (-d, a, c * d - a * f)
        result = []
        for x, y, one in (tuple(value / determinant * half for value in row) for row in rows):
            # (2 i + 1) / n - 1 is the coordinate of pixel i of n
            one = one + x * (1 / width - 1) + y * (1 / height - 1) + (half - 0.5)
            result.append(torch.stack([x * (2 / width), y * (2 / height), one], dim=1))
        return torch.stack([*result, torch.stack([zero, zero, zero + 1], dim=1)], dim=1)
