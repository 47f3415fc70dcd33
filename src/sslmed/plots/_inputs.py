"""What the plots accept: NumPy arrays and tensors of any device, checked once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

Array: TypeAlias = "npt.ArrayLike | torch.Tensor"


def array(x: Array) -> npt.NDArray[Any]:
    """`x` as a NumPy array; tensors come from any device, bfloat16 as float32."""
    if isinstance(x, torch.Tensor):
        x = x.detach().cpu()
        return np.asarray((x.float() if x.dtype == torch.bfloat16 else x).numpy())
    return np.asarray(x)


def gray(name: str, image: Array) -> npt.NDArray[np.float32]:
    """A (H, W) or (1, H, W) image as (H, W) float32; uint8 is divided by 255, floats keep their values."""
    values = array(image)
    if values.ndim == 3 and values.shape[0] == 1:
        values = values[0]
    if values.ndim != 2 or 0 in values.shape:
        raise ValueError(f"{name} must have shape (H, W) or (1, H, W), got {tuple(values.shape)}")
    if values.dtype == np.uint8:
        return (values / 255).astype(np.float32)
    if not np.issubdtype(values.dtype, np.floating):
        raise TypeError(f"{name} must be uint8 or floating point, got {values.dtype}")
    return np.asarray(values, dtype=np.float32)


def mask(name: str, values: Array, shape: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    """A (H, W) or (1, H, W) bool mask as (H, W); raise unless it is bool and has `shape`."""
    found = array(values)
    if found.ndim == 3 and found.shape[0] == 1:
        found = found[0]
    if found.dtype != np.bool_:
        raise TypeError(f"{name} must be bool, got {found.dtype}")
    if found.shape != shape:
        raise ValueError(f"{name} must have the image's shape {shape}, got {tuple(found.shape)}")
    return found


def label_map(name: str, values: Array, shape: tuple[int, ...]) -> npt.NDArray[np.int64]:
    """A (H, W) or (1, H, W) map of numbers from 0 on, or a bool mask, as (H, W) int64; raise unless it has `shape`."""
    found = array(values)
    if found.dtype != np.bool_ and not np.issubdtype(found.dtype, np.integer):
        raise TypeError(f"{name} must be bool or integers, got {found.dtype}")
    if found.size and found.min() < 0:
        raise ValueError(f"{name} must be numbers from 0 on, got {found.min()}")
    mask(name, found != 0, shape)
    return np.asarray(found.reshape(shape), dtype=np.int64)


def same_length(**sequences: Sequence[object] | npt.NDArray[Any] | torch.Tensor) -> int:
    """The common length of all sequences; raise ValueError when they differ or are empty."""
    lengths = {name: len(items) for name, items in sequences.items()}
    if len(set(lengths.values())) > 1 or 0 in lengths.values():
        found = ", ".join(f"{name} has {length}" for name, length in lengths.items())
        raise ValueError(f"{' and '.join(lengths)} must have one length of at least 1, got: {found}")
    return next(iter(lengths.values()))
