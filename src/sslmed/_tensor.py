"""Tensor functions that several subpackages share: the dtype to compute in, and rows of length 1."""

from __future__ import annotations

from typing import Any

import torch
from torch.autograd import Function

from ._compat import plain


def compute_dtype(*tensors: torch.Tensor) -> torch.dtype:
    """The dtype to compute these tensors in: the widest of their dtypes, at least float32."""
    dtype = torch.float32
    for x in tensors:
        dtype = torch.promote_types(dtype, x.dtype)
    return dtype


def unit_rows(x: torch.Tensor) -> torch.Tensor:
    """Scale the last dimension to length 1; a row of zeros is treated as if its length were 1.

    `F.normalize` divides a row of zeros by 1e-12, and so multiplies its gradient by 1e12, and it squares
    entries that may underflow. Here rows of zeros, of tiny and of huge entries are first scaled by their largest entry.
    """
    x = plain(x)
    if x.requires_grad and torch.is_grad_enabled() and eager(x):
        rows: torch.Tensor = _UnitRows.apply(x)
        return rows
    rows, _ = unit_rows_and_scale(x)
    return rows.clone() if rows is x else rows


def unit_rows_and_scale(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Unit rows as `unit_rows` makes them, and the factors (..., 1) that made them so.

    Rows that already have length 1 up to rounding may come back as they are.
    """
    ((rows, factor, scale),) = scaled_rows(x)
    return rows if factor is None else rows * factor, scale


def scaled_rows(*tensors: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor | None, torch.Tensor]]:
    """Rows of each tensor that are safe to multiply, and two factors (..., 1).

    The first factor makes unit rows of the returned rows, and is None where they are; the second makes them of the
    tensor's own.

    On a CPU lengths can be checked without waiting, and nearly all rows are safe as they are. Otherwise they are
    divided by their largest entry. The result does not depend on that scale, so no gradient needs to pass through it.
    The square of the length, unlike the length itself, has finite derivatives of all orders at a row of zeros.
    """
    if all(map(_can_be_measured, tensors)):
        lengths = [torch.linalg.vector_norm(x, dim=-1, keepdim=True) for x in tensors]
        low, high = map(float, (lengths[0] if len(lengths) == 1 else torch.cat(lengths)).aminmax())
        limits = torch.finfo(tensors[0].dtype)
        if 1 - 4 * limits.eps <= low and high <= 1 + 4 * limits.eps:
            return [(x, None, torch.ones_like(length)) for x, length in zip(tensors, lengths, strict=True)]
        # Between these, no product of two rows overflows, and entries whose products underflow are negligible.
        if limits.tiny**0.5 / limits.eps < low and high < limits.max**0.5 * limits.eps:
            factors = [length.reciprocal_() for length in lengths]
            return [(x, factor, factor) for x, factor in zip(tensors, factors, strict=True)]
    return [_scaled_by_largest(x) for x in tensors]


def _can_be_measured(x: torch.Tensor) -> bool:
    return bool(x.numel() and eager(x) and x.device.type == "cpu" and not (x.requires_grad and torch.is_grad_enabled()))


def _scaled_by_largest(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    largest = x.detach().abs().amax(dim=-1, keepdim=True)
    zero = largest == 0
    largest = largest.masked_fill(zero, 1)
    x = x / largest
    factor = x.square().sum(dim=-1, keepdim=True).masked_fill(zero, 1).rsqrt()
    return x, factor, (factor / largest).clamp_max(torch.finfo(x.dtype).max)


def gradient_of_rows(gradient: torch.Tensor, rows: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """The gradient of rows, from that of the unit rows which `scale` made of them."""
    along = (gradient * rows).sum(dim=-1, keepdim=True)
    return torch.addcmul(gradient, rows, along, value=-1).mul_(scale)


def eager(x: torch.Tensor) -> bool:
    """Whether `x` is an ordinary tensor outside compiled graphs and transforms."""
    return type(x) in (torch.Tensor, torch.nn.Parameter) and not torch.compiler.is_compiling() and not transformed()


def transformed() -> bool:
    """Whether a transform of `torch.func` (grad, vmap, jvp) or forward-mode differentiation is active.

    Autograd functions written in Python, such as the kernels of the losses, cannot follow these.
    """
    return torch._C._are_functorch_transforms_active() or torch.autograd.forward_ad._current_level >= 0


class _UnitRows(Function):
    """`unit_rows` with few passes in backward; second derivatives are those of the plain expression."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        rows, scale = unit_rows_and_scale(x)
        rows = rows.clone() if rows is x else rows
        ctx.save_for_backward(x, rows, scale)
        return rows

    @staticmethod
    def backward(ctx: Any, incoming: torch.Tensor) -> torch.Tensor:
        x, rows, scale = ctx.saved_tensors
        if (again := torch.is_grad_enabled()) or not eager(incoming):
            with torch.enable_grad():
                rows, _ = unit_rows_and_scale(x)
            gradient: torch.Tensor = torch.autograd.grad(rows, x, incoming, create_graph=again)[0]
            return gradient
        return gradient_of_rows(incoming, rows, scale)
