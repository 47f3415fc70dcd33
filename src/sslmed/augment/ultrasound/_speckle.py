"""Speckle: made as interference makes it, and reduced as Lee's filter does.

The echo of many unresolved scatterers is a complex Gaussian field, smoothed by the point-spread function; its
magnitude, which is shown, is Rayleigh distributed ("fully developed" speckle: Wagner et al., "Statistics of speckle in
ultrasound B-scans", IEEE Trans. Sonics and Ultrasonics 30, 1983). Speckle multiplies the amplitude; in the
logarithm, which B-mode shows, it adds, with a standard deviation of 5.57 dB wherever it is.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from ..._checks import floating, same_device, shaped
from ..._compat import moved
from ..._tensor import compute_dtype
from .._fields import uniform_field
from .._sizes import image_size
from ._levels import NEPER, black_and_extent

_EULER = 0.5772156649015329
MEAN_LOG_DB = -_EULER / NEPER  # mean of 10 log10 of an exponential variable of mean 1
_DEEPEST = 1e-3  # of the mean power: sharper nulls are finer than a pixel, and beyond single precision
_WINDOW = 3  # pixels to each side: 7 x 7, as in Lee's paper
_FLAT = 1e-6  # variance of the rounding to 8 bits, in the image's range: less is no speckle
_BLOCK_PIXELS = 200_000  # a block's field stays in a core's cache


def speckle_intensity(
    seed: Tensor, axial: Tensor, lateral: Tensor, size: tuple[int, int], *, device: torch.device | None = None
) -> Tensor:
    """Fully developed speckle: squared magnitude of complex Gaussian noise behind a Gaussian point-spread function.

    Exponentially distributed with mean 1 (the square root is Rayleigh, with a mean of 1.91 standard deviations); its
    autocovariance at a shift (dy, dx) is exp(-dy^2 / (2 axial^2) - dx^2 / (2 lateral^2)). It continues around the
    borders. Made in the Fourier domain from uniform noise: each pixel is a sum over all of it, and so Gaussian, as
    long as the point-spread function is much smaller than the image.

    Args:
        seed: (B, 2) int32.
        axial: (B,) standard deviation of the point-spread function along H, in pixels.
        lateral: (B,) the same along W.
        size: (H, W).
        device: where the field is made; None for seed's.

    Returns:
        (B, 1, H, W) float32, at least 0.001.

    Raises:
        TypeError: the seed is not int32, or a width not floating point.
        ValueError: shapes that do not fit.

    Example:
        >>> import torch
        >>> width = torch.tensor([1.0])
        >>> amplitude = speckle_intensity(torch.zeros(1, 2, dtype=torch.int32), width, width, (256, 256)).sqrt()
        >>> print(f"{amplitude.mean() / amplitude.std():.1f}")
        1.9
    """
    size = image_size(size)
    shaped("seed", seed, "(B, 2)", ndim=2)
    if seed.shape[1] != 2:
        raise ValueError(f"seed must have shape (B, 2), got {tuple(seed.shape)}")
    for name, width in (("axial", axial), ("lateral", lateral)):
        floating(name, width)
        if width.shape != seed.shape[:1]:
            raise ValueError(f"{name} must have shape ({seed.shape[0]},), got {tuple(width.shape)}")
    device = seed.device if device is None else torch.device(device)
    rows, columns = _transfer(moved(axial, device), size[0]), _transfer(moved(lateral, device), size[1])
    seed = moved(seed, device)
    # Not of no rows: Fourier transforms of an empty batch fail with some versions of MKL and cuFFT.
    if torch.compiler.is_compiling() or (device.type != "cpu" and len(seed)):
        return _intensity(seed, rows, columns)
    field = torch.empty(len(seed), 1, *size, dtype=torch.float32, device=device)
    step = max(1, _BLOCK_PIXELS * torch.get_num_threads() // max(1, size[0] * size[1]))
    for start in range(0, len(seed), step):
        block = slice(start, start + step)
        field[block] = _intensity(seed[block], rows[block], columns[block])
    return field


def _transfer(width: Tensor, n: int) -> Tensor:
    """Fourier transform (B, n) of a Gaussian of standard deviation `width` (B,), for a field of unit power."""
    k = torch.arange(n, device=width.device)
    frequency = torch.minimum(k, n - k).to(torch.float32) / n
    passed = (-2 * math.pi**2 * (width.to(torch.float32)[:, None] * frequency).square()).exp()
    norm: Tensor = torch.linalg.vector_norm(passed, dim=1, keepdim=True)
    return passed * (n / norm)


def _intensity(seed: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    noise = uniform_field(seed, (2, rows.shape[1], columns.shape[1]), seed.device)
    noise = (noise - 0.5) * (rows * math.sqrt(6))[:, None, :, None] * columns[:, None, None, :]
    field = torch.fft.ifft2(torch.complex(noise[:, 0], noise[:, 1]))
    power: Tensor = (field * field.conj()).real
    return power.clamp(min=_DEEPEST).unsqueeze(1)


def reduce_speckle(x: Tensor, strength: Tensor) -> Tensor:
    """Smooth where the image varies no more than its speckle does, and keep what varies more (Lee's filter).

    y = x + strength (m + k (x - m) - x), with m and v the mean and the variance in a window of 7 x 7 pixels, and k =
    max(0, 1 - n / v). The variance n of the speckle alone, in the logarithm the same all over, is taken to be the
    median of v over every fourth row and column, flat places left out. A level never changes by more than its own
    height above the image's least value, so what is black stays black.

    Args:
        x: (B, C, H, W) log-compressed images, floating point, any range. Half precision is computed in float32.
        strength: (B,) in [0, 1]; 0 changes nothing, 1 is the filter itself.

    Returns:
        (B, C, H, W) of x's dtype. n is a constant to gradients.

    Raises:
        TypeError: `x` or `strength` is not floating point.
        ValueError: shapes or devices that do not fit.

    Reference:
        Lee, "Digital image enhancement and noise filtering by use of local statistics", IEEE TPAMI 2, 1980, section
        on additive noise. Estimating n by the median, and the limit at black, are choices made here.

    Example:
        >>> import torch
        >>> x = torch.cat([torch.zeros(1, 1, 16, 8), torch.ones(1, 1, 16, 8)], dim=3)
        >>> y = reduce_speckle(x + 0.05 * torch.rand(1, 1, 16, 16), torch.ones(1))
        >>> bool((y[..., 7] < 0.2).all()) and bool((y[..., 8] > 0.8).all())  # the edge stays
        True
    """
    floating("x", x)
    floating("strength", strength)
    shaped("x", x, "(B, C, H, W)", ndim=4)
    if strength.shape != x.shape[:1]:
        raise ValueError(f"strength must have shape ({x.shape[0]},), got {tuple(strength.shape)}")
    same_device(x=x, strength=strength)
    if x.numel() == 0:
        return x.clone()
    work = x.to(compute_dtype(x))
    black, extent = black_and_extent(work)
    height = work - black
    unit = height / extent.clamp(min=torch.finfo(work.dtype).tiny)  # squares of any image's values are finite
    mean = _window_mean(unit)
    variance = (_window_mean(unit.square()) - mean.square()).clamp(min=0)
    sampled = variance.detach()[..., ::4, ::4].flatten(2)
    noise = torch.where(sampled > _FLAT, sampled, math.nan).nanmedian(dim=2).values.nan_to_num()[..., None, None]
    # Not a quotient that is clamped afterwards: where the variance is next to nothing, its gradient would overflow.
    smoothed = noise / torch.maximum(variance, noise.clamp(min=torch.finfo(work.dtype).tiny))
    change = smoothed * (mean - unit) * (extent * strength.to(work).view(-1, 1, 1, 1))
    return (work + change.clamp(-height, height)).to(x.dtype)


def _window_mean(x: Tensor) -> Tensor:
    """Mean over a square window, the border's pixels repeated beyond it. Sums of shifted views, as they are fast."""
    side = 2 * _WINDOW + 1
    x = F.pad(x, (_WINDOW, _WINDOW, _WINDOW, _WINDOW), mode="replicate")
    rows = x[..., : x.shape[2] - side + 1, :].clone()
    for shift in range(1, side):
        rows += x[..., shift : shift + rows.shape[2], :]
    columns = rows[..., : x.shape[3] - side + 1].clone()
    for shift in range(1, side):
        columns += rows[..., shift : shift + columns.shape[3]]
    return columns / side**2
