"""Distance between the boundaries of masks, per case.

The boundary is the mask minus its erosion (outside the image is background; pixels are neighbours across
edges, voxels across faces). Distances are Euclidean, between pixel centres, in pixels or in millimetres where
a spacing is given.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import torch

from .. import _checks
from ._masks import EMPTY
from ._surfaces import Surfaces, surfaces


def hausdorff(
    pred: torch.Tensor,
    target: torch.Tensor,
    *,
    spacing_mm: Sequence[float] | torch.Tensor | None = None,
    percentile: float = 100.0,
    empty: str = "worst",
) -> torch.Tensor:
    """Hausdorff distance of each case, or a percentile of it such as HD95.

    It is the larger of two directed values: over the boundary of one mask, the maximum (or the percentile,
    linearly interpolated) of the distance to the other boundary.

    Args:
        pred: (B, *S) bool, or integer zeros and ones; S has two or three dimensions, and may follow a channel of one.
        target: the reference, of the same shape.
        spacing_mm: millimetres per pixel along each axis of S: one sequence for all cases, or a tensor (B,
            len(S)). None measures in pixels.
        percentile: in (0, 100]; 100 is the Hausdorff distance, 95 the HD95.
        empty: the value where exactly one mask is empty: "worst" (the image's diagonal), "inf" or "nan"; two
            empty masks are at distance 0. "nan" also gives nan in every case with an empty target.

    Returns:
        (B,) float32 on the device of the masks. They are measured on the CPU.

    Raises:
        TypeError: a mask is floating point, or spacing_mm is neither a sequence nor a tensor.
        ValueError: shapes or devices differ, an integer mask holds other values than 0 and 1, a mask has the
            channels of several classes, or a setting is out of range.

    Reference:
        Huttenlocher et al., "Comparing images using the Hausdorff distance", IEEE TPAMI 1993.

    Example:
        >>> pred, target = torch.zeros(1, 32, 32, dtype=torch.bool), torch.zeros(1, 32, 32, dtype=torch.bool)
        >>> pred[:, 8:16, 8:16] = target[:, 11:19, 12:20] = True
        >>> hausdorff(pred, target)
        tensor([5.])
        >>> hausdorff(pred, target, spacing_mm=(0.2, 0.2))
        tensor([1.])
    """
    _checks.choice("empty", empty, EMPTY)
    _checks.number("percentile", percentile, low=0.0, high=100.0, low_open=True)

    def value(case: Surfaces) -> float:
        if percentile == 100:
            return case.farthest()
        return max(_percentile(d, percentile) for d in case.distances())

    return _each(pred, target, spacing_mm, empty, value)


def average_surface_distance(
    pred: torch.Tensor,
    target: torch.Tensor,
    *,
    spacing_mm: Sequence[float] | torch.Tensor | None = None,
    empty: str = "worst",
) -> torch.Tensor:
    """Average symmetric surface distance of each case.

    The mean, over the boundary points of both masks together, of the distance to the other boundary: the longer
    boundary weighs more. (The mean of the two directed means is another number.)

    Args:
        pred: as in `hausdorff`.
        target: the reference, of the same shape.
        spacing_mm: as in `hausdorff`.
        empty: as in `hausdorff`.

    Returns:
        (B,) float32 on the device of the masks. They are measured on the CPU.

    Raises:
        TypeError, ValueError: as `hausdorff`.

    Reference:
        Heimann et al., "Comparison and evaluation of methods for liver segmentation from CT datasets", IEEE TMI 2009,
        average symmetric surface distance.

    Example:
        >>> pred, target = torch.zeros(1, 8, 8, dtype=torch.bool), torch.zeros(1, 8, 8, dtype=torch.bool)
        >>> pred[:, 1, 1] = target[:, 1, 1] = target[:, 1, 4] = True  # distances 0 | 0 and 3
        >>> average_surface_distance(pred, target)
        tensor([1.])
    """
    _checks.choice("empty", empty, EMPTY)

    def value(case: Surfaces) -> float:
        there, back = case.distances()
        return float((there.sum() + back.sum()) / (len(there) + len(back)))

    return _each(pred, target, spacing_mm, empty, value)


def surface_dice(
    pred: torch.Tensor,
    target: torch.Tensor,
    *,
    tolerance_mm: float,
    spacing_mm: Sequence[float] | torch.Tensor | None = None,
    empty: str = "worst",
) -> torch.Tensor:
    """Surface Dice of each case: the share of both boundaries that lies within a tolerance of the other.

    Boundary points are counted, as in MONAI; the paper's own code weighs each by the area it stands for.

    Args:
        pred: as in `hausdorff`.
        target: the reference, of the same shape.
        tolerance_mm: at least 0, in millimetres, or in pixels where `spacing_mm` is None; the edge itself is within.
        spacing_mm: as in `hausdorff`.
        empty: "worst" and "inf" give 1 where both masks are empty and 0 where exactly one is, as for any overlap;
            "nan" gives nan in every case with an empty target.

    Returns:
        (B,) float32 in [0, 1] on the device of the masks. They are measured on the CPU.

    Raises:
        TypeError, ValueError: as `hausdorff`, or a negative tolerance.

    Reference:
        Nikolov et al., "Clinically applicable segmentation of head and neck anatomy for radiotherapy", JMIR 2021.

    Example:
        >>> pred, target = torch.zeros(1, 8, 8, dtype=torch.bool), torch.zeros(1, 8, 8, dtype=torch.bool)
        >>> pred[:, 1, 1] = target[:, 1, 1] = target[:, 1, 4] = True  # distances 0 | 0 and 3
        >>> surface_dice(pred, target, tolerance_mm=2)
        tensor([0.6667])
    """
    _checks.choice("empty", empty, EMPTY)
    # Points 1 x 0.7 mm and 6 x 0.4 mm apart are at 2.5 mm up to rounding, which depends on where they are, and on
    # whether the spacing came in float32. The edge is within for all of them.
    limit = _checks.number("tolerance_mm", tolerance_mm, low=0.0) * (1 + 1e-6)

    values = []
    for case in surfaces(pred, target, spacing_mm):
        if len(case.pred) and len(case.target):
            within = [np.count_nonzero(distance <= limit) for distance in case.distances()]
            values.append(sum(within) / (len(case.pred) + len(case.target)))
        elif empty == "nan" and not len(case.target):
            values.append(math.nan)
        else:
            values.append(float(len(case.pred) == len(case.target)))
    return torch.tensor(values, dtype=torch.float32, device=pred.device)


def _each(
    pred: torch.Tensor,
    target: torch.Tensor,
    spacing_mm: Sequence[float] | torch.Tensor | None,
    empty: str,
    value: Callable[[Surfaces], float],
) -> torch.Tensor:
    """Measure each case, or follow the policy for empty masks."""
    values = []
    for case in surfaces(pred, target, spacing_mm):
        of_empty = case.of_empty(empty)
        values.append(value(case) if of_empty is None else of_empty)
    return torch.tensor(values, dtype=torch.float32, device=pred.device)


def _percentile(values: npt.NDArray[np.float64], percentile: float) -> float:
    """Interpolate linearly between the two nearest ranks, as numpy.percentile, without sorting all."""
    rank = (len(values) - 1) * percentile / 100
    low, high = math.floor(rank), math.ceil(rank)
    part = np.partition(values, (low, high))
    return float(part[low] + (rank - low) * (part[high] - part[low]))
