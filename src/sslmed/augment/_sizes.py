"""The size of an image as an argument."""

from __future__ import annotations

import torch


def image_size(size: tuple[int, int]) -> tuple[int, int]:
    """Return `size`; raise unless it is (H, W), two integers above 0, in compiled graphs symbolic ones."""
    if not isinstance(size, (tuple, list)) or len(size) != 2:
        raise ValueError(f"size must be (H, W), got {size!r}")
    for i, n in enumerate(size):
        if isinstance(n, bool) or not isinstance(n, (int, torch.SymInt)):
            raise TypeError(f"size[{i}] must be an integer, got {n!r}")
        if n < 1:
            raise ValueError(f"size[{i}] must be at least 1, got {n}")
    return size[0], size[1]
