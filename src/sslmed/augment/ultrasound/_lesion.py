"""The position and the shape of a synthetic lesion in a scan."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from .._affine import centres
from .._draws import Params
from ._levels import SURROUND, black_and_extent, field_of_view

_CENTRE_X, _CENTRE_Y = (-0.6, 0.6), (-0.6, 0.5)  # in half sides of the image
_BAND, _BAND_START = 0.8, 0.3  # half width in half axes rx, start below the centre in half axes ry
_BAND_SOFTNESS = 0.15  # in half axes rx and ry
_CELLS = 32  # per side of the grid on which the sector of an image is estimated
_BRIGHT = 0.25  # minimum share of bright pixels in a cell and around it


def sector_cells(image: Tensor) -> tuple[Tensor, Tensor]:
    """Find which cells of a grid over the image are bright, and which lie in the sector of the scan.

    Black is the image's minimum and values up to 1 % of its range above. A cell is bright if a quarter of the pixels in
    it and in its eight neighbours are brighter than that, so that single bright pixels do not count. The sector holds
    the cells between the first and last bright cell of a row, and of a column.

    Args:
        image: (B, 1, H, W).

    Returns:
        Bright cells and those of the sector, both (B, 1, R, S) bool, of at most 32 rows and columns.
    """
    black, extent = black_and_extent(image)
    bright = (image > black + SURROUND * extent).to(image.dtype)
    shares = F.adaptive_avg_pool2d(bright, (min(image.shape[2], _CELLS), min(image.shape[3], _CELLS)))
    around = F.avg_pool2d(shares, 3, stride=1, padding=1, count_include_pad=False) > _BRIGHT
    return around, field_of_view(around) > 0


def level_set(x: Tensor, y: Tensor, params: Params) -> Tensor:
    """Compute the level set (B, 1, H, W) of lesions: above 0 inside.

    Args:
        x: (B, 1, 1, W) horizontal coordinates, from the centre of the lesion.
        y: (B, 1, H, 1) vertical coordinates.
        params: radii, tilt, coarse, fine and roughness, as in SyntheticLesions, of their dtype and device.
    """
    cos, sin = column(params["tilt"].cos()), column(params["tilt"].sin())
    across, down = params["radii"].view(-1, 2, 1, 1, 1).unbind(1)
    u, v = x * (cos / across) + y * (sin / across), y * (cos / down) - x * (sin / down)
    s = 1 - torch.addcmul(u.square(), v, v).sqrt()
    for grid, strength in ((params["coarse"], 1.0), (params["fine"], 0.5)):
        rows = (grid.unsqueeze(3) * _bicubic(grid.shape[3], x.shape[3], grid)).sum(dim=4)
        columns = column(params["roughness"]) * strength * _bicubic(grid.shape[2], y.shape[2], grid)
        # Not a matrix product, which may be computed in half of the precision; `sum` would need n times the memory.
        for k in range(grid.shape[2]):
            s = torch.addcmul(s, columns[..., k : k + 1], rows[:, :, k : k + 1])
    return s


def _bicubic(n: int, side: int, like: Tensor) -> Tensor:
    """Weights (side, n) by which `side` pixels are interpolated between n values."""
    unit = torch.eye(n, dtype=like.dtype, device=like.device)
    return F.interpolate(unit[None, None], (side, n), mode="bicubic")[0, 0]


def from_centre(cells: Tensor, place: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Coordinates (B, 1, 1, W) across and (B, 1, H, 1) down from a centre, in units of half the shorter side.

    Args:
        cells: (B, 1, R, S) bool, where the centre may lie.
        place: (B, 2) in [0, 1), the position of the centre among these cells: the share of their area to its left, and
            in its column the share above it.
        size: (H, W) of the image.
    """
    down, right = centres((cells.shape[2], cells.shape[3]), place)
    box = (down >= _CENTRE_Y[0]) & (down <= _CENTRE_Y[1]), (right >= _CENTRE_X[0]) & (right <= _CENTRE_X[1])
    allowed = (cells[:, 0] & box[0][:, None] & box[1]).to(torch.int32)
    at, across = _chosen(allowed.sum(dim=1), place[:, 0])
    there = allowed.gather(2, at[:, None].expand(-1, allowed.shape[1], 1)).squeeze(2)
    down_to = _chosen(there, place[:, 1])[1]
    down, right = centres(size, place)
    shorter = min(size)
    x = (right - across) * (size[1] / shorter)
    y = (down - down_to) * (size[0] / shorter)
    return x[:, None, None], y[:, None, :, None]


def _chosen(counts: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
    """The index (B, 1) at which the share `u` (B,) of all `counts` (B, n) is reached; its coordinate, from -1 to 1."""
    n = counts.shape[1]
    reached = counts.cumsum(dim=1)
    wanted = u[:, None] * reached[:, -1:]
    index = (reached <= wanted).sum(dim=1, keepdim=True).clamp(max=n - 1)
    here = counts.gather(1, index)
    within = (wanted - reached.gather(1, index) + here) / here.clamp(min=1)
    return index, 2 * (index + within) / n - 1


def band(x: Tensor, y: Tensor, radii: Tensor, strength: Tensor) -> Tensor:
    """A band (B, 1, H, W) of this strength with soft sides, which starts below the centre."""
    across, down = radii.view(-1, 2, 1, 1, 1).unbind(1)
    sides = ((_BAND - x.abs() / across) / _BAND_SOFTNESS).sigmoid()
    return sides * (column(strength) * ((y / down - _BAND_START) / _BAND_SOFTNESS).sigmoid())


def column(value: Tensor) -> Tensor:
    """One value (B,) per image as (B, 1, 1, 1), to broadcast over its pixels."""
    return value.view(-1, 1, 1, 1)
