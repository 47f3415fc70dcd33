"""The few checks that every room shares; each names the argument, its value and what was expected.

They look at shapes, dtypes, devices and settings only. None reads a tensor's values: that would stall a GPU and break
compiled graphs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch


def floating(name: str, x: torch.Tensor) -> None:
    """Raise TypeError unless `x` is a real floating point tensor."""
    if not isinstance(x, torch.Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, got {type(x).__name__}")
    if not x.is_floating_point():
        raise TypeError(f"{name} must be a floating point tensor, got {x.dtype}; convert it, e.g. {name}.float()")


def shaped(name: str, x: torch.Tensor, expected: str, *, ndim: int | tuple[int, ...]) -> None:
    """Raise unless `x` is a tensor of `ndim` dimensions; `expected` words the shape, as "(N, D)"."""
    if not isinstance(x, torch.Tensor):
        raise TypeError(f"{name} must be a torch.Tensor of shape {expected}, got {type(x).__name__}")
    if x.ndim not in ((ndim,) if isinstance(ndim, int) else ndim):
        raise ValueError(f"{name} must have shape {expected}, got {tuple(x.shape)}")


def same_shape(name_a: str, a: torch.Tensor, name_b: str, b: torch.Tensor) -> None:
    """Raise ValueError unless `a` and `b` have one shape."""
    if a.shape != b.shape:
        raise ValueError(f"{name_a} and {name_b} must have the same shape, got {tuple(a.shape)} and {tuple(b.shape)}")


def same_device(**tensors: torch.Tensor) -> None:
    """Raise ValueError unless all named tensors live on one device."""
    if len({t.device for t in tensors.values()}) > 1:
        places = ", ".join(f"{name} on {t.device}" for name, t in tensors.items())
        raise ValueError(f"all tensors must be on the same device, got {places}")


def number(
    name: str,
    value: float,
    *,
    low: float = -math.inf,
    high: float = math.inf,
    low_open: bool = False,
    high_open: bool = False,
) -> float:
    """Return `value` as a float; raise unless it is a finite real number in the interval from `low` to `high`."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number, got {value!r}")
    too_low = value <= low if low_open else value < low
    too_high = value >= high if high_open else value > high
    # Compared, not asked with math.isfinite, which torch.compile cannot trace where floats are dynamic.
    if not -math.inf < value < math.inf or too_low or too_high:
        interval = f"{'(' if low_open else '['}{low:g}, {high:g}{')' if high_open else ']'}"
        raise ValueError(f"{name} must be a finite number in {interval}, got {value!r}")
    return float(value)


def integer(name: str, value: int, *, low: int, high: int | None = None) -> int:
    """Return `value`; raise unless it is an int with low <= value <= high."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an integer, got {value!r}")
    if value < low or (high is not None and value > high):
        raise ValueError(f"{name} must be {f'at least {low}' if high is None else f'in {low}..{high}'}, got {value}")
    return value


def choice(name: str, value: str, options: Sequence[str]) -> str:
    """Return `value`; raise ValueError unless it is one of `options`."""
    if value not in options:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, options))}, got {value!r}")
    return value


def generator(value: torch.Generator | None) -> None:
    """Raise TypeError unless `value` is a torch.Generator or None."""
    if value is not None and not isinstance(value, torch.Generator):
        raise TypeError(f"generator must be a torch.Generator or None, got {type(value).__name__}")
