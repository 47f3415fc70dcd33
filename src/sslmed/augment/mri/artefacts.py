"""Artefacts of MR scanners: GibbsRinging, KSpaceSpike and BiasField.

Each takes magnitude images, (B, C, H, W) with one 2-D slice a channel, in any units: for a > 0, T(a x + b) =
a T(x) + b, so min-max scaled, z-scored and 16-bit images get the same artefact. Nothing is clamped. Channels are
taken for contrasts of one scan: they share the artefact's place and shape, its size follows each channel.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..._checks import choice, integer
from ..._compat import moved
from .._base import Intensity
from .._draws import Params
from .._ranges import interval, spread
from ..frequency import apply_spectral_mask
from ._bias import apply_bias_field, bias_field, terms
from ._kspace import acquired_matrix, add_spikes

_AXES = ("random", "height", "width", "both")


class GibbsRinging(Intensity):
    """Ring and blur as an image does whose matrix was acquired smaller and filled with zeros.

    k-space beyond a part of the highest frequency is removed. Edges overshoot by about 9 % of their height and
    ring with a period of 2 / part pixels. The mean is kept. The truncation is that of the magnitude image, as if
    its phase were constant; next to bright edges values fall below the image's least one, where a scanner's
    magnitude would fold them up.

    Args:
        part: (least, greatest) acquired part of the frequencies along an axis, in (0, 1]; drawn uniformly.
        axis: which axis is truncated: "height", "width", "both" (by one part), or "random", one of the two with
            equal chances, as scanners save time along the phase-encoding axis alone.
        p: probability that an image is changed.
        same_on_batch: one draw for the whole batch.
        keepdim: give (C, H, W) back for (C, H, W).
        generator: CPU generator of the draws; None for torch's global one.

    Parameters (of `forward_parameters`):
        height, width: (B,) acquired parts, 1 for an axis that is left alone.

    Raises:
        ValueError: a range or an axis that is none.

    Reference:
        Czervionke et al., "Characteristic features of MR truncation artifacts", AJR 151, 1988; Morelli et al.,
        "An image-based approach to understanding the physics of MR artifacts", RadioGraphics 31, 2011.

    Example:
        >>> import torch
        >>> x = torch.zeros(1, 1, 64, 64)
        >>> x[..., 16:48] = 1.0
        >>> y = GibbsRinging(part=(0.25, 0.25), axis="width")(x)
        >>> print(f"{y.max():.3f} {y.min():.3f} {y.mean():.3f}")
        1.087 -0.087 0.500
    """

    names: tuple[str, ...] = ("height", "width")

    def __init__(
        self,
        *,
        part: tuple[float, float] = (0.4, 0.8),
        axis: str = "random",
        p: float = 1.0,
        same_on_batch: bool = False,
        keepdim: bool = False,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(p=p, same_on_batch=same_on_batch, keepdim=keepdim, generator=generator)
        self.part: tuple[float, float] = interval("part", part, low_open=True, high=1)
        self.axis: str = choice("axis", axis, _AXES)

    def extra_repr(self) -> str:
        """Settings, for `repr`."""
        return f"part={self.part}, axis={self.axis!r}, {super().extra_repr()}"

    def draws(self) -> int:
        """A part and an axis."""
        return 2

    def parameters_from(self, u: Tensor, size: tuple[int, int]) -> Params:
        """Map uniforms (B, 2) to acquired parts."""
        part, whole = spread(u[:, 0], self.part), torch.ones_like(u[:, 0])
        if self.axis == "random":
            first = u[:, 1] < 0.5
            return {"height": torch.where(first, part, whole), "width": torch.where(first, whole, part)}
        return {name: part if self.axis in (name, "both") else whole for name in self.names}

    def transform(self, x: Tensor, params: Params) -> Tensor:
        """Truncate every row."""
        height, width = (moved(params[name], x.device) for name in self.names)
        return apply_spectral_mask(x, acquired_matrix((x.shape[2], x.shape[3]), height, width))


class KSpaceSpike(Intensity):
    """Lay stripes over the image, as a discharge during the acquisition of a k-space sample does.

    Spikes lie anywhere in k-space with equal chances per area between the two radii, and never nearer to 0 than one
    bin of the shorter side. The scanner's magnitude of image and stripes is linearised: stripes are added, and in
    air, where a magnitude would show their absolute value, values fall below the image's least one.

    Args:
        spikes: number of spikes in an image.
        amplitude: (least, greatest) height of a spike's stripes, in standard deviations of each channel; drawn
            uniformly.
        radius: (least, greatest) distance from the centre of k-space, as a part of the highest frequency along each
            axis, in (0, 1].
        p: probability that an image is changed.
        same_on_batch: one draw for the whole batch.
        keepdim: give (C, H, W) back for (C, H, W).
        generator: CPU generator of the draws; None for torch's global one.

    Parameters (of `forward_parameters`):
        bins: (B, spikes, 2) int64 frequencies (u, v) in cycles per image.
        amplitude: (B, spikes) in standard deviations.
        phase: (B, spikes) in radians.

    Raises:
        TypeError, ValueError: a setting out of range, or an image with a side below 2 pixels.

    Reference:
        Graves and Mitchell, "Body MRI artifacts in clinical practice", JMRI 38, 2013 (herringbone artefact).

    Example:
        >>> import torch
        >>> x = torch.randn(2, 1, 64, 64)
        >>> y = KSpaceSpike(amplitude=(0.5, 0.5))(x)
        >>> (torch.fft.rfft2(y - x).abs() > 1).sum((1, 2, 3)).max() <= 2  # a pair of bins, or one of the half
        tensor(True)
    """

    names: tuple[str, ...] = ("bins", "amplitude", "phase")

    def __init__(
        self,
        *,
        spikes: int = 1,
        amplitude: tuple[float, float] = (0.1, 0.5),
        radius: tuple[float, float] = (0.1, 0.9),
        p: float = 1.0,
        same_on_batch: bool = False,
        keepdim: bool = False,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(p=p, same_on_batch=same_on_batch, keepdim=keepdim, generator=generator)
        self.spikes: int = integer("spikes", spikes, low=1)
        self.amplitude: tuple[float, float] = interval("amplitude", amplitude)
        self.radius: tuple[float, float] = interval("radius", radius, low_open=True, high=1)

    def extra_repr(self) -> str:
        """Settings, for `repr`."""
        return f"spikes={self.spikes}, amplitude={self.amplitude}, radius={self.radius}, {super().extra_repr()}"

    def draws(self) -> int:
        """Radius, angle, amplitude and phase of each spike."""
        return 4 * self.spikes

    def parameters_from(self, u: Tensor, size: tuple[int, int]) -> Params:
        """Map uniforms (B, 4 n) to bins, amplitudes and phases."""
        if min(size) < 2:
            raise ValueError(f"images must be at least 2 pixels a side, got {size[0]} x {size[1]}")
        radius, angle, amplitude, phase = u.view(-1, self.spikes, 4).unbind(2)
        low = max(self.radius[0], 2 / min(size))
        squared = spread(radius, (low**2, max(self.radius[1], low) ** 2))
        # In float64 a bin is the same on every machine but for ties, which have no chance.
        r, turn = squared.double().sqrt(), math.pi * angle.double()
        bins = torch.stack([r * turn.sin() * (size[0] / 2), r * turn.cos() * (size[1] / 2)], dim=2)
        return {
            "bins": bins.round().long(),
            "amplitude": spread(amplitude, self.amplitude),
            "phase": 2 * math.pi * phase,
        }

    def transform(self, x: Tensor, params: Params) -> Tensor:
        """Add every row's waves."""
        bins, amplitude, phase = (moved(params[name], x.device) for name in self.names)
        return add_spikes(x, bins, amplitude, phase)


