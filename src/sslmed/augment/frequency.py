"""Band-stop filtering by a ring and an X along the diagonals: FrequencyBandStop (Ellis et al., Fig. 2).

Bins of the image's own discrete Fourier transform are named by their integer frequencies (u, v), r^2 = u^2 +
v^2. The ring inner <= r <= outer is removed and, beyond it, an X of thickness t along both diagonals. The
paper keeps r < 10, draws radii in 10..100 and thicknesses in 0..10.

Choices where the paper leaves them open: the radii are two integer draws, sorted; the X appears where the
outer *radius* exceeds 20 (the paper's "diameter over 20" always holds); its width is ||u| - |v|| <= t / 2; on
images that are not square it follows their true diagonals |u| / H = |v| / W; the real part is kept and not
clamped, so values leave the input's range.
"""

from __future__ import annotations

import math
import warnings

import torch
from torch import Tensor

from .._checks import choice, floating, integer, number, same_device, same_shape, shaped
from .._compat import moved
from .._tensor import compute_dtype
from ._base import Intensity
from ._draws import Params
from ._sizes import image_size
from ._spectrum import bits, corner2, limits
from ._tracked import tracked

_DEFAULTS = {
    "bin": ((10, 100), (0, 10), 20),
    "nyquist": ((10 / 112, 100 / 112), (0, 10 / 112), 20 / 112),
}
_BLOCK_PIXELS = 1 << 17  # images and spectra of a block take 512 KiB each and stay in a core's cache
_BATCH_PIXELS = 1 << 21  # batches up to this size stay in the cache that cores share


def band_stop_mask(
    size: tuple[int, int],
    inner: Tensor | float,
    outer: Tensor | float,
    cross: Tensor | float,
    *,
    cross_from: float = 20,
) -> Tensor:
    """Half-spectrum mask of the bins that a ring and an X leave standing.

    Args:
        size: (H, W) of the image.
        inner: (B,) inner radius of the stopped ring, in bins. A number stands for a batch of one, here and
            below.
        outer: (B,) outer radius of the ring, in bins; the edge itself is stopped.
        cross: (B,) thickness t of the X, in bins of the shorter side; 0 means no X.
        cross_from: the X is there only where `outer` exceeds this radius, in bins.

    Returns:
        keep (B, 1, H, W // 2 + 1) bool on the radii's device, in the layout of `torch.fft.rfft2`. It is
        symmetric under (u, v) -> (-u, -v), so the filtered image is real.

    Raises:
        TypeError: a length is neither a real number nor a real tensor.
        ValueError: the lengths' shapes or devices differ, or a number is out of range. Tensors' values are
        not read.

    Reference:
        Ellis et al., frequency masking; Fig. 2 shows (20, 30, 2), (15, 40, 5) and (12, 50, 8).

    Example:
        >>> import torch
        >>> radii = torch.tensor([20, 15]), torch.tensor([30, 40])
        >>> keep = band_stop_mask((224, 224), *radii, torch.tensor([2, 5]))
        >>> keep.shape
        torch.Size([2, 1, 224, 113])
        >>> bool(keep[0, 0, 0, 19]), bool(keep[0, 0, 0, 20]), bool(keep[0, 0, 50, 51])
        (True, False, False)
    """
    size = image_size(size)
    number("cross_from", cross_from, low=0)
    if not isinstance(inner, Tensor) and not isinstance(outer, Tensor):
        _radius_range("inner, outer", (inner, outer), size)
    inner, outer, cross = _lengths("inner", inner), _lengths("outer", outer), _lengths("cross", cross)
    same_shape("inner", inner, "outer", outer)
    same_shape("inner", inner, "cross", cross)
    same_device(inner=inner, outer=outer, cross=cross)
    return bits(size, limits(size, inner, outer, cross, cross_from)).to(torch.bool)


