"""The pure functions behind the augmentations."""

from __future__ import annotations

from ._patches import join_patches, permute_patches, split_patches
from .frequency import apply_spectral_mask, band_stop_mask
from .intensity import gray_jitter
from .masking import mask_pixels
from .mri._bias import apply_bias_field, bias_field
from .mri._kspace import acquired_matrix, add_spikes
from .pairs import correspond
from .ultrasound._beams import beams
from .ultrasound._levels import add_power, apply_gain, echo_power
from .ultrasound._shadow import acoustic_shadow, shadow_profile
from .ultrasound._speckle import reduce_speckle, speckle_intensity

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
