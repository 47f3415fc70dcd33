"""Distance between the boundaries of masks, per case.

The boundary is the mask minus its erosion (outside the image is background; pixels are neighbours across
edges, voxels across faces). Distances are Euclidean, between pixel centres, in pixels or in millimetres where
a spacing is given.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from .. import _checks
from ._distance import boundary_points, nearest
from ._masks import EMPTY, masks


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
        pred: (B, *S) bool, or integer zeros and ones; S has two or three dimensions.
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
        ValueError: shapes or devices differ, an integer mask holds other values than 0 and 1, the masks have
            a channel, or a setting is out of range.

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
    pred, target = _surfaces(pred, target)
    device, size = pred.device, np.array(pred.shape[1:])
    spacings = _spacings(spacing_mm, batch=len(pred), dims=len(size))
    pairs = zip(pred.cpu().numpy(), target.cpu().numpy(), spacings, strict=True)
    values = [_hausdorff_of_one(p, t, spacing, percentile, empty) for p, t, spacing in pairs]
    return torch.tensor(values, dtype=torch.float32, device=device)


def _hausdorff_of_one(
    pred: npt.NDArray[np.bool_],
    target: npt.NDArray[np.bool_],
    spacing: npt.NDArray[np.float64] | None,
    percentile: float,
    empty: str,
) -> float:
    box = _box(pred | target)
    a, b = boundary_points(pred[box]), boundary_points(target[box])
    if empty == "nan" and not len(b):
        return math.nan
    if not len(a) and not len(b):
        return 0.0
    if not len(a) or not len(b):
        diagonal = math.hypot(*(np.array(pred.shape) * (1.0 if spacing is None else spacing)))
        return {"worst": diagonal, "inf": math.inf, "nan": math.nan}[empty]
    return max(_percentile(d, percentile) for d in nearest(a, b, spacing))


def _box(mask: npt.NDArray[np.bool_]) -> tuple[slice, ...]:
    """Find the smallest box around the foreground; empty where there is none."""
    box = []
    for axis in range(mask.ndim):
        hit = np.flatnonzero(mask.any(axis=tuple(k for k in range(mask.ndim) if k != axis)))
        box.append(slice(hit[0], hit[-1] + 1) if len(hit) else slice(0, 0))
    return tuple(box)


def _percentile(values: npt.NDArray[np.float64], percentile: float) -> float:
    """Interpolate linearly between the two nearest ranks, as numpy.percentile, without sorting all."""
    rank = (len(values) - 1) * percentile / 100
    low, high = math.floor(rank), math.ceil(rank)
    part = np.partition(values, (low, high))
    return float(part[low] + (rank - low) * (part[high] - part[low]))


def _surfaces(pred: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    pred, target = masks(pred, target)
    # In a volume of one slice every voxel is boundary; it is nearly always an image with its channel left in.
    if pred.ndim == 4 and pred.shape[1] == 1:
        raise ValueError(
            f"pred and target must have no channel, got {tuple(pred.shape)}; drop it, e.g. pred[:, 0]"
        )
    return pred, target


def _spacings(
    spacing_mm: Sequence[float] | torch.Tensor | None, *, batch: int, dims: int
) -> list[npt.NDArray[np.float64]] | list[None]:
    """Give each case its spacing."""
    if spacing_mm is None:
        return [None] * batch
    expected = f"{dims} numbers, or a tensor ({batch}, {dims})"
    if not isinstance(spacing_mm, (Sequence, torch.Tensor, np.ndarray)) or isinstance(spacing_mm, str):
        raise TypeError(f"spacing_mm must be {expected}, got {spacing_mm!r}")
    table = torch.as_tensor(spacing_mm, dtype=torch.float64).cpu().numpy()
    if table.shape not in ((dims,), (batch, dims)):
        raise ValueError(f"spacing_mm must be {expected}, got shape {table.shape}")
    if not (np.isfinite(table) & (table > 0)).all():
        raise ValueError(f"spacing_mm must be positive and finite, got {table.tolist()}")
    return list(np.broadcast_to(table, (batch, dims)))
