"""GrayJitter: brightness, contrast and gamma for one channel or three, on any value range.

Brightness and contrast are those of torchvision's ColorJitter, without its clamp to [0, 1], so z-scored and
16-bit images are safe. Saturation and hue are left out: on gray images they change nothing (Ellis et al. list
them all the same). Without the clamp brightness and contrast commute, so the random order of ColorJitter has
no counterpart here.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .._checks import floating, number, same_shape, shaped
from .._compat import moved
from .._tensor import compute_dtype
from ._base import Intensity
from ._draws import Params

_LUMA = (0.2989, 0.587, 0.114)  # torchvision's rgb_to_grayscale


def gray_jitter(x: Tensor, brightness: Tensor, contrast: Tensor, gamma: Tensor | None = None) -> Tensor:
    """Apply gamma, contrast and brightness factors, in this order; 1 changes nothing.

    Args:
        x: (B, C, H, W) images with 1 or 3 channels, any range. Half precision is computed in float32.
        brightness: (B,) factor on all values.
        contrast: (B,) factor on the distance from the image's gray mean (of the luma on 3 channels).
        gamma: (B,) exponent on the image's own range: lo + (hi - lo) * ((x - lo) / (hi - lo)) ** gamma, with
            lo and hi its least and greatest value. None leaves it out.

    Returns:
        (B, C, H, W) of x's dtype; not clamped.

    Raises:
        TypeError: `x` is not floating point, or a factor no tensor.
        ValueError: another number of channels, or factors of another shape.

    Example:
        >>> import torch
        >>> x = torch.tensor([[[[0.0, 2.0]]]])
        >>> gray_jitter(x, torch.tensor([1.0]), torch.tensor([0.5]))
        tensor([[[[0.5000, 1.5000]]]])
    """
    floating("x", x)
    shaped("x", x, "(B, C, H, W)", ndim=4)
    if x.shape[1] not in (1, 3):
        raise ValueError(f"x must have 1 or 3 channels, got shape {tuple(x.shape)}")
    shaped("brightness", brightness, "(B,)", ndim=1)
    if brightness.shape[0] != x.shape[0]:
        raise ValueError(f"brightness must have shape ({x.shape[0]},), got {tuple(brightness.shape)}")
    for name, factor in (("contrast", contrast), ("gamma", brightness if gamma is None else gamma)):
        shaped(name, factor, "(B,)", ndim=1)
        same_shape("brightness", brightness, name, factor)
    y = x.to(compute_dtype(x))
    if y.numel() == 0:
        return x.clone()
    if gamma is not None:
        y = _gamma(y, moved(gamma.to(y.dtype), y.device).view(-1, 1, 1, 1))
    gray = y if y.shape[1] == 1 else _LUMA[0] * y[:, 0] + _LUMA[1] * y[:, 1] + _LUMA[2] * y[:, 2]
    scale, contrast = (moved(factor.to(y.dtype), y.device).view(-1, 1, 1, 1) for factor in (brightness, contrast))
    shift = scale * (1 - contrast) * gray.flatten(1).mean(dim=1).view(-1, 1, 1, 1)
    return (y * (scale * contrast)).add_(shift).to(x.dtype)


class GrayJitter(Intensity):
    """Random brightness, contrast and gamma, without clamping.

    Args:
        brightness: b in [0, 1]; the factor is drawn from U[1 - b, 1 + b].
        contrast: c in [0, 1]; the factor on the distance from the gray mean is drawn from U[1 - c, 1 + c].
        gamma: g >= 0; the exponent is drawn log-uniformly from [1 / (1 + g), 1 + g] and acts on the image's
            own range from least to greatest value, so it is defined on any data. 0 leaves gamma out.
        p: probability that an image is changed.
        same_on_batch: one draw for the whole batch.
        keepdim: give (C, H, W) back for (C, H, W).
        generator: CPU generator of the draws; None for torch's global one.

    Parameters (of `forward_parameters`):
        brightness, contrast, gamma: (B,) factors.

    Raises:
        ValueError: a strength out of range, or images with other than 1 or 3 channels.

    Reference:
        Ellis et al., ColorJitter(0.4, 0.4, 0.4, 0.4), of which only brightness and contrast act on gray images.

    Example:
        >>> import torch
        >>> x = torch.randn(4, 1, 32, 32) * 1000  # any range
        >>> GrayJitter(p=1.0)(x).shape
        torch.Size([4, 1, 32, 32])
    """

    names: tuple[str, ...] = ("brightness", "contrast", "gamma")

    def __init__(
        self,
        *,
        brightness: float = 0.4,
        contrast: float = 0.4,
        gamma: float = 0.0,
        p: float = 0.8,
        same_on_batch: bool = False,
        keepdim: bool = False,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(p=p, same_on_batch=same_on_batch, keepdim=keepdim, generator=generator)
        self.brightness: float = number("brightness", brightness, low=0, high=1)
        self.contrast: float = number("contrast", contrast, low=0, high=1)
        self.gamma: float = number("gamma", gamma, low=0)

    def extra_repr(self) -> str:
        """Settings, for `repr`."""
        strengths = f"brightness={self.brightness:g}, contrast={self.contrast:g}, gamma={self.gamma:g}"
        return f"{strengths}, {super().extra_repr()}"

    def draws(self) -> int:
        """One for each factor."""
        return 3

    def parameters_from(self, u: Tensor, size: tuple[int, int]) -> Params:
        """Map uniforms (B, 3) to factors."""
        centred = 2 * u - 1
        return {
            "brightness": 1 + self.brightness * centred[:, 0],
            "contrast": 1 + self.contrast * centred[:, 1],
            "gamma": (1 + self.gamma) ** centred[:, 2],
        }

    def transform(self, x: Tensor, params: Params) -> Tensor:
        """Change every row."""
        gamma = params["gamma"] if self.gamma > 0 else None
        return gray_jitter(x, params["brightness"], params["contrast"], gamma)


def _gamma(x: Tensor, exponent: Tensor) -> Tensor:
    low = x.detach().amin(dim=(1, 2, 3), keepdim=True)
    extent = x.detach().amax(dim=(1, 2, 3), keepdim=True) - low
    tiny = torch.finfo(x.dtype).tiny  # keeps a constant image and the gradient at the least value finite
    unit = ((x - low) / extent.clamp(min=tiny)).clamp(min=tiny)
    return low + extent * unit**exponent
