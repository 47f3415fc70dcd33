"""What a scanner's k-space does to an image: a smaller matrix rings, a single sample draws stripes."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..._checks import floating, same_device, shaped
from ..._tensor import widest
from .._sizes import image_size


def acquired_matrix(size: tuple[int, int], height: Tensor, width: Tensor) -> Tensor:
    """Half-spectrum mask of the bins that a smaller matrix acquires.

    Bin (u, v) is acquired where |u| <= height * H / 2 and |v| <= width * W / 2: a rectangle about 0, symmetric
    so that the image stays real, unlike MONAI's GibbsNoise, which keeps a disc about half a bin off. A part that its
    dtype rounds down, as 0.7 in float32, still keeps the bin it ends on.

    Args:
        size: (H, W) of the image.
        height: (B,) acquired part of the frequencies along H, in [0, 1]; 1 keeps all.
        width: (B,) the same along W.

    Returns:
        keep (B, 1, H, W // 2 + 1) bool on the parts' device, in the layout of `torch.fft.rfft2`, for
        `apply_spectral_mask`.

    Raises:
        TypeError: a part is not floating point.
        ValueError: shapes or devices that do not fit.

    Example:
        >>> import torch
        >>> keep = acquired_matrix((8, 8), torch.tensor([0.5]), torch.tensor([1.0]))
        >>> keep[0, 0, :, 0].int()
        tensor([1, 1, 1, 0, 0, 0, 1, 1], dtype=torch.int32)
    """
    size = image_size(size)
    for name, part in (("height", height), ("width", width)):
        floating(name, part)
        shaped(name, part, "(B,)", ndim=1)
    if height.shape != width.shape:
        raise ValueError(f"height and width must have one length, got {len(height)} and {len(width)}")
    same_device(height=height, width=width)
    u = torch.arange(size[0], device=height.device)
    u = torch.minimum(u, size[0] - u)
    v = torch.arange(size[1] // 2 + 1, device=height.device)
    height, width = (part.double()[:, None] * (1 + torch.finfo(part.dtype).eps) for part in (height, width))
    rows, columns = u <= height * (size[0] / 2), v <= width * (size[1] / 2)
    return (rows[:, :, None] & columns[:, None, :]).unsqueeze(1)


def add_spikes(x: Tensor, bins: Tensor, amplitude: Tensor, phase: Tensor) -> Tensor:
    """Add what single k-space samples make of an image: plane waves.

    A sample at bin (u, v), and its conjugate at (-u, -v), adds A cos(2 pi (u i / H + v j / W) + phase) at row i,
    column j. The sum is worked out as such, without a Fourier transform.

    Args:
        x: (B, C, H, W) images, floating point, any range. Half precision is computed in float32.
        bins: (B, n, 2) integers (u, v).
        amplitude: (B, n) A, in standard deviations of each channel, which gradients take for constants.
        phase: (B, n) in radians.

    Returns:
        (B, C, H, W) of x's dtype; not clamped.

    Raises:
        TypeError: `x`, `amplitude` or `phase` is not floating point, or `bins` not of integers.
        ValueError: shapes or devices that do not fit.

    Example:
        >>> import torch
        >>> x = torch.tensor([[[[1.0, -1.0, 1.0, -1.0]]]])
        >>> add_spikes(x, torch.tensor([[[0, 1]]]), torch.tensor([[0.5]]), torch.tensor([[0.0]])).round(decimals=4)
        tensor([[[[ 1.5000, -1.0000,  0.5000, -1.0000]]]])
    """
    floating("x", x)
    shaped("x", x, "(B, C, H, W)", ndim=4)
    shaped("bins", bins, "(B, n, 2)", ndim=3)
    if bins.is_floating_point() or bins.is_complex() or bins.dtype == torch.bool:
        raise TypeError(f"bins must hold integers, got {bins.dtype}")
    if bins.shape[0] != x.shape[0] or bins.shape[2] != 2:
        raise ValueError(f"bins must have shape ({x.shape[0]}, n, 2), got {tuple(bins.shape)}")
    for name, value in (("amplitude", amplitude), ("phase", phase)):
        floating(name, value)
        if value.shape != bins.shape[:2]:
            raise ValueError(f"{name} must have shape {tuple(bins.shape[:2])}, got {tuple(value.shape)}")
    same_device(x=x, bins=bins, amplitude=amplitude, phase=phase)
    y = x.to(widest(x))
    if y.numel() == 0 or bins.shape[1] == 0:
        return x.clone()
    down, right = (_turns(bins[..., i].long(), x.shape[2 + i]).to(y) for i in (0, 1))
    down = down + phase.to(y)[..., None]
    flat = y.detach().flatten(2)
    # Tensor.std takes five times as long as these two passes.
    deviation = torch.linalg.vector_norm(flat - flat.mean(dim=2, keepdim=True), dim=2) / flat.shape[2] ** 0.5
    size = amplitude.to(y)[..., None] * deviation[:, None]  # (B, n, C)
    for k in range(bins.shape[1]):
        scale = size[:, k, :, None, None]
        rows, columns = down[:, k, None, :, None], right[:, k, None, None, :]
        y = torch.addcmul(y, scale * rows.cos(), columns.cos())
        y = torch.addcmul(y, scale * rows.sin(), columns.sin(), value=-1)
    return y.to(x.dtype)


def _turns(bins: Tensor, n: int) -> Tensor:
    """Angles 2 pi k i / n, (B, K, n), from whole numbers: exact however high the frequency."""
    return ((bins[..., None] * torch.arange(n, device=bins.device)) % n).double() * (2 * math.pi / n)
