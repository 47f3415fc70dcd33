"""What a probe and its scanner add to B-mode images: shadows, attenuation, clutter, speckle."""

from __future__ import annotations

from .attenuation import AcousticShadow, DepthAttenuation
from .clutter import Haze, Reverberation
from .lesions import SyntheticLesions
from .speckle import Speckle

__all__ = [
    "AcousticShadow",
    "DepthAttenuation",
    "Haze",
    "Reverberation",
    "Speckle",
    "SyntheticLesions",
]
