"""Values of one metric, a case each, as the user's code or files hold them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from .. import _checks

Values: TypeAlias = torch.Tensor | Sequence[float] | npt.NDArray[np.floating[Any]]


def finite(name: str, values: Values, *, least: int) -> torch.Tensor:
    """Return (N,) float64 on the CPU; raise unless they are finite."""
    found = numbers(name, values, least=least)
    lost = int((~found.isfinite()).sum())
    if lost:
        raise ValueError(
            f"{name} must be finite, got {lost} of {len(found)} values that are not;"
            " metrics with empty='worst' give every case a number"
        )
    return found


def numbers(name: str, values: Values, *, least: int) -> torch.Tensor:
    """Return (N,) float64 on the CPU; raise unless they are at least `least` real numbers."""
    if isinstance(values, torch.Tensor):
        found = values.detach().cpu()
        real = not found.is_complex()
    else:
        array = np.asarray(values)
        real = array.dtype.kind in "biuf"
        found = torch.from_numpy(array.astype(np.float64)) if real else torch.empty(0)
    if not real:
        raise TypeError(f"{name} must be numbers, got {values!r}")
    _checks.shaped(name, found, "(N,)", ndim=1)
    if len(found) < least:
        raise ValueError(f"{name} must hold at least {least} values, got {len(found)}")
    return found.double()


def rounding(values: Values, found: torch.Tensor) -> float:
    """Relative distance of neighbouring numbers in the type of `values`; 0 for whole numbers, which are exact.

    Args:
        values: as the user gave them.
        found: the same by `finite`.
    """
    if bool((found == found.round()).all()):
        return 0.0
    if isinstance(values, torch.Tensor):
        return torch.finfo(values.dtype).eps
    return float(np.finfo(np.asarray(values).dtype).eps)
