"""How strongly a view may change an image of each modality, why, and the view built from it."""

from __future__ import annotations

import math
from typing import NamedTuple

from torch import nn

from .._checks import choice, integer, number
from ._blur import Blur
from ._geometry import Crop, Flip
from .intensity import GrayJitter

Range = tuple[float, float]


class Strengths(NamedTuple):
    """Defaults of one modality."""

    scale: Range  # area of a crop, as a share of the image
    hflip: float  # probability of a flip left to right
    brightness: float
    contrast: float
    blur: float  # probability of a blur


# No modality flips top to bottom. Crops of 0.08 to 1 of the area, as for photographs, show less than half of
# the lesion in 32 % of the views of BUSI (34 % BUS-BRA), of the hippocampus in 43 % of its MR slices.
MODALITIES = {
    # Scale: from 0.4 that share falls to 9 % (14 %). Flips: a turned probe mirrors the image left to right, but
    # skin is always at the top, and echoes weaken and shadows fall downwards. Brightness and contrast stand for
    # gain and dynamic range, which the operator sets: Ellis et al.'s strengths. Blur stands for the probe's
    # resolution: Figueiras et al. blur as MoCo v2 does.
    "ultrasound": Strengths(scale=(0.4, 1.0), hflip=0.5, brightness=0.4, contrast=0.4, blur=0.5),
    # Scale: from 0.5 that share falls to 17 %. Flips: none, as an abdomen's organs have their sides, and Umapathy
    # et al. flip nothing. Contrast is that of the references they build on (0.7 to 1.3), brightness the like.
    # They blur nothing.
    "mr": Strengths(scale=(0.5, 1.0), hflip=0.0, brightness=0.3, contrast=0.3, blur=0.0),
    # Chosen, not measured. Scale: much of a mammogram is air, and a small crop may hold nothing else. Flips: left
    # and right breast are mirror images; up and down tell lateral from medial (CC), and where the pectoral muscle
    # is (MLO). Exposure is automatic, so gain varies less. Blur wipes out microcalcifications.
    "mammography": Strengths(scale=(0.5, 1.0), hflip=0.5, brightness=0.2, contrast=0.2, blur=0.0),
}


def strengths(
    modality: str,
    *,
    scale: Range | None = None,
    hflip: float | None = None,
    brightness: float | None = None,
    contrast: float | None = None,
    blur: float | None = None,
) -> Strengths:
    """Defaults of `modality` with what is given in their place; raise ValueError where there are none."""
    default = MODALITIES[choice("modality", modality, tuple(MODALITIES))]
    return Strengths(
        scale=default.scale if scale is None else scale,
        hflip=default.hflip if hflip is None else hflip,
        brightness=default.brightness if brightness is None else brightness,
        contrast=default.contrast if contrast is None else contrast,
        blur=default.blur if blur is None else blur,
    )


def crop(size: int, *, scale: Range) -> nn.Module:
    """A random crop, resized to size x size."""
    return Crop(integer("size", size, low=2), scale=pair("scale", scale, high=1))


def flips(*, hflip: float, vflip: float) -> list[Flip]:
    """Flips; one of probability 0 is left out."""
    number("hflip", hflip, low=0, high=1)
    number("vflip", vflip, low=0, high=1)
    return [Flip(dim, p=p) for dim, p in ((3, hflip), (2, vflip)) if p]


def jitter(chosen: Strengths, *, p: float = 0.8) -> GrayJitter:
    """Brightness and contrast; p is SimCLR's and MoCo v2's."""
    return GrayJitter(brightness=chosen.brightness, contrast=chosen.contrast, p=p)


def blurring(size: int, *, probability: float, sigma: Range | None) -> list[Blur]:
    """Gaussian blur; one of probability 0 is left out."""
    number("blur", probability, low=0, high=1)
    # MoCo v2's and SimCLR's 0.1 to 2 pixels at 224, kept in proportion.
    blur = Blur(sigma=(0.1 * size / 224, 2 * size / 224) if sigma is None else pair("sigma", sigma), p=probability)
    if blur.reach >= size:
        raise ValueError(f"sigma must stay below a third of size {size}, got {sigma}")
    return [blur] if probability else []


def pair(name: str, value: Range, *, high: float = math.inf) -> Range:
    """Return a pair of numbers above 0 that does not decrease; raise otherwise."""
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise ValueError(f"{name} must be a pair (low, high), got {value!r}")
    first, last = (number(name, bound, low=0, high=high, low_open=True) for bound in value)
    if first > last:
        raise ValueError(f"{name} must not decrease, got {value!r}")
    return first, last
