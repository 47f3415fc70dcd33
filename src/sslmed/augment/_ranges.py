"""Intervals from which settings are drawn."""

from __future__ import annotations

import math

from torch import Tensor

from .._checks import number


def interval(
    name: str,
    value: tuple[float, float],
    *,
    low: float = 0.0,
    low_open: bool = False,
    high: float = math.inf,
) -> tuple[float, float]:
    """Return `value`; raise unless it is a pair (least, greatest) of numbers from `low` to `high`, in order."""
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise ValueError(f"{name} must be a pair (least, greatest), got {value!r}")
    first, last = (number(f"{name}[{i}]", end, low=low, low_open=low_open, high=high) for i, end in enumerate(value))
    if first > last:
        raise ValueError(f"{name} must be a pair (least, greatest), got {value!r}")
    return first, last


def spread(u: Tensor, ends: tuple[float, float]) -> Tensor:
    """Map uniforms in [0, 1) to the interval `ends`."""
    return ends[0] + u * (ends[1] - ends[0])
