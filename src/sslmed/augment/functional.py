"""The pure functions behind the augmentations."""

from __future__ import annotations

from ._patches import join_patches, permute_patches, split_patches
from .frequency import apply_spectral_mask, band_stop_mask
from .intensity import gray_jitter

__all__ = [
    "apply_spectral_mask",
    "band_stop_mask",
    "gray_jitter",
    "join_patches",
    "permute_patches",
    "split_patches",
]
