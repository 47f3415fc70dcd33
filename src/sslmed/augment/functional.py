"""The pure functions behind the augmentations."""

from __future__ import annotations

from ._bias import apply_bias_field, bias_field
from ._kspace import acquired_matrix, add_spikes
from ._patches import join_patches, permute_patches, split_patches
from .frequency import apply_spectral_mask, band_stop_mask
from .intensity import gray_jitter
from .masking import mask_pixels
from .pairs import correspond

__all__ = [
    "acquired_matrix",
    "add_spikes",
    "apply_bias_field",
    "apply_spectral_mask",
    "band_stop_mask",
    "bias_field",
    "correspond",
    "gray_jitter",
    "join_patches",
    "mask_pixels",
    "permute_patches",
    "split_patches",
]
