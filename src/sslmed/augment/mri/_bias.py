"""Smooth multiplicative fields of MR coils: the exponential of a polynomial in Legendre form.

The polynomial is summed by rows and columns, so a field of order n costs n multiplications a pixel and one
exponential.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..._checks import floating, same_device, shaped
from ..._tensor import compute_dtype
from .._sizes import image_size


def bias_field(size: tuple[int, int], coefficients: Tensor) -> Tensor:
    """Smooth positive field, the exponential of a polynomial in Legendre form.

    log f = sum c_ij P_i(y) P_j(x) over 1 <= i + j <= n, with y and x in (-1, 1) at the centres of the pixels, so a
    field does not depend on the resolution; then its mean is taken off, so the field's geometric mean is 1.

    Args:
        size: (H, W) of the image.
        coefficients: (B, K) c_01, c_02 ... c_0n, c_10, c_11 ... c_n0, K = (n + 1) (n + 2) / 2 - 1: 2, 5, 9, 14 ...

    Returns:
        (B, 1, H, W) field of the coefficients' dtype and device.

    Raises:
        TypeError: `coefficients` are not floating point.
        ValueError: a number of coefficients that belongs to no order.

    Example:
        >>> import torch
        >>> bias_field((1, 4), torch.tensor([[0.0, 1.0]])).log()  # P_1(y) alone, whose mean goes
        tensor([[[[0., 0., 0., 0.]]]])
        >>> bias_field((1, 4), torch.tensor([[1.0, 0.0]])).log().round(decimals=4)
        tensor([[[[-0.7500, -0.2500,  0.2500,  0.7500]]]])
    """
    size = image_size(size)
    floating("coefficients", coefficients)
    shaped("coefficients", coefficients, "(B, K)", ndim=2)
    order = (math.isqrt(9 + 8 * coefficients.shape[1]) - 3) // 2
    if order < 1 or len(terms(order)) != coefficients.shape[1]:
        raise ValueError(f"coefficients must have 2, 5, 9, 14 ... columns, got shape {tuple(coefficients.shape)}")
    down, right = (_legendre(n, order, coefficients) for n in size)
    sums = [torch.zeros_like(coefficients[:, :1]) for _ in range(order + 1)]
    for k, (i, j) in enumerate(terms(order)):
        sums[j] = sums[j] + coefficients[:, k, None] * down[i]
    mean = torch.stack([part.mean(dim=1) * row.mean() for part, row in zip(sums, right, strict=True)]).sum(dim=0)
    log = (sums[0] - mean[:, None])[:, :, None].expand(-1, size[0], size[1])
    for part, row in zip(sums[1:], right[1:], strict=True):
        log = torch.addcmul(log, part[:, :, None], row)
    return log.exp().unsqueeze(1)


def apply_bias_field(x: Tensor, field: Tensor) -> Tensor:
    """Multiply each channel's height above its least value: y = min + (x - min) f.

    The least value stands for air, which no coil brightens, whatever number the scaling of the image gave it. It is
    a constant to gradients.

    Args:
        x: (B, C, H, W) images, floating point, any range. Half precision is computed in float32.
        field: (B, 1, H, W) factors.

    Returns:
        (B, C, H, W) of x's dtype; not clamped.

    Raises:
        TypeError: `x` or `field` is not floating point.
        ValueError: shapes or devices that do not fit.

    Example:
        >>> import torch
        >>> apply_bias_field(torch.tensor([[[[-1.0, 1.0]]]]), torch.tensor([[[[1.5, 1.5]]]]))
        tensor([[[[-1.,  2.]]]])
    """
    floating("x", x)
    floating("field", field)
    shaped("x", x, "(B, C, H, W)", ndim=4)
    expected = (x.shape[0], 1, *x.shape[2:])
    if tuple(field.shape) != expected:
        raise ValueError(f"field must have shape {expected} for x of {tuple(x.shape)}, got {tuple(field.shape)}")
    same_device(x=x, field=field)
    if x.numel() == 0:
        return x.clone()
    work = x.to(compute_dtype(x))
    least = work.detach().amin(dim=(2, 3), keepdim=True)
    return torch.addcmul(least, work - least, field.to(work)).to(x.dtype)


def terms(order: int) -> list[tuple[int, int]]:
    return [(i, j) for i in range(order + 1) for j in range(order + 1 - i) if i + j > 0]


def _legendre(n: int, order: int, like: Tensor) -> list[Tensor]:
    """P_0 ... P_order at the centres of n pixels over (-1, 1), each (n,), by Bonnet's recursion."""
    t = ((2 * torch.arange(n, device=like.device) + 1).double() / n - 1).to(like.dtype)
    values = [torch.ones_like(t), t]
    for k in range(1, order):
        values.append(((2 * k + 1) * t * values[k] - k * values[k - 1]) / (k + 1))
    return values
