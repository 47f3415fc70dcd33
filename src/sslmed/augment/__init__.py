"""Augmentations of image batches: (B, C, H, W) in, the same out; one draw for each sample; replayable."""

from __future__ import annotations

from . import functional, views
from ._multiview import MultiView, PatchWise
from .frequency import FrequencyBandStop
from .intensity import GrayJitter
from .jigsaw import CrossPatchJigsaw, PatchJigsaw
from .masking import RandomPatchMask, RandomPixelMask
from .mri import BiasField, GibbsRinging, KSpaceSpike
from .masking import RandomPatchMask, RandomPixelMask
from .mri import BiasField, GibbsRinging, KSpaceSpike

__all__ = [
    "BiasField",
    "BiasField",
    "CrossPatchJigsaw",
    "FrequencyBandStop",
    "GibbsRinging",
    "GibbsRinging",
    "GrayJitter",
    "KSpaceSpike",
    "KSpaceSpike",
    "MultiView",
    "PatchJigsaw",
    "PatchWise",
    "RandomPatchMask",
    "RandomPixelMask",
    "RandomPatchMask",
    "RandomPixelMask",
    "functional",
    "views",
]
