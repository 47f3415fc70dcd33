"""Echoes lost or gained along a probe's beams: AcousticShadow and DepthAttenuation.

Both add decibels to a log-compressed image, as `functional.apply_gain` does: black stays black, nothing is clamped to
white, and for a > 0, T(a x + b) = a T(x) + b. `dynamic_range_db` says how many decibels the image's own range, from
its least to its greatest value, stands for. A crop that misses the image's black or white changes that, so these
belong before crops where that matters.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..._checks import number
from ..._compat import moved
from .._base import Intensity
from .._draws import Params
from .._ranges import interval, spread
from ._beams import Apex, apex_or_none, beams
from ._levels import apply_gain, dynamic_range
from ._shadow import shadow_profile


class AcousticShadow(Intensity):
    """Darken a wedge or a strip along the beams, as behind a rib, a stone or gas.

    One obstacle a sample lies across the beams; `functional.shadow_profile` is the shape of its shadow. Behind a given
    mask, `functional.acoustic_shadow` does the same.

    Args:
        strength_db: (least, greatest) loss behind the obstacle in decibels of the echo's amplitude, at least 0.
        width: (least, greatest) width of the shadow, in (0, 1], as a share of the image's width, or, in a sector, of
            the angle between the beams through its lower corners.
        depth: (least, greatest) depth at which the obstacle lies, from 0 at the probe's face to 1 at the lower border.
        apex: None for beams straight down, as of a linear array. For a sector the point where its beams meet, (x, y)
            in fractions of the image's width and height from the upper left corner; y < 0 is above the image, as for
            a curved array, and y < 1.
        dynamic_range_db: decibels from the image's least value to its greatest, in (0, 200].
        p: probability that an image is changed.
        same_on_batch: one draw for the whole batch.
        keepdim: give (C, H, W) back for (C, H, W).
        generator: CPU generator of the draws; None for torch's global one.

    Parameters (of `forward_parameters`):
        beam: (B,) in [0, 1), the middle of the shadow: 0 and 1 for the beams through the lower corners.
        depth, width, strength_db: (B,). All are drawn uniformly. Set them to place a shadow.

    Raises:
        TypeError, ValueError: a setting out of range.

    Reference:
        Smistad et al., "Highlighting nerves and blood vessels for ultrasound-guided axillary nerve block procedures
        using neural networks", J. Medical Imaging 5, 2018 (dark Gaussian blobs); Singla et al., "Speckle and shadows:
        Ultrasound-specific physics-based data augmentation for kidney segmentation", MIDL 2022 (shadows along the
        beams). The profile and the loss in decibels are choices made here.

    Example:
        >>> import torch
        >>> x = torch.arange(61.0).repeat(1, 1, 64, 1)
        >>> augment = AcousticShadow(strength_db=(20.0, 20.0), depth=(0.5, 0.5))
        >>> params = augment.forward_parameters(x.shape) | {"beam": torch.tensor([0.9])}
        >>> lost = x - augment(x, params=params)
        >>> float(lost[..., :32, :].max()), round(float(lost.max()), 3)  # in front, behind
        (0.0, 20.0)
    """

    names: tuple[str, ...] = ("beam", "depth", "width", "strength_db")

    def __init__(
        self,
        *,
        strength_db: tuple[float, float] = (5.0, 20.0),
        width: tuple[float, float] = (0.1, 0.4),
        depth: tuple[float, float] = (0.1, 0.6),
        apex: tuple[float, float] | None = None,
        dynamic_range_db: float = 60.0,
        p: float = 1.0,
        same_on_batch: bool = False,
        keepdim: bool = False,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(p=p, same_on_batch=same_on_batch, keepdim=keepdim, generator=generator)
        self.strength_db: tuple[float, float] = interval("strength_db", strength_db)
        self.width: tuple[float, float] = interval("width", width, low_open=True, high=1)
        self.depth: tuple[float, float] = interval("depth", depth, high=1)
        self.apex: Apex = apex_or_none(apex)
        self.dynamic_range_db: float = dynamic_range(dynamic_range_db)

    def extra_repr(self) -> str:
        """Settings, for `repr`."""
        return (
            f"strength_db={self.strength_db}, width={self.width}, depth={self.depth}, apex={self.apex}, "
            f"dynamic_range_db={self.dynamic_range_db:g}, {super().extra_repr()}"
        )

    def draws(self) -> int:
        """One for each parameter."""
        return 4

    def parameters_from(self, u: Tensor, size: tuple[int, int]) -> Params:
        """Map uniforms (B, 4) to an obstacle."""
        return {
            "beam": u[:, 0].clone(),
            "depth": spread(u[:, 1], self.depth),
            "width": spread(u[:, 2], self.width),
            "strength_db": spread(u[:, 3], self.strength_db),
        }

    def transform(self, x: Tensor, params: Params) -> Tensor:
        """Shade every row."""
        place = (moved(params[name], x.device) for name in ("beam", "depth", "width"))
        profile = shadow_profile((x.shape[2], x.shape[3]), *place, apex=self.apex)
        loss_db = profile * moved(params["strength_db"], x.device).view(-1, 1, 1, 1)
        return apply_gain(x, -loss_db, dynamic_range_db=self.dynamic_range_db)


class DepthAttenuation(Intensity):
    """Darken or brighten with depth, as tissue does that attenuates more or less than the receiver's gain allows for.

    Time-gain compensation amplifies late echoes for a nominal attenuation. Tissue that attenuates by e dB / (cm MHz)
    more than that loses 2 e f z decibels at depth z and frequency f: there and back. A negative e brightens the depth.
    What grows brighter than white keeps its value, where a display would show white.

    Args:
        error_db_per_cm_mhz: (least, greatest) e, drawn uniformly. Soft tissues differ, as liver 0.5, breast 0.75 and
            muscle 1 dB / (cm MHz).
        frequency_mhz: f, the centre frequency of the echoes.
        depth_cm: depth of the lower border, straight below the apex in a sector.
        apex: None for beams straight down, as of a linear array. For a sector the point where its beams meet, (x, y)
            in fractions of the image's width and height from the upper left corner; y < 0 is above the image, as for
            a curved array, and y < 1.
        dynamic_range_db: decibels from the image's least value to its greatest, in (0, 200].
        p: probability that an image is changed.
        same_on_batch: one draw for the whole batch.
        keepdim: give (C, H, W) back for (C, H, W).
        generator: CPU generator of the draws; None for torch's global one.

    Parameters (of `forward_parameters`):
        error_db_per_cm_mhz: (B,).

    Raises:
        TypeError, ValueError: a setting out of range.

    Reference:
        Szabo, "Diagnostic ultrasound imaging: Inside out", 2nd ed., 2014, chapter 4 (attenuation linear in frequency
        and depth); Culjat et al., "A review of tissue substitutes for ultrasound imaging", Ultrasound in Medicine and
        Biology 36, 2010 (tissues). As an augmentation: Østvik et al., "Myocardial function imaging in echocardiography
        using deep learning", IEEE TMI 40, 2021 (radial attenuation of varying degree).

    Example:
        >>> import torch
        >>> x = torch.tensor([0.0, 60.0]).repeat(1, 1, 4, 1)  # in decibels
        >>> augment = DepthAttenuation(error_db_per_cm_mhz=(0.2, 0.2), frequency_mhz=5.0, depth_cm=4.0)
        >>> augment(x)[0, 0, :, 1]  # 2 * 0.2 * 5 * 4 = 8 dB at the lower border
        tensor([59., 57., 55., 53.])
    """

    names: tuple[str, ...] = ("error_db_per_cm_mhz",)

    def __init__(
        self,
        *,
        error_db_per_cm_mhz: tuple[float, float] = (-0.1, 0.1),
        frequency_mhz: float = 8.0,
        depth_cm: float = 4.0,
        apex: tuple[float, float] | None = None,
        dynamic_range_db: float = 60.0,
        p: float = 1.0,
        same_on_batch: bool = False,
        keepdim: bool = False,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(p=p, same_on_batch=same_on_batch, keepdim=keepdim, generator=generator)
        self.error_db_per_cm_mhz: tuple[float, float] = interval(
            "error_db_per_cm_mhz", error_db_per_cm_mhz, low=-math.inf
        )
        self.frequency_mhz: float = number("frequency_mhz", frequency_mhz, low=0, low_open=True)
        self.depth_cm: float = number("depth_cm", depth_cm, low=0, low_open=True)
        self.apex: Apex = apex_or_none(apex)
        self.dynamic_range_db: float = dynamic_range(dynamic_range_db)

    def extra_repr(self) -> str:
        """Settings, for `repr`."""
        return (
            f"error_db_per_cm_mhz={self.error_db_per_cm_mhz}, frequency_mhz={self.frequency_mhz:g}, "
            f"depth_cm={self.depth_cm:g}, apex={self.apex}, dynamic_range_db={self.dynamic_range_db:g}, "
            f"{super().extra_repr()}"
        )

    def draws(self) -> int:
        """The error."""
        return 1

    def parameters_from(self, u: Tensor, size: tuple[int, int]) -> Params:
        """Map uniforms (B, 1) to errors."""
        return {"error_db_per_cm_mhz": spread(u[:, 0], self.error_db_per_cm_mhz)}

    def transform(self, x: Tensor, params: Params) -> Tensor:
        """Attenuate every row."""
        depth, _ = beams((x.shape[2], x.shape[3]), apex=self.apex, device=x.device)
        error = moved(params["error_db_per_cm_mhz"], x.device).view(-1, 1, 1, 1)
        loss_db = depth.clamp(min=0) * (error * (2 * self.frequency_mhz * self.depth_cm))
        return apply_gain(x, -loss_db, dynamic_range_db=self.dynamic_range_db)
