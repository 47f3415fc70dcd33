"""Gray of a log-compressed image as decibels: gain, and echoes added in power.

A scanner displays the logarithm of the echo's amplitude: black to white spans its dynamic range R in dB. Here an
image's own least and greatest value stand for black and white, so one dB is (white - black) / R in whatever units
the image has, and for a > 0 all functions commute with x -> a x + b. Each channel has its own black and white: copies
of a gray image that were scaled apart, as for ImageNet weights, stay copies. Black and white are constants to
gradients. A constant image is all black and stays as it is.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..._checks import floating, number, same_device, shaped
from ..._tensor import compute_dtype

NEPER = math.log(10) / 10  # of power, per decibel
SURROUND = 0.01  # of the range: darker pixels may lie outside the field of view
_RIM = 64  # of the image's mean side, a 32nd: over it added power sets in at the field's border


def dynamic_range(value: float) -> float:
    """Return `value`; raise unless it is a number of decibels that single precision can hold as power."""
    return number("dynamic_range_db", value, low=0, low_open=True, high=200)


def apply_gain(x: Tensor, gain_db: Tensor, *, dynamic_range_db: float = 60.0) -> Tensor:
    """Multiply the echo amplitude: add `gain_db` to a log-compressed image, without whitening black.

    A level never changes by more than its own height above black. So attenuated echoes end in black, as below a
    scanner's noise; black, which is also what surrounds a sector, stays black; and an amplified level is doubled at
    the most. Levels above white are not clamped, where a display saturates.

    Args:
        x: (B, C, H, W) images, floating point, any range. Half precision is computed in float32.
        gain_db: (B, 1, H, W) decibels, negative to attenuate; any of B, H and W may be 1 and then serves all.
        dynamic_range_db: decibels from the image's least value to its greatest, in (0, 200].

    Returns:
        (B, C, H, W) of x's dtype.

    Raises:
        TypeError: `x` or `gain_db` is not floating point.
        ValueError: shapes or devices that do not fit, or a range that is none.

    Example:
        >>> import torch
        >>> x = torch.tensor([[[[0.0, 6.0, 30.0, 60.0]]]])
        >>> apply_gain(x, torch.full((1, 1, 1, 1), -12.0))
        tensor([[[[ 0.,  0., 18., 48.]]]])
        >>> apply_gain(x, torch.full((1, 1, 1, 1), 12.0))
        tensor([[[[ 0., 12., 42., 72.]]]])
    """
    floating("x", x)
    floating("gain_db", gain_db)
    shaped("x", x, "(B, C, H, W)", ndim=4)
    dynamic_range(dynamic_range_db)
    _fits("gain_db", gain_db, x, channels=(1,))
    if x.numel() == 0:
        return x.clone()
    work = x.to(compute_dtype(x))
    black, extent = black_and_extent(work)
    moved = torch.addcmul(work, gain_db.to(work), extent / dynamic_range_db)
    highest = work - black
    highest = highest + work
    return torch.maximum(moved, black).minimum(highest).to(x.dtype)


def echo_power(x: Tensor, *, dynamic_range_db: float = 60.0) -> Tensor:
    """Echo power above the one shown black, which is 1: 10^(level / 10) - 1, at white 10^(R / 10) - 1.

    Args:
        x: (B, C, H, W) log-compressed images, floating point, any range.
        dynamic_range_db: R, decibels from the image's least value to its greatest, in (0, 200].

    Returns:
        (B, C, H, W), at least float32; 0 where the image is black.

    Raises:
        TypeError: `x` is not floating point.
        ValueError: another number of dimensions, or a range that is none.

    Example:
        >>> import torch
        >>> echo_power(torch.tensor([[[[0.0, 10.0, 20.0]]]]), dynamic_range_db=20.0).round(decimals=4)
        tensor([[[[ 0.,  9., 99.]]]])
    """
    floating("x", x)
    shaped("x", x, "(B, C, H, W)", ndim=4)
    dynamic_range(dynamic_range_db)
    work = x.to(compute_dtype(x))
    if x.numel() == 0:
        return work.clone()
    black, extent = black_and_extent(work)
    return ((work - black) * (NEPER * dynamic_range_db / extent.clamp(min=_tiny(work)))).expm1()


def add_power(x: Tensor, power: Tensor, *, dynamic_range_db: float = 60.0) -> Tensor:
    """Add the power of other, incoherent echoes: level' = 10 log10(10^(level / 10) + power).

    What surrounds the field of view stays as it is: pixels within 1 % of black beyond which, in their row or in their
    column, all is black to an end. From there power sets in over a 32nd of the image's side. Dark pixels enclosed by
    brighter ones, as in a cyst, are lightened like others.

    Args:
        x: (B, C, H, W) log-compressed images, floating point, any range. Half precision is computed in float32.
        power: (B, 1 or C, H, W), at least 0, in units of the power shown black; any of B, H and W may be 1.
        dynamic_range_db: decibels from the image's least value to its greatest, in (0, 200].

    Returns:
        (B, C, H, W) of x's dtype. Where white receives power it exceeds x's greatest value, if by little: by 3 dB for
        as much power as its own.

    Raises:
        TypeError: `x` or `power` is not floating point.
        ValueError: shapes or devices that do not fit, or a range that is none.

    Example:
        >>> import torch
        >>> x = torch.tensor([[20.0, 20.0, 10.0, 0.0], [20.0, 0.0, 10.0, 0.0], [20.0, 20.0, 10.0, 0.0]])[None, None]
        >>> add_power(x, torch.full((1, 1, 1, 1), 10.0), dynamic_range_db=20.0)[0, 0, 1].round(decimals=2)
        tensor([20.4100, 10.4100, 13.0100,  0.0000])
    """
    floating("x", x)
    floating("power", power)
    shaped("x", x, "(B, C, H, W)", ndim=4)
    dynamic_range(dynamic_range_db)
    _fits("power", power, x, channels=(1, x.shape[1]))
    if x.numel() == 0:
        return x.clone()
    work = x.to(compute_dtype(x))
    black, extent = black_and_extent(work)
    height = work - black
    visible = field_of_view(height.detach() > SURROUND * extent)
    nepers = NEPER * dynamic_range_db / extent.clamp(min=_tiny(work))
    gain = (power.to(work) * visible * (height * -nepers).exp()).log1p()
    return torch.addcmul(work, gain, extent / (NEPER * dynamic_range_db)).to(x.dtype)


def black_and_extent(x: Tensor) -> tuple[Tensor, Tensor]:
    """Least value and range of each channel of `x` (B, C, H, W), both (B, C, 1, 1)."""
    values = x.detach()
    black = values.amin(dim=(2, 3), keepdim=True)
    return black, values.amax(dim=(2, 3), keepdim=True) - black


def field_of_view(bright: Tensor) -> Tensor:
    """Weights (B, C, H, W): 0 outside the first and last bright pixel of row and column, 1 well inside.

    The border of a field that fades into black is ragged, so the weight grows over some pixels; not from the image's
    own border, where the field is cut off.
    """
    height, width = bright.shape[2:]
    rim = (height + width) / _RIM
    bright = bright.to(torch.int32)  # whose products and maxima are several times as fast as bool's
    sides = []
    away = 2 * (height + width)  # farther than the rim is wide, however narrow the image
    for dim, n in ((2, height), (3, width)):
        place = torch.arange(1, n + 1, device=bright.device, dtype=torch.int32)
        place = place.view(-1, 1) if dim == 2 else place
        after = (bright * place).amax(dim=dim, keepdim=True)  # 0 where none is bright
        before = n + 1 - (bright * (n + 1 - place)).amax(dim=dim, keepdim=True)
        after, before = torch.where(after == n, away, after), torch.where(before == 1, -away, before)
        sides.append(torch.minimum(after - place, place - before))
    return (torch.minimum(*sides) + 1).clamp(min=0).to(torch.float32).div_(rim).clamp_(max=1)


def _fits(name: str, field: Tensor, x: Tensor, *, channels: tuple[int, ...]) -> None:
    batch, _, height, width = x.shape
    fits = field.ndim == 4 and field.shape[1] in channels
    if not fits or any(field.shape[i] not in (1, x.shape[i]) for i in (0, 2, 3)):
        expected = f"({batch}, {' or '.join(str(c) for c in dict.fromkeys(channels))}, {height}, {width})"
        raise ValueError(f"{name} must have shape {expected}, got {tuple(field.shape)}")
    same_device(**{"x": x, name: field})


def _tiny(x: Tensor) -> float:
    return torch.finfo(x.dtype).tiny * 1e6  # its reciprocal, times decibels, stays finite
