"""Where the beams of a probe run through an image: depth along a beam, and which beam."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..._checks import number
from .._sizes import image_size

Apex = tuple[float, float] | None


def apex_or_none(value: Apex) -> Apex:
    """Return `value`; raise unless it is None or a pair of numbers, the second below 1."""
    if value is None:
        return None
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise ValueError(f"apex must be None or a pair (x, y), got {value!r}")
    return number("apex[0]", value[0]), number("apex[1]", value[1], high=1, high_open=True)


def beams(size: tuple[int, int], *, apex: Apex = None, device: torch.device | None = None) -> tuple[Tensor, Tensor]:
    """Depth and beam of each pixel's centre.

    Args:
        size: (H, W) of the image.
        apex: None for beams straight down, as of a linear array. For a sector the point where its beams meet, (x, y)
            in fractions of the image's width and height from the upper left corner. With y < 0, above the image, the
            probe's face is taken for an arc that touches the upper border (curved array); otherwise depth counts
            from the apex (phased array). y < 1.
        device: where the maps are made.

    Returns:
        depth: (H, 1) or, in a sector, (H, W) float32: 0 at the face, 1 at the lower border straight below the apex
            (anywhere on it for a linear array); negative between the upper border and an arc below it.
        beam: (1, W) or (H, W) float32: 0 and 1 for the beams through the lower corners, linear in the beam's
            position or, in a sector, in its angle.

    Raises:
        TypeError, ValueError: a size or an apex that is none.

    Example:
        >>> depth, beam = beams((4, 2))
        >>> depth.T, beam
        (tensor([[0.1250, 0.3750, 0.6250, 0.8750]]), tensor([[0.2500, 0.7500]]))
        >>> depth, beam = beams((4, 3), apex=(0.5, 0.0))
        >>> depth[:, 1], beam[:, 1]
        (tensor([0.1250, 0.3750, 0.6250, 0.8750]), tensor([0.5000, 0.5000, 0.5000, 0.5000]))
    """
    size = height, width = image_size(size)
    apex = apex_or_none(apex)
    down = torch.arange(height, dtype=torch.float32, device=device)[:, None] + 0.5
    right = torch.arange(width, dtype=torch.float32, device=device) + 0.5
    if apex is None:
        return down / height, right[None] / width
    down, right = down - apex[1] * height, right - apex[0] * width
    face = max(-apex[1], 0.0) * height
    depth = ((down.square() + right.square()).sqrt() - face) / ((1 - apex[1]) * height - face)
    first, last = _angles(size, apex, 1.0, device)
    return depth, (torch.atan2(right, down) - first) / (last - first)


def path_length(mask: Tensor, *, apex: Apex = None) -> Tensor:
    """Length of the way through `mask` from the probe to each pixel, along its beam.

    Args:
        mask: (B, 1, H, W) floating point; the share of a pixel that counts.
        apex: as in `beams`.

    Returns:
        (B, 1, H, W) in pixels. In a sector the mask is sampled, bilinearly, on a raster of beams and back.
    """
    if apex is None:
        return mask.cumsum(dim=2)
    height, width = mask.shape[2:]
    # One pixel each: enough to reach every corner, also from an apex at the image's side.
    steps = height + width * math.ceil(max(1.0, apex[0], 1 - apex[0]))
    apex_x, apex_y = apex[0] * width, apex[1] * height
    face = max(-apex[1], 0.0) * height
    # Beams through all corners, of which the lower ones are outermost where the apex lies at the image's side; all
    # directions below the apex where it lies inside the image.
    upper, lower = (torch.stack(_angles((height, width), apex, level, mask.device)) for level in (0.0, 1.0))
    first, last = torch.minimum(upper, lower)[0], torch.maximum(upper, lower)[1]
    radius = torch.arange(steps, dtype=mask.dtype, device=mask.device)[:, None] + (face + 0.5)
    share = torch.arange(2 * steps, dtype=mask.dtype, device=mask.device) / (2 * steps - 1)
    angle = first + (last - first) * share
    polar = _sample(mask, apex_x + radius * angle.sin(), apex_y + radius * angle.cos())
    down = torch.arange(height, dtype=mask.dtype, device=mask.device)[:, None] + 0.5 - apex_y
    right = torch.arange(width, dtype=mask.dtype, device=mask.device) + 0.5 - apex_x
    # Pixel centres of the raster of beams lie at 0.5, 1.5 ...
    column = (torch.atan2(right, down) - first) / (last - first) * (2 * steps - 1) + 0.5
    return _sample(polar.cumsum(dim=2), column, (down.square() + right.square()).sqrt() - face)


def deeper(image: Tensor, spacing: Tensor, times: int, *, apex: Apex = None) -> Tensor:
    """Move `image` away from the probe along its beams; 0 comes in at the face.

    Args:
        image: (B, C, H, W).
        spacing: (B,) in the unit of `beams`' depth. For beams straight down rounded to rows, but at least one.
        times: how many spacings.
        apex: as in `beams`.

    Returns:
        (B, C, H, W); in a sector sampled bilinearly.
    """
    batch, channels, height, width = image.shape
    if apex is None:
        rows = (spacing * height).round().clamp(min=1).long() * times
        source = torch.arange(height, device=image.device) - rows[:, None]
        there = (source >= 0).to(image.dtype)[:, None, :, None]
        # Whole rows are copied: a gather of pixels costs several times as much.
        first = torch.arange(batch * channels, device=image.device).view(batch, channels, 1) * height
        index = (first + source.clamp(min=0)[:, None]).flatten()
        return image.reshape(-1, width).index_select(0, index).view_as(image) * there
    apex_x, apex_y = apex[0] * width, apex[1] * height
    face = max(-apex[1], 0.0) * height
    down = torch.arange(height, dtype=image.dtype, device=image.device)[:, None] + 0.5 - apex_y
    right = torch.arange(width, dtype=image.dtype, device=image.device) + 0.5 - apex_x
    radius = (down.square() + right.square()).sqrt().clamp(min=0.5)
    reach = (1 - apex[1]) * height - face
    source = radius - (spacing * (times * reach)).to(image.dtype)[:, None, None]
    moved = _sample(image, apex_x + right * (source / radius), apex_y + down * (source / radius))
    return moved * (source >= face).unsqueeze(1)


def _angles(
    size: tuple[int, int], apex: tuple[float, float], level: float, device: torch.device | None
) -> tuple[Tensor, Tensor]:
    """Angles of the left and right end of a horizontal line, a fraction `level` of H from the upper border."""
    sides = torch.arange(2, dtype=torch.float32, device=device) * size[1] - apex[0] * size[1]
    below = torch.zeros_like(sides) + max(level - apex[1], 0.0) * size[0]
    first, last = torch.atan2(sides, below).unbind()
    return first, last


def _sample(image: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Values of `image` (B, C, H, W) at points, (B or none, h, w), in pixels from its upper left corner; 0 outside."""
    height, width = image.shape[2:]
    x, y = x * (2 / width) - 1, y * (2 / height) - 1
    grid = torch.stack([x + 0 * y, y + 0 * x], dim=-1).expand(image.shape[0], -1, -1, -1)
    return torch.nn.functional.grid_sample(image, grid, align_corners=False)
