"""Which bins of a half spectrum a ring and an X stop: exact integer geometry, compared or looked up."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

_BANK_BYTES = 16 << 20  # planes kept for one image size; larger images compare instead
_BANK_CROSS = 32  # thicknesses that have a plane: 0..31


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
    inner, outer, cross = (value.to(torch.float64) for value in (inner, outer, cross))
    arm = torch.floor(cross * (max(size) // _shared(size)))
    arm = torch.where((outer > cross_from) & (cross > 0), arm, -1.0)
    dtype = _plane_dtype(size)
    bounds = torch.stack([torch.ceil(inner.clamp(min=0) ** 2), torch.floor(outer**2), arm])
    # The clamp stays above every plane's values, so it changes no comparison.
    return bounds.clamp(max=torch.iinfo(dtype).max).to(dtype)


def compare(size: tuple[int, int], bounds: Tensor) -> Tensor:
    """Build keep (B, 1, H, W // 2 + 1) by comparing the planes with `bounds` (3, B), on their device."""
    planes = _planes if torch.compiler.is_compiling() else _cached_planes
    r2, arm = planes(*size, bounds.device)
    lowest, highest, reach = bounds[:, :, None, None]
    keep: Tensor = (r2 < lowest) | ((r2 > highest) & (arm > reach))
    return keep.unsqueeze(1)


def has_planes(size: tuple[int, int], inner: Tensor, outer: Tensor, cross: Tensor) -> bool:
    """Whether the mask can be looked up: whole lengths, on the CPU, of a size whose planes fit the bound."""
    if torch.compiler.is_compiling():
        return False
    if any(value.is_floating_point() or value.device.type != "cpu" for value in (inner, outer, cross)):
        return False
    count = 2 * (math.isqrt(corner2(size)) + 2) + _BANK_CROSS
    fits = count * size[0] * (size[1] // 2 + 1) <= _BANK_BYTES
    return fits and cross.numel() > 0 and bool((cross < _BANK_CROSS).all())


def _bank(height: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """Planes inside and outside each whole radius, and off the X of each whole thickness."""
    with torch.inference_mode(False):
        r2, arm = (plane.long() for plane in _planes(height, width, torch.device("cpu")))
        step = max(height, width) // math.gcd(height, width)
        radii = torch.arange(math.isqrt(corner2((height, width))) + 2, device="cpu")[:, None, None]
        reach = torch.arange(_BANK_CROSS, device="cpu")[:, None, None] * step
        reach[0] = -1  # thickness 0 is no X at all
        return r2 < radii**2, r2 > radii**2, arm > reach


_cached_planes = lru_cache(maxsize=16)(_planes)
_cached_bank = lru_cache(maxsize=4)(_bank)


def look_up(size: tuple[int, int], inner: Tensor, outer: Tensor, cross: Tensor, cross_from: float) -> Tensor:
    """Build the same mask from stored planes, eight times faster; for whole lengths on the CPU."""
    inside, outside, off_cross = _cached_bank(*size)
    last = len(inside) - 1  # beyond every bin, so larger radii give the same planes
    keep = outside.index_select(0, outer.clamp(0, last))
    keep &= off_cross.index_select(0, torch.where(outer > cross_from, cross, 0).clamp(min=0))
    keep |= inside.index_select(0, inner.clamp(0, last))
    return keep.unsqueeze(1)