class BiasField(Intensity):
    """Brighten and darken the image smoothly, as the sensitivity of a coil does.

    Args:
        strength: (least, greatest) standard deviation of the field's logarithm over the image; drawn uniformly. At
            0.15 the field spans about +-20 % within the body, as BrainWeb's "40 %" fields do.
        order: of the polynomial, at least 1.
        p: probability that an image is changed.
        same_on_batch: one draw for the whole batch.
        keepdim: give (C, H, W) back for (C, H, W).
        generator: CPU generator of the draws; None for torch's global one.

    Parameters (of `forward_parameters`):
        coefficients: (B, K) of `bias_field`. They are drawn uniformly from an interval about 0, as in MONAI and
            TorchIO, and then scaled to the strength drawn.

    Raises:
        TypeError, ValueError: a setting out of range.

    Reference:
        Van Leemput et al., "Automated model-based bias field correction of MR images of the brain", IEEE TMI 18,
        1999 (exponential of a polynomial); Styner et al., "Parametric estimate of intensity inhomogeneities applied
        to MRI", IEEE TMI 19, 2000 (Legendre form).

    Example:
        >>> import torch
        >>> field = bias_field((64, 64), BiasField().forward_parameters((4, 1, 64, 64))["coefficients"])
        >>> torch.allclose(field.log().mean((1, 2, 3)), torch.zeros(4), atol=1e-6)
        True
    """

    names: tuple[str, ...] = ("coefficients",)

    def __init__(
        self,
        *,
        strength: tuple[float, float] = (0.05, 0.25),
        order: int = 3,
        p: float = 1.0,
        same_on_batch: bool = False,
        keepdim: bool = False,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(p=p, same_on_batch=same_on_batch, keepdim=keepdim, generator=generator)
        self.strength: tuple[float, float] = interval("strength", strength)
        self.order: int = integer("order", order, low=1)

    def extra_repr(self) -> str:
        """Settings, for `repr`."""
        return f"strength={self.strength}, order={self.order}, {super().extra_repr()}"

    def draws(self) -> int:
        """A strength and the coefficients."""
        return 1 + len(terms(self.order))

    def parameters_from(self, u: Tensor, size: tuple[int, int]) -> Params:
        """Map uniforms (B, 1 + K) to coefficients."""
        # Legendre polynomials are orthogonal: the mean square of P_i(y) P_j(x) is 1 / ((2 i + 1) (2 j + 1)).
        weights = [1 / ((2 * i + 1) * (2 * j + 1)) for i, j in terms(self.order)]
        raw = 2 * u[:, 1:] - 1
        deviation = (raw.square() * raw.new_tensor(weights)).sum(dim=1).sqrt().clamp(min=1e-6)
        return {"coefficients": raw * (spread(u[:, 0], self.strength) / deviation)[:, None]}

    def transform(self, x: Tensor, params: Params) -> Tensor:
        """Apply every row's field."""
        coefficients = moved(params["coefficients"].to(x.dtype), x.device)
        return apply_bias_field(x, bias_field((x.shape[2], x.shape[3]), coefficients))
