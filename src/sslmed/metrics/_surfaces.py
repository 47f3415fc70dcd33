"""What distances between surfaces share: each case's boundary points, spacing and diagonal."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from ._distance import Distances, Points, boundary_points, farthest, nearest
from ._masks import masks


@dataclass(frozen=True)
class Surfaces:
    """The boundaries of one case.

    Attributes:
        pred, target: (n, d) and (m, d) indices of boundary points; empty for an empty mask.
        spacing: (d,) millimetres per pixel, or None for pixels.
        size: (d,) of the image.
    """

    pred: Points
    target: Points
    spacing: Distances | None
    size: tuple[int, ...]

    def distances(self) -> tuple[Distances, Distances]:
        """Distances (n,) from the prediction's boundary to the target's, and (m,) back; neither may be empty."""
        return nearest(self.pred, self.target, self.spacing)

    def farthest(self) -> float:
        """The largest of all `distances`."""
        return farthest(self.pred, self.target, self.spacing)

    def of_empty(self, empty: str) -> float | None:
        """The distance by the policy for empty masks, or None where it does not apply."""
        if empty == "nan" and not len(self.target):
            return math.nan
        if len(self.pred) and len(self.target):
            return None
        if not len(self.pred) and not len(self.target):
            return 0.0
        diagonal = math.hypot(*(np.array(self.size) * (1.0 if self.spacing is None else self.spacing)))
        return {"worst": diagonal, "inf": math.inf, "nan": math.nan}[empty]


def surfaces(
    pred: torch.Tensor, target: torch.Tensor, spacing_mm: Sequence[float] | torch.Tensor | None
) -> Iterator[Surfaces]:
    """Check the masks and give the boundaries of one case after the other, worked out on the CPU."""
    pred, target = masks(pred, target)
    size = tuple(pred.shape[1:])
    spacings = _spacings(spacing_mm, batch=len(pred), dims=len(size))
    cases = zip(pred.cpu().numpy(), target.cpu().numpy(), spacings, strict=True)
    return (_of_one(p, t, spacing, size) for p, t, spacing in cases)


def _of_one(
    pred: npt.NDArray[np.bool_],
    target: npt.NDArray[np.bool_],
    spacing: Distances | None,
    size: tuple[int, ...],
) -> Surfaces:
    box = _box(pred | target)
    return Surfaces(boundary_points(pred[box]), boundary_points(target[box]), spacing, size)


def _box(mask: npt.NDArray[np.bool_]) -> tuple[slice, ...]:
    """Find the smallest box around the foreground; empty where there is none."""
    box: tuple[slice, ...] = ()
    for axis in range(mask.ndim):
        hit = np.flatnonzero(mask.any(axis=tuple(k for k in range(mask.ndim) if k != axis)))
        if not len(hit):
            return (slice(0, 0),) * mask.ndim
        box += (slice(hit[0], hit[-1] + 1),)
        mask = mask[(slice(None),) * axis + box[-1:]]  # the other axes look at less
    return box


def _spacings(
    spacing_mm: Sequence[float] | torch.Tensor | None, *, batch: int, dims: int
) -> list[npt.NDArray[np.float64]] | list[None]:
    """Give each case its spacing."""
    if spacing_mm is None:
        return [None] * batch
    expected = f"{dims} numbers, or a tensor ({batch}, {dims})"
    if not isinstance(spacing_mm, (Sequence, torch.Tensor, np.ndarray)) or isinstance(spacing_mm, str):
        raise TypeError(f"spacing_mm must be {expected}, got {spacing_mm!r}")
    try:
        table = torch.as_tensor(spacing_mm, dtype=torch.float64, device="cpu").numpy(force=True)
    except (TypeError, ValueError) as error:
        raise TypeError(f"spacing_mm must be {expected}, got {spacing_mm!r}") from error
    if table.shape not in ((dims,), (batch, dims)):
        raise ValueError(f"spacing_mm must be {expected}, got shape {table.shape}")
    if not (np.isfinite(table) & (table > 0)).all():
        raise ValueError(f"spacing_mm must be positive and finite, got {table.tolist()}")
    return list(np.broadcast_to(table, (batch, dims)))
