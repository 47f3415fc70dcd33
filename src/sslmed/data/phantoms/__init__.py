"""Synthetic sets: anatomy drawn as a map of tissue, then imaged as the modality images it."""

from __future__ import annotations

from .mammogram_phantom import MammogramPhantom
from .mr_phantom import MRPhantom
from .phantom import Phantom

__all__ = [
    "MRPhantom",
    "MammogramPhantom",
    "Phantom",
]
