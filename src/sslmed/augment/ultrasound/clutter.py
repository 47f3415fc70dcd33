"""Echoes that took another way: Haze and Reverberation.

They arrive out of step with the tissue's echoes, so their powers add, and most where the tissue's echoes are weak: they
fill cysts and vessels and leave bright tissue as it is. `functional.add_power` does that on a log-compressed image, and
leaves alone what surrounds the field of view. For a > 0, T(a x + b) = a T(x) + b.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..._checks import integer
from ..._compat import moved
from .._base import Intensity
from .._draws import Params
from .._fields import SEED_DRAWS, seed_from
from .._ranges import interval, spread
from ._beams import Apex, apex_or_none, beams, deeper
from ._levels import NEPER, add_power, dynamic_range, echo_power
from ._speckle import speckle_intensity

# Of the image's height and width: the clutter's texture, wider than the tissue's speckle.
_GRAIN = (0.006, 0.02)


class Haze(Intensity):
    """Lay a veil of clutter over the near field, as multiple reflections in the body wall do.

    The veil's mean power is `level_db` relative to white at the probe's face and falls exponentially with depth. Half
    of it is even, half is a speckle of its own, so it is grainy but has no black nulls.

    Args:
        level_db: (least, greatest) mean level at the probe's face in decibels relative to the image's greatest value,
            drawn uniformly; at most 100.
        reach: (least, greatest) depth over which the clutter's amplitude falls to 1 / e, 8.7 dB, in the image's depth,
            above 0; drawn uniformly.
        apex: None for beams straight down, as of a linear array. For a sector the point where its beams meet, (x, y)
            in fractions of the image's width and height from the upper left corner; y < 0 is above the image, as for
            a curved array, and y < 1.
        dynamic_range_db: decibels from the image's least value to its greatest, in (0, 200].
        p: probability that an image is changed.
        same_on_batch: one draw for the whole batch.
        keepdim: give (C, H, W) back for (C, H, W).
        generator: CPU generator of the draws; None for torch's global one.

    Parameters (of `forward_parameters`):
        level_db, reach: (B,).
        seed: (B, 2) int32, of the texture.

    Raises:
        TypeError, ValueError: a setting out of range.

    Reference:
        Lediju et al., "Quantitative assessment of the magnitude, impact and spatial extent of ultrasonic clutter",
        Ultrasonic Imaging 30, 2008 (clutter in the bladder 0 to -30 dB relative to its wall); Byram and Shu,
        "Pseudononlinear ultrasound simulation approach for reverberation clutter", J. Medical Imaging 3, 2016
        (exponential in depth). As an augmentation: Østvik et al., IEEE TMI 40, 2021 (a band of noise at some radius).
        The grain, 0.6 % of the height and 2 % of the width, is a choice made here.

    Example:
        >>> import torch
        >>> x = torch.zeros(1, 1, 64, 64)
        >>> x[:, :, [0, -1]], x[..., [0, -1]] = 1.0, 1.0  # a black cyst with a white wall
        >>> y = Haze()(x)[0, 0, 1:-1, 1:-1]
        >>> bool(y[:8].mean() > y[-8:].mean())
        True
    """

    names: tuple[str, ...] = ("level_db", "reach", "seed")

    def __init__(
        self,
        *,
        level_db: tuple[float, float] = (-45.0, -25.0),
        reach: tuple[float, float] = (0.08, 0.25),
        apex: tuple[float, float] | None = None,
        dynamic_range_db: float = 60.0,
        p: float = 1.0,
        same_on_batch: bool = False,
        keepdim: bool = False,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(p=p, same_on_batch=same_on_batch, keepdim=keepdim, generator=generator)
        self.level_db: tuple[float, float] = interval("level_db", level_db, low=-math.inf, high=100)
        self.reach: tuple[float, float] = interval("reach", reach, low_open=True)
        self.apex: Apex = apex_or_none(apex)
        self.dynamic_range_db: float = dynamic_range(dynamic_range_db)

    def extra_repr(self) -> str:
        """Settings, for `repr`."""
        return (
            f"level_db={self.level_db}, reach={self.reach}, apex={self.apex}, "
            f"dynamic_range_db={self.dynamic_range_db:g}, {super().extra_repr()}"
        )

    def draws(self) -> int:
        """Level, reach and a seed."""
        return 2 + SEED_DRAWS

    def parameters_from(self, u: Tensor, size: tuple[int, int]) -> Params:
        """Map uniforms (B, 4) to levels, reaches and seeds."""
        return {
            "level_db": spread(u[:, 0], self.level_db),
            "reach": spread(u[:, 1], self.reach),
            "seed": seed_from(u[:, 2:]),
        }

    def transform(self, x: Tensor, params: Params) -> Tensor:
        """Veil every row."""
        size = (x.shape[2], x.shape[3])
        level_db, reach, seed = (moved(params[name], x.device) for name in self.names)
        depth, _ = beams(size, apex=self.apex, device=x.device)
        nepers = (level_db + self.dynamic_range_db).view(-1, 1, 1, 1) * NEPER
        mean = (nepers - 2 * depth.clamp(min=0) / reach.view(-1, 1, 1, 1)).exp()
        axial, lateral = (torch.zeros_like(reach) + part * n for part, n in zip(_GRAIN, size, strict=True))
        power = (0.5 + 0.5 * speckle_intensity(seed, axial, lateral, size)) * mean
        return add_power(x, power, dynamic_range_db=self.dynamic_range_db)


class Reverberation(Intensity):
    """Repeat the image deeper and weaker, as sound does that bounces between the probe and a reflector.

    A reflector at depth d sends part of the sound back and forth to the probe's face, so every echo is followed by
    copies d, 2 d, 3 d ... deeper, each weaker by `loss_db`. What shows are copies of bright lines (skin, fascia, a
    needle, the pleura's A-lines) where the image is dark. Reflections between the copies and the tissue are left out.

    Args:
        spacing: (least, greatest) d as a share of the image's depth, in (0, 1], drawn uniformly. For beams straight
            down it is rounded to rows, at least one.
        loss_db: (least, greatest) loss of a bounce in decibels of the amplitude, at least 0, drawn uniformly.
        copies: how many, at least 1.
        apex: None for beams straight down, as of a linear array. For a sector the point where its beams meet, (x, y)
            in fractions of the image's width and height from the upper left corner; y < 0 is above the image, as for
            a curved array, and y < 1. There copies are shifted by bilinear interpolation.
        dynamic_range_db: decibels from the image's least value to its greatest, in (0, 200].
        p: probability that an image is changed.
        same_on_batch: one draw for the whole batch.
        keepdim: give (C, H, W) back for (C, H, W).
        generator: CPU generator of the draws; None for torch's global one.

    Parameters (of `forward_parameters`):
        spacing, loss_db: (B,).

    Raises:
        TypeError, ValueError: a setting out of range.

    Reference:
        Feldman et al., "US artifacts", RadioGraphics 29, 2009 (reverberation). As an augmentation: Tirindelli et al.,
        "Rethinking ultrasound augmentation: A physics-inspired approach", MICCAI 2021 (copies of a bone's echo). That
        all echoes are repeated, and powers add, are choices made here.

    Example:
        >>> import torch
        >>> x = torch.zeros(1, 1, 8, 3)  # a white line in a black cyst between gray walls
        >>> x[:, :, 7], x[..., [0, 2]], x[:, :, 1] = 30.0, 30.0, 60.0
        >>> y = Reverberation(spacing=(0.25, 0.25), loss_db=(20.0, 20.0), copies=2)(x)
        >>> y[0, 0, :, 1].round(decimals=1)
        tensor([ 0., 60.,  0., 40.,  0., 20.,  0., 30.])
    """

    names: tuple[str, ...] = ("spacing", "loss_db")

    def __init__(
        self,
        *,
        spacing: tuple[float, float] = (0.08, 0.25),
        loss_db: tuple[float, float] = (15.0, 30.0),
        copies: int = 3,
        apex: tuple[float, float] | None = None,
        dynamic_range_db: float = 60.0,
        p: float = 1.0,
        same_on_batch: bool = False,
        keepdim: bool = False,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(p=p, same_on_batch=same_on_batch, keepdim=keepdim, generator=generator)
        self.spacing: tuple[float, float] = interval("spacing", spacing, low_open=True, high=1)
        self.loss_db: tuple[float, float] = interval("loss_db", loss_db)
        self.copies: int = integer("copies", copies, low=1)
        self.apex: Apex = apex_or_none(apex)
        self.dynamic_range_db: float = dynamic_range(dynamic_range_db)

    def extra_repr(self) -> str:
        """Settings, for `repr`."""
        return (
            f"spacing={self.spacing}, loss_db={self.loss_db}, copies={self.copies}, apex={self.apex}, "
            f"dynamic_range_db={self.dynamic_range_db:g}, {super().extra_repr()}"
        )

    def draws(self) -> int:
        """Spacing and loss."""
        return 2

    def parameters_from(self, u: Tensor, size: tuple[int, int]) -> Params:
        """Map uniforms (B, 2) to spacings and losses."""
        return {"spacing": spread(u[:, 0], self.spacing), "loss_db": spread(u[:, 1], self.loss_db)}

    def transform(self, x: Tensor, params: Params) -> Tensor:
        """Repeat every row's echoes."""
        spacing, loss_db = (moved(params[name], x.device) for name in self.names)
        echoes = echo_power(x, dynamic_range_db=self.dynamic_range_db)
        power = torch.zeros_like(echoes)
        for k in range(1, self.copies + 1):
            passed = (loss_db * (-k * NEPER)).exp().to(x.dtype).view(-1, 1, 1, 1)
            power = torch.addcmul(power, deeper(echoes, spacing, k, apex=self.apex), passed)
        return add_power(x, power, dynamic_range_db=self.dynamic_range_db)
