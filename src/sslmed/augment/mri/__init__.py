"""What an MR scanner adds to its images: ringing, spikes in k-space, bias fields."""

from __future__ import annotations

from .artefacts import BiasField, GibbsRinging, KSpaceSpike

__all__ = [
    "BiasField",
    "GibbsRinging",
    "KSpaceSpike",
]
