"""Thumbnails for the comparison of pictures: their fine structure, their eight orientations, small shifts and crops."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch.nn import functional as F

from .. import _checks
from .._tensor import compute_dtype

SIDE, _COARSE = 64, 24
ORIENTATIONS = 7
_PART = 256  # pictures filtered at a time, for which convolutions take many times their size
_REACH = 0.05  # of the side: how far a border may be shifted or cropped
_STEPS = 6


def thumbnails(images: torch.Tensor | Sequence[torch.Tensor]) -> torch.Tensor:
    """Reduce images (C, H, W) to (N, 4096) rows of mean 0 and norm 1; a constant image becomes zeros.

    Images are taken one after the other, so that a sequence may read them from a disk.
    """
    if not len(images):
        raise ValueError("images is empty")
    rows = torch.empty(len(images), SIDE * SIDE, dtype=torch.float32, device="cpu")
    for k, image in enumerate(images):
        _checks.floating("images", image)
        _checks.shaped("each of images", image, "(C, H, W)", ndim=3)
        if not image.isfinite().all():
            raise ValueError(f"images[{k}] holds NaN or infinity, so it has no correlation with any image")
        if not image.numel():
            raise ValueError(f"images[{k}] is empty, its shape is {tuple(image.shape)}")
        values = image.detach().to(compute_dtype(image))
        # In parts of its own range, so that images of very small and of very large numbers are compared alike.
        gray = _scaled(_scaled(values, values.abs().amax()).mean(dim=0)).float()[None, None]
        rows[k] = F.interpolate(gray, (SIDE, SIDE), mode="bilinear", antialias=True).flatten()
    for start, part in _parts(rows):
        rows[start : start + _PART] = unit_rows(part.flatten(1))
    return rows


def unit_rows(rows: torch.Tensor) -> torch.Tensor:
    """Bring rows to mean 0 and norm 1, so that their products are correlations; a constant row becomes zeros."""
    return F.normalize(rows - rows.mean(dim=1, keepdim=True), eps=1e-6)


def detail(pictures: torch.Tensor) -> torch.Tensor:
    """Return the fine structure of thumbnails, as rows of mean 0 and norm 1."""
    rows = torch.empty_like(pictures)
    for start, part in _parts(pictures):
        rows[start : start + _PART] = _detail(part, sigma=1.5)
    return rows


def coarse_detail(pictures: torch.Tensor) -> torch.Tensor:
    """Return the structure that a shift by 4 % leaves mostly in place, as rows (N, 576) of mean 0 and norm 1."""
    small = (F.interpolate(part, (_COARSE, _COARSE), mode="bilinear", antialias=True) for _, part in _parts(pictures))
    return torch.cat([_detail(part, sigma=2.0) for part in small])


def _parts(pictures: torch.Tensor) -> Iterator[tuple[int, torch.Tensor]]:
    for start in range(0, len(pictures), _PART):
        yield start, pictures[start : start + _PART].view(-1, 1, SIDE, SIDE)


def turned(pictures: torch.Tensor, k: int) -> torch.Tensor:
    """Return square pictures, as rows, in orientation k of the seven that a picture and its copy can have.

    These are upright, mirrored (left and right, top and bottom, along either diagonal), turned by 180 degrees and
    turned by 90; turned by 270 the copy is the picture.
    """
    side = math.isqrt(pictures.shape[1])
    x = pictures.view(-1, side, side)
    orientations = (x, x.flip(2), x.flip(1), x.mT, x.flip(1, 2).mT, x.flip(1, 2), x.rot90(1, (1, 2)))
    return orientations[k].flatten(1)


def turned_back(pictures: torch.Tensor, k: int) -> torch.Tensor:
    """Undo `turned`: all orientations are their own inverse except the rotation by 90 degrees."""
    if k < ORIENTATIONS - 1:
        return turned(pictures, k)
    side = math.isqrt(pictures.shape[1])
    return pictures.view(-1, side, side).rot90(-1, (1, 2)).flatten(1)


def aligned(pictures: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """Shift and stretch each of `others` along both axes until it fits its picture best; return them as unit rows.

    Gauss-Newton steps on the detail of both (Lucas and Kanade, 1981), each border by 5 % of the side at most. What lies
    beyond a border repeats the border.
    """
    target, source = (_detail(x.view(-1, 1, SIDE, SIDE), sigma=3.0).view(-1, 1, SIDE, SIDE) for x in (pictures, others))
    axis = (torch.arange(SIDE, dtype=torch.float32, device="cpu") + 0.5) * (2 / SIDE) - 1
    place = pictures.new_zeros(len(pictures), 4)  # shift and stretch along x, then along y, of a side of 2
    for _ in range(_STEPS):
        found = _moved(source, place, axis)
        along_y, along_x = torch.gradient(found[:, 0], spacing=2 / SIDE, dim=(1, 2))
        slopes = torch.stack([along_x, along_x * axis, along_y, along_y * axis[:, None]], 1).flatten(2)
        normal = slopes @ slopes.mT
        small = 1e-4 * normal.diagonal(dim1=1, dim2=2).mean(1).clamp_min(1e-12)
        normal = normal + small[:, None].expand(-1, 4).diag_embed()
        step = torch.linalg.solve(normal, slopes @ (target - found).flatten(2).mT)[..., 0]
        place = (place + step).clamp(-2 * _REACH, 2 * _REACH)
    return unit_rows(_moved(others.view(-1, 1, SIDE, SIDE), place, axis).flatten(1))


def _moved(pictures: torch.Tensor, place: torch.Tensor, axis: torch.Tensor) -> torch.Tensor:
    x = place[:, 0, None] + (1 + place[:, 1, None]) * axis
    y = place[:, 2, None] + (1 + place[:, 3, None]) * axis
    grid = torch.stack([x[:, None].expand(-1, SIDE, -1), y[:, :, None].expand(-1, -1, SIDE)], dim=-1)
    return F.grid_sample(pictures, grid, padding_mode="border", align_corners=False)


def _detail(pictures: torch.Tensor, *, sigma: float) -> torch.Tensor:
    """Subtract the blurred picture, then equalise the local contrast, where there is any: sharp borders do not rule."""
    spread = pictures.flatten(1).std(dim=1).clamp_min(1e-12)[:, None, None, None]
    rest = (pictures - _blurred(pictures, sigma)) / spread
    contrast = _blurred(rest.square(), 2 * sigma).clamp_min(0).sqrt()
    return unit_rows((rest / (contrast + 0.1)).flatten(1))


def _blurred(pictures: torch.Tensor, sigma: float) -> torch.Tensor:
    reach = int(3 * sigma + 0.5)
    weights = torch.exp(-torch.arange(-reach, reach + 1, dtype=torch.float32, device="cpu").square() / (2 * sigma**2))
    weights = weights / weights.sum()
    padded = F.pad(pictures, (reach,) * 4, mode="reflect")
    return F.conv2d(F.conv2d(padded, weights.view(1, 1, 1, -1)), weights.view(1, 1, -1, 1))


def _scaled(values: torch.Tensor, by: torch.Tensor | None = None) -> torch.Tensor:
    """Divide by `by`, or bring to [0, 1]; what is constant becomes 0."""
    if by is None:
        low, high = values.aminmax()
        values, by = values - low, high - low
    return values / by if by > 0 else torch.zeros_like(values)