def apply_spectral_mask(x: Tensor, keep: Tensor) -> Tensor:
    """Remove the frequencies that `keep` does not keep.

    Args:
        x: (B, C, H, W) images, floating point, any range. Half precision is computed in float32.
        keep: (B, 1, H, W // 2 + 1) bool, True where a bin of `torch.fft.rfft2` stays; 1 or C channels, and a
            batch of 1 serves all images.

    Returns:
        (B, C, H, W) filtered images of x's dtype; not clamped. Differentiable in `x`.

    Raises:
        TypeError: `x` is not floating point, or `keep` not bool.
        ValueError: the shapes do not fit, or the devices differ.

    Example:
        >>> import torch
        >>> x = torch.rand(2, 1, 32, 32)
        >>> keep = torch.zeros(2, 1, 32, 17, dtype=torch.bool)
        >>> keep[..., 0, 0] = True  # the mean alone
        >>> torch.allclose(apply_spectral_mask(x, keep), x.mean((2, 3), keepdim=True).expand_as(x), atol=1e-6)
        True
    """
    floating("x", x)
    shaped("x", x, "(B, C, H, W)", ndim=4)
    batch, channels, height, width = x.shape
    if not isinstance(keep, Tensor) or keep.dtype != torch.bool:
        raise TypeError(f"keep must be a bool tensor, got {getattr(keep, 'dtype', type(keep).__name__)}")
    fits = keep.ndim == 4 and tuple(keep.shape[2:]) == (height, width // 2 + 1)
    if not fits or keep.shape[0] not in (1, batch) or keep.shape[1] not in (1, channels):
        expected = f"({batch}, 1, {height}, {width // 2 + 1})"
        raise ValueError(f"keep must have shape {expected} for x of shape {tuple(x.shape)}, got {tuple(keep.shape)}")
    same_device(x=x, keep=keep)
    return _filtered(x, keep.to(torch.int8).neg_())


def _filtered(x: Tensor, stays: Tensor) -> Tensor:
    """Filter by integers `stays`, -1 where a bin stays and 0 elsewhere."""
    if x.numel() == 0:
        return x.clone()
    # Contiguous: the FFT of torch 2.5 fails on expanded images.
    work = x.to(compute_dtype(x)).contiguous()
    if work.dtype == torch.float32 and work.device.type == "cpu" and not tracked(work):
        return _filtered_in_blocks(work, stays).to(x.dtype)
    spectrum = torch.fft.rfft2(work).masked_fill(stays == 0, 0)
    filtered: Tensor = torch.fft.irfft2(spectrum, s=work.shape[-2:])
    return filtered.to(x.dtype)


def _filtered_in_blocks(x: Tensor, stays: Tensor) -> Tensor:
    """The same for float32 on the CPU and without a gradient, some images at a time."""
    batch, channels, height, width = x.shape
    step = max(1, _BLOCK_PIXELS * torch.get_num_threads() // (channels * height * width))
    blocks = [slice(start, start + step) for start in range(0, batch, step)]
    if x.numel() <= _BATCH_PIXELS:  # one transform of all rows: with `out=` it would copy its result
        spectra = x.new_empty((*x.shape[:-1], width // 2 + 1), dtype=torch.complex64)
        for block in blocks:
            spectra[block] = _stopped(x[block], stays[block] if len(stays) > 1 else stays)
        filtered: Tensor = torch.fft.irfft(spectra, n=width)
        return filtered
    out = torch.empty_like(x)
    for block in blocks:
        spectrum = _stopped(x[block], stays[block] if len(stays) > 1 else stays)
        # Its columns are contiguous; rows with such strides take longer to transform than to copy.
        torch.fft.irfft(spectrum.contiguous(), n=width, out=out[block])
    return out


def _stopped(x: Tensor, stays: Tensor) -> Tensor:
    """Spectrum of the rows (B, C, H, W // 2 + 1) of filtered images; columns are contiguous in memory."""
    spectrum = torch.fft.fft(torch.fft.rfft(x), dim=-2)  # axis by axis is faster than rfft2
    spectrum.view(torch.int64).bitwise_and_(stays)
    rows: Tensor = torch.fft.ifft(spectrum, dim=-2)
    return rows


class FrequencyBandStop(Intensity):
    """Remove a random ring of frequencies and, beyond it, an X along the diagonals.

    With `unit="bin"` a sample's radii are two integers drawn uniformly from `radius`, ends included, and
    sorted; the thickness is an integer drawn uniformly from `cross`. Bins belong to the image's own size: on
    224 pixels the default is the paper's; on images below 142 pixels a ring may lie beyond the spectrum, so that
    the image stays unchanged (36 % of the draws at 64 pixels), and a warning says so. There use
    `unit="nyquist"`: **all** lengths (`radius`, `cross`, `cross_from`, and the parameters inner, outer
    and cross) are fractions of min(H, W) / 2, drawn uniformly from the intervals, and the defaults are the
    paper's numbers on 224 pixels, divided by 112.

    Time follows the Fourier transform, which is fast for sizes without large prime factors: on processors 223 pixels,
    a prime, take three times as long as 224.

    Args:
        radius: (lowest, highest) radius; None for (10, 100) bins or (10 / 112, 100 / 112).
        cross: (thinnest, thickest) X; None for (0, 10) bins or (0, 10 / 112). Thickness 0 means no X.
        cross_from: the X is there only where the outer radius exceeds this; None for 20 bins or 20 / 112.
        unit: "bin" or "nyquist".
        p: probability that an image is filtered.
        same_on_batch: one draw for the whole batch.
        keepdim: give (C, H, W) back for (C, H, W).
        generator: CPU generator of the draws; None for torch's global one.

    Parameters (of `forward_parameters`):
        inner, outer, cross: (B,), int64 bins or float32 fractions.

    Raises:
        TypeError: a bin is no integer.
        ValueError: a range is negative or reversed, or lies wholly beyond the spectrum of the images given.

    Warns:
        UserWarning: part of the draws lies wholly beyond the spectrum of the images given.

    Reference:
        Ellis et al., frequency masking, Fig. 2; the module's docstring names the choices made.

    Example:
        >>> import torch
        >>> augment = FrequencyBandStop(generator=torch.Generator().manual_seed(0))
        >>> x = torch.rand(4, 1, 224, 224)
        >>> params = augment.forward_parameters(x.shape)
        >>> y = augment(x, params=params)
        >>> torch.equal(y, augment(x, params=params))
        True
        >>> torch.allclose(y.mean((2, 3)), x.mean((2, 3)))  # the mean is never filtered
        True
    """

    names: tuple[str, ...] = ("inner", "outer", "cross")

    def __init__(
        self,
        *,
        radius: tuple[float, float] | None = None,
        cross: tuple[float, float] | None = None,
        cross_from: float | None = None,
        unit: str = "bin",
        p: float = 1.0,
        same_on_batch: bool = False,
        keepdim: bool = False,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(p=p, same_on_batch=same_on_batch, keepdim=keepdim, generator=generator)
        self.unit: str = choice("unit", unit, ("bin", "nyquist"))
        whole, default = unit == "bin", _DEFAULTS[unit]
        self.radius: tuple[float, float] = _range("radius", default[0] if radius is None else radius, whole=whole)
        self.cross: tuple[float, float] = _range("cross", default[1] if cross is None else cross, whole=whole)
        self.cross_from: float = number("cross_from", default[2] if cross_from is None else cross_from, low=0)

    def extra_repr(self) -> str:
        """Settings, for `repr`."""
        lengths = f"radius={_brief(self.radius)}, cross={_brief(self.cross)}, cross_from={self.cross_from:.4g}"
        return f"{lengths}, unit={self.unit!r}, {super().extra_repr()}"

    def draws(self) -> int:
        """Two radii and a thickness."""
        return 3

    def parameters_from(self, u: Tensor, size: tuple[int, int]) -> Params:
        """Map uniforms (B, 3) to sorted radii and a thickness."""
        half = min(size) / 2 if self.unit == "nyquist" else 1
        _radius_range("radius", (self.radius[0] * half, self.radius[1] * half), size)
        if not torch.compiler.is_compiling():
            self._warn_of_idle_draws(size, half)
        whole = self.unit == "bin"
        inner, outer = _spread(u[:, :2], self.radius, whole=whole).aminmax(dim=1)
        return {"inner": inner, "outer": outer, "cross": _spread(u[:, 2], self.cross, whole=whole)}

    def _warn_of_idle_draws(self, size: tuple[int, int], half: float) -> None:
        """Warn where both radii may lie beyond the spectrum, which leaves the image as it is."""
        low, high = self.radius
        corner = corner2(size) ** 0.5 / half
        if high <= corner:
            return
        if self.unit == "bin":
            share = (high - math.floor(corner)) / (high - low + 1)
            remedy = f"unit='nyquist', whose radii follow the size, or radius=({low}, {math.floor(corner)})"
        else:
            share = (high - corner) / (high - low)
            remedy = f"radius=({low:.4g}, {math.floor(corner * 1000) / 1000})"
        warnings.warn(
            f"FrequencyBandStop leaves {share**2:.1%} of images of {size[0]} x {size[1]} unchanged: radius="
            f"{_brief(self.radius)} reaches beyond their spectrum, which ends at {corner:.4g} "
            f"{'bins' if self.unit == 'bin' else 'of min(H, W) / 2'}; use {remedy}",
            stacklevel=2,
        )

    def transform(self, x: Tensor, params: Params) -> Tensor:
        """Filter every row."""
        height, width = x.shape[-2:]
        inner, outer, cross = (params[name] for name in self.names)
        cross_from = self.cross_from
        if self.unit == "nyquist":
            half = min(height, width) / 2
            inner, outer, cross = (value.to(torch.float64) * half for value in (inner, outer, cross))
            cross_from = cross_from * half
        bounds = limits((height, width), inner, outer, cross, cross_from)  # they cross over in one copy
        return _filtered(x, bits((height, width), moved(bounds, x.device)))


def _lengths(name: str, value: Tensor | float) -> Tensor:
    if not isinstance(value, Tensor):
        number(name, value, low=0)
        return torch.tensor([value], dtype=torch.int64 if isinstance(value, int) else torch.float64)
    shaped(name, value, "(B,)", ndim=1)
    if value.dtype == torch.bool or value.is_complex():
        raise TypeError(f"{name} must hold real numbers, got {value.dtype}")
    return value.long() if not value.is_floating_point() else value


def _radius_range(name: str, radius: tuple[float, float], size: tuple[int, int]) -> None:
    low, high = radius
    if not 0 <= low <= high:
        raise ValueError(f"{name} must satisfy 0 <= inner <= outer, got {low:g} and {high:g}")
    if low**2 > corner2(size):
        raise ValueError(
            f"{name} lies beyond the spectrum of a {size[0]} x {size[1]} image, whose largest radius is "
            f"{corner2(size) ** 0.5:.1f} bins, got {low:g} to {high:g} bins; lower it or use unit='nyquist'"
        )


def _range(name: str, value: tuple[float, float], *, whole: bool) -> tuple[float, float]:
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise ValueError(f"{name} must be a pair (lowest, highest), got {value!r}")
    for i, end in enumerate(value):
        if whole:
            integer(f"{name}[{i}]", end, low=0)  # type: ignore[arg-type]
        else:
            number(f"{name}[{i}]", end, low=0)
    if value[0] > value[1]:
        raise ValueError(f"{name} must be a pair (lowest, highest), got {value!r}")
    return value[0], value[1]


def _spread(u: Tensor, ends: tuple[float, float], *, whole: bool) -> Tensor:
    """Map uniforms in [0, 1) to the interval `ends`, or to its integers with equal chances."""
    low, high = ends
    return low + (u * (high - low + 1)).long() if whole else low + u * (high - low)


def _brief(ends: tuple[float, float]) -> str:
    return f"({ends[0]:.4g}, {ends[1]:.4g})"
