"""The views of Ellis et al.: the image, and its filtered, rearranged and jittered patches."""

from __future__ import annotations

import torch

from .._checks import integer
from ._geometry import Crop
from ._multiview import MultiView, PatchWise, View
from ._patches import Grid
from ._strengths import flips, jitter, strengths
from .frequency import FrequencyBandStop
from .jigsaw import CrossPatchJigsaw, PatchJigsaw


def pirl(
    size: int = 216,
    *,
    modality: str = "ultrasound",
    grid: Grid = (6, 6),
    frequency: bool = True,
    cross_patch: bool = True,
    focal: str = "mirror",
    radius: tuple[float, float] | None = None,
    unit: str = "bin",
    hflip: float | None = None,
    vflip: float | None = None,
    generator: torch.Generator | None = None,
) -> MultiView:
    """Ellis et al.'s pair of views: the image t1, and t2, which is filtered, rearranged and jittered by patch.

    t1 keeps the image's own size: flips left to right and top to bottom, GrayJitter. t2 is a random resized crop
    (scale 0.6 to 1, ratio 3/4 to 4/3) to `size`, FrequencyBandStop, CrossPatchJigsaw or PatchJigsaw, and
    GrayJitter drawn for each patch alone.

    For ultrasound all of it is the paper's: flips in both directions, brightness and contrast 0.4. It is the
    only recipe here that turns B-mode images upside down, with skin and probe at the bottom; vflip=0 keeps them
    upright. On other modalities, which the paper does not treat, flips and jitter are those of `simclr`.

    Args:
        size: side of t2 in pixels, a multiple of the grid. 216 by default: 6 x 36, near the paper's 224,
            which 6 does not divide, and a size whose Fourier transform is fast (as 48, 60, 72, 96, 120, 144,
            192, 240 are; 222 is not).
        modality: "ultrasound", "mr" or "mammography".
        grid: (R, S), rows and columns of patches.
        frequency: filter by FrequencyBandStop.
        cross_patch: CrossPatchJigsaw; False gives PatchJigsaw on the same grid.
        focal: as in CrossPatchJigsaw.
        radius: as in FrequencyBandStop, in bins of the crop; None for the paper's 10 to 100.
        unit: "bin" or "nyquist"; "nyquist" where `size` is far from 224.
        hflip: probability that t1 is flipped left to right; None for the modality's.
        vflip: probability that t1 is flipped top to bottom; None for the paper's 0.5 on ultrasound, else 0.
        generator: as in MultiView.

    Returns:
        MultiView giving [t1 (B, C, H, W), t2 (B, C, size, size)].

    Raises:
        ValueError: the grid does not divide `size`, or another setting is out of range.

    Reference:
        Ellis et al., sections on the pretext task; the crop's scale and ratio are PIRL's, as the paper gives
        none.

    Example:
        >>> import torch
        >>> t1, t2 = pirl(96, unit="nyquist")(torch.rand(2, 1, 128, 128))
        >>> t1.shape, t2.shape
        (torch.Size([2, 1, 128, 128]), torch.Size([2, 1, 96, 96]))
    """
    chosen = strengths(modality, hflip=hflip)
    integer("size", size, low=1)
    jigsaw = CrossPatchJigsaw(grid=grid, focal=focal, remainder="error") if cross_patch else PatchJigsaw(grid=grid)
    if size % grid[0] or size % grid[1]:
        raise ValueError(f"size must be a multiple of the grid {tuple(grid)}, got {size}")
    filters = [FrequencyBandStop(radius=radius, unit=unit)] if frequency else []
    if vflip is None:
        vflip = 0.5 if modality == "ultrasound" else 0.0

    t1 = View(*flips(hflip=chosen.hflip, vflip=vflip), jitter(chosen, p=1.0))
    t2 = View(
        Crop(size, scale=(0.6, 1.0)),
        *filters,
        jigsaw,
        PatchWise(jitter(chosen, p=1.0), jigsaw.grid),
    )
    return MultiView(t1, t2, generator=generator)
