"""Augmentations of image batches: (B, C, H, W) in, the same out; one draw for each sample; replayable."""

from __future__ import annotations

from . import functional, views
from .frequency import FrequencyBandStop
from .intensity import GrayJitter
from .jigsaw import CrossPatchJigsaw, PatchJigsaw
from .views import MultiView, PatchWise

__all__ = [
    "CrossPatchJigsaw",
    "FrequencyBandStop",
    "GrayJitter",
    "MultiView",
    "PatchJigsaw",
    "PatchWise",
    "functional",
    "views",
]
