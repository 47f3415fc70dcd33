"""The papers' pairs of views, and views of images with masks, with strengths that suit each modality.

Every recipe is one call on a batch (B, C, H, W) of 1 or 3 channels and any range, on its device: crops, flips,
blurs, and GrayJitter in place of colour jitter, whose saturation and hue do nothing on gray images.
`modality` sets the strengths, each of which can be given instead. Those of photographs do not carry over: small
crops lose the lesion, and B-mode images have an upper side. Crops are resized without a low-pass filter, so
bring images to one to two times `size` beforehand, with antialiasing.
"""

from __future__ import annotations

import torch
from torch import nn

from ._local import intensity_only, local_pair
from ._multiview import MultiView, View
from ._pirl import pirl
from ._strengths import Range, Strengths, blurring, crop, flips, jitter, strengths
from .joint import segmentation
from .pairs import correspond

__all__ = ["byol", "correspond", "intensity_only", "local_pair", "moco_v2", "pirl", "segmentation", "simclr"]


def simclr(
    size: int,
    *,
    modality: str = "ultrasound",
    scale: Range | None = None,
    hflip: float | None = None,
    vflip: float = 0.0,
    brightness: float | None = None,
    contrast: float | None = None,
    blur: float | None = None,
    sigma: Range | None = None,
    generator: torch.Generator | None = None,
) -> MultiView:
    """SimCLR's pair: two draws of crop, flip, jitter (p = 0.8) and blur.

    The thesis' views of images of 110 x 110 are `simclr(64, scale=(0.08, 1), sigma=(0.1, 2))`, SimCLR's numbers
    where it prints none.

    Args:
        size: side of both views in pixels.
        modality: "ultrasound", "mr" or "mammography": what None stands for below. The documentation has a table of
            the numbers and their reasons.
        scale: least and greatest area of a crop as a share of the image; the ratio of its sides is 3/4 to 4/3.
        hflip: probability of a flip left to right.
        vflip: probability of a flip top to bottom. 0 on all modalities: B-mode has skin and probe at the top, and
            its shadows and attenuation run downwards.
        brightness: as in GrayJitter.
        contrast: as in GrayJitter.
        blur: probability of a Gaussian blur.
        sigma: least and greatest standard deviation of the blur, in pixels of the view. None for 0.1 to 2 at size
            224 and in proportion at others; the papers keep the pixels at every size.
        generator: as in MultiView.

    Returns:
        MultiView giving [view0, view1], both (B, C, size, size).

    Raises:
        TypeError: a setting is of another type.
        ValueError: a setting is out of range.

    Reference:
        Chen et al., "A simple framework for contrastive learning of visual representations", ICML 2020, appendix A,
        at half its colour strength or less.

    Example:
        >>> import torch
        >>> view0, view1 = simclr(64)(torch.rand(2, 1, 110, 110))
        >>> view0.shape, view1.shape
        (torch.Size([2, 1, 64, 64]), torch.Size([2, 1, 64, 64]))
    """
    chosen = strengths(modality, scale=scale, hflip=hflip, brightness=brightness, contrast=contrast, blur=blur)
    return _crops(size, chosen, vflip, (chosen.blur, chosen.blur), sigma, generator)


def moco_v2(
    size: int,
    *,
    modality: str = "ultrasound",
    scale: Range | None = None,
    hflip: float | None = None,
    vflip: float = 0.0,
    brightness: float | None = None,
    contrast: float | None = None,
    blur: float | None = None,
    sigma: Range | None = None,
    generator: torch.Generator | None = None,
) -> MultiView:
    """MoCo v2's pair (SimSiam's too), which on gray images is `simclr`'s.

    On photographs the two differ in the smallest crop and in colour strength; here the modality sets both.
    Figueiras et al. (SimCLR, MoCo v2 and SimSiam at 32 to 64 pixels) take MoCo v2's own numbers:
    `moco_v2(64, scale=(0.2, 1), sigma=(0.1, 2))`.

    Args:
        size: as in `simclr`.
        modality: as in `simclr`.
        scale: as in `simclr`.
        hflip: as in `simclr`.
        vflip: as in `simclr`.
        brightness: as in `simclr`.
        contrast: as in `simclr`.
        blur: as in `simclr`.
        sigma: as in `simclr`.
        generator: as in MultiView.

    Returns:
        MultiView giving [query, key], both (B, C, size, size).

    Raises:
        TypeError: a setting is of another type.
        ValueError: a setting is out of range.

    Reference:
        Chen et al., "Improved baselines with momentum contrastive learning", 2020.

    Example:
        >>> import torch
        >>> query, key = moco_v2(32, modality="mr")(torch.randn(2, 1, 48, 48))
        >>> query.shape
        torch.Size([2, 1, 32, 32])
    """
    return simclr(
        size,
        modality=modality,
        scale=scale,
        hflip=hflip,
        vflip=vflip,
        brightness=brightness,
        contrast=contrast,
        blur=blur,
        sigma=sigma,
        generator=generator,
    )


def byol(
    size: int,
    *,
    modality: str = "ultrasound",
    scale: Range | None = None,
    hflip: float | None = None,
    vflip: float = 0.0,
    brightness: float | None = None,
    contrast: float | None = None,
    blur: tuple[float, float] | None = None,
    sigma: Range | None = None,
    generator: torch.Generator | None = None,
) -> MultiView:
    """BYOL's pair: `simclr`'s with the first view always blurred and the second seldom.

    BYOL solarises the second view as well. That inverts all values above a threshold; in ultrasound, bright
    reflectors would turn black like the shadows behind them, which no setting of a scanner does. It is left out.

    Args:
        size: as in `simclr`.
        modality: as in `simclr`.
        scale: as in `simclr`.
        hflip: as in `simclr`.
        vflip: as in `simclr`.
        brightness: as in `simclr`.
        contrast: as in `simclr`.
        blur: probability of a Gaussian blur of each view; None for BYOL's (1, 0.1), and (0, 0) on the modalities
            that are not blurred.
        sigma: as in `simclr`.
        generator: as in MultiView.

    Returns:
        MultiView giving [view0, view1], both (B, C, size, size).

    Raises:
        TypeError: a setting is of another type.
        ValueError: a setting is out of range.

    Reference:
        Grill et al., "Bootstrap your own latent", NeurIPS 2020, appendix B.

    Example:
        >>> import torch
        >>> view0, view1 = byol(64)(torch.rand(2, 1, 110, 110))
        >>> view0.shape
        torch.Size([2, 1, 64, 64])
    """
    chosen = strengths(modality, scale=scale, hflip=hflip, brightness=brightness, contrast=contrast)
    if blur is None:
        blur = (1.0, 0.1) if chosen.blur else (0.0, 0.0)
    if not isinstance(blur, (tuple, list)) or len(blur) != 2:
        raise ValueError(f"blur must be a pair of probabilities, one for each view, got {blur!r}")
    return _crops(size, chosen, vflip, blur, sigma, generator)


def _crops(
    size: int,
    chosen: Strengths,
    vflip: float,
    blurs: tuple[float, float],
    sigma: Range | None,
    generator: torch.Generator | None,
) -> MultiView:
    def view(blur: float) -> nn.Module:
        return View(
            crop(size, scale=chosen.scale),
            *flips(hflip=chosen.hflip, vflip=vflip),
            jitter(chosen),
            *blurring(size, probability=blur, sigma=sigma),
        )

    return MultiView(view(blurs[0]), view(blurs[1]), generator=generator)
