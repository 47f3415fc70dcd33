"""Augmentations of image batches: (B, C, H, W) in, the same out; one draw for each sample; replayable."""

from __future__ import annotations

from . import functional, views
from ._multiview import MultiView, PatchWise
from .frequency import FrequencyBandStop
from .intensity import GrayJitter
from .jigsaw import CrossPatchJigsaw, PatchJigsaw
from .masking import RandomPatchMask, RandomPixelMask
from .mri import BiasField, GibbsRinging, KSpaceSpike
from .ultrasound import AcousticShadow, DepthAttenuation, Haze, Reverberation, Speckle, SyntheticLesions

__all__ = [
    "AcousticShadow",
    "BiasField",
    "CrossPatchJigsaw",
    "DepthAttenuation",
    "FrequencyBandStop",
    "GibbsRinging",
    "GrayJitter",
    "Haze",
    "KSpaceSpike",
    "MultiView",
    "PatchJigsaw",
    "PatchWise",
    "RandomPatchMask",
    "RandomPixelMask",
    "Reverberation",
    "Speckle",
    "SyntheticLesions",
    "functional",
    "views",
]
