"""The pure functions behind the augmentations."""

from __future__ import annotations

from ._beams import beams
from ._bias import apply_bias_field, bias_field
from ._kspace import acquired_matrix, add_spikes
from ._levels import add_power, apply_gain, echo_power
from ._patches import join_patches, permute_patches, split_patches
from ._shadow import acoustic_shadow, shadow_profile
from ._speckle import reduce_speckle, speckle_intensity
from .frequency import apply_spectral_mask, band_stop_mask
from .intensity import gray_jitter
from .masking import mask_pixels
from .pairs import correspond

__all__ = [
    "acoustic_shadow",
    "acquired_matrix",
    "add_power",
    "add_spikes",
    "apply_bias_field",
    "apply_gain",
    "apply_spectral_mask",
    "band_stop_mask",
    "beams",
    "bias_field",
    "correspond",
    "echo_power",
    "gray_jitter",
    "join_patches",
    "mask_pixels",
    "permute_patches",
    "reduce_speckle",
    "shadow_profile",
    "speckle_intensity",
    "split_patches",
]
