"""Which bins of a half spectrum a ring and an X stop: exact integer geometry."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .._compat import cached_tensors


def _planes(height: int, width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Integer geometry of the half spectrum, each (H, W // 2 + 1): r^2 and the distance from the diagonals.

    The distance is doubled and in units of `_shared` / max(H, W) bins of the shorter side. All is exact:
    fftfreq(n) * n in floating point misses bins on the edges.
    """
    u = torch.arange(height, device=device)
    u = torch.minimum(u, height - u)
    v = torch.arange(width // 2 + 1, device=device)
    shared = _shared((height, width))
    r2 = u[:, None] ** 2 + v**2
    arm = 2 * (u[:, None] * (width // shared) - v * (height // shared)).abs()
    dtype = _plane_dtype((height, width))
    return r2.to(dtype), arm.to(dtype)


def _plane_dtype(size: tuple[int, int]) -> torch.dtype:
    largest = max(corner2(size), size[0] * size[1] // _shared(size))
    return torch.int16 if largest < torch.iinfo(torch.int16).max else torch.int32


def _shared(size: tuple[int, int]) -> int:
    """A common divisor of H and W: the greatest, but 1 in compiled graphs, where a size may be symbolic."""
    return 1 if torch.compiler.is_compiling() else math.gcd(*size)


def corner2(size: tuple[int, int]) -> int:
    """Squared radius of the spectrum's corner, its highest frequency, in bins."""
    return (size[0] // 2) ** 2 + (size[1] // 2) ** 2


def limits(size: tuple[int, int], inner: Tensor, outer: Tensor, cross: Tensor, cross_from: float) -> Tensor:
    """Turn lengths in bins into bounds (3, B) on `_planes`: r >= inner is r^2 >= ceil(inner^2), and so on."""
    lengths = torch.stack([inner, outer, cross])
    if lengths.is_floating_point():
        lengths = lengths.to(torch.float64)
    inner, outer, cross = lengths.clamp(0, 2**24).unbind()  # beyond all bins, and its square is exact
    arm = torch.where((outer > cross_from) & (cross > 0), cross * (max(size) // _shared(size)), -1)
    bounds = inner * inner, outer * outer, arm
    if lengths.is_floating_point():
        bounds = bounds[0].ceil(), bounds[1].floor(), arm.floor()
    dtype = _plane_dtype(size)
    # This clamp stays above every plane's values, so it changes no comparison.
    return torch.stack(bounds).clamp(max=torch.iinfo(dtype).max).to(dtype)


def bits(size: tuple[int, int], bounds: Tensor) -> Tensor:
    """Compare the planes with `bounds` (3, B), on their device.

    Returns:
        (B, 1, H, W // 2 + 1) integers, all ones in binary (-1) where a bin stays and 0 where it is stopped.
    """
    planes = _planes if torch.compiler.is_compiling() else _laid_out_planes
    r2, arm = planes(*size, bounds.device)
    lowest, highest, reach = bounds[:, :, None, None]
    # r2 < lowest or (highest < r2 and reach < arm), by the differences' signs: integer arithmetic is vectorised on
    # CPUs, comparisons that give bool are not. All values lie in -1..max, so nothing overflows.
    sign = (highest - r2).bitwise_and_(reach - arm).bitwise_or_(r2 - lowest)
    stays: Tensor = sign.bitwise_right_shift_(8 * sign.itemsize - 1)
    return stays.unsqueeze(1)


@cached_tensors(maxsize=4)
def _laid_out_planes(height: int, width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    r2, arm = _planes(height, width, device)
    if device.type == "cpu":  # the memory order of torch.fft.fft(dim=-2), so that masks match it
        r2, arm = (plane.mT.contiguous().mT for plane in (r2, arm))
    return r2, arm
