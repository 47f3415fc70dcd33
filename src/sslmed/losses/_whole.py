"""The kernel of NT-Xent and of InfoNCE in the batch for small batches, whose matrix of similarities stays in the cache.

There the number of operations decides: one product, one exponential and one sum serve the whole matrix.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.autograd import Function

from .._compat import without_autocast
from .._tensor import compute_dtype, gradient_of_rows, transformed, unit_rows_and_scale
from ._blocked import LOG2_E, LOG_2, Gradients, cross_entropy, exp_is_safe, plain_gradients, savable

Plain = Callable[[torch.Tensor, torch.Tensor, float], torch.Tensor]


def whole_cross_entropy(
    x: torch.Tensor, y: torch.Tensor, temperature: float, plain: Plain, *, symmetric: bool
) -> torch.Tensor:
    """Mean cross-entropy of finding each row's partner.

    Args:
        x: (N, D), N >= 2.
        y: (N, D), row i is the partner of row i of `x`.
        temperature: T.
        plain: the plain expression, for second derivatives.
        symmetric: whether rows of both are sought among all other rows, as in NT-Xent; otherwise rows of `x` are sought
            among those of `y`, as in InfoNCE.

    Returns:
        A scalar.
    """
    if torch.is_grad_enabled() and (x.requires_grad or y.requires_grad):
        result: torch.Tensor = _Whole.apply(x, y, temperature, plain, symmetric)
        return result
    return _value(x, y, temperature, symmetric)[0]


class _Whole(Function):
    """The kernel of `whole_cross_entropy`."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, y: torch.Tensor, temperature: float, plain: Plain, symmetric: bool
    ) -> torch.Tensor:
        value, *kept = _value(x, y, temperature, symmetric)
        ctx.settings = temperature, plain, symmetric, not exp_is_safe(value.dtype, temperature)
        ctx.save_for_backward(savable(x), savable(y), *kept)
        return value

    @staticmethod
    def backward(ctx: Any, incoming: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        with without_autocast(incoming.device):
            if torch.is_grad_enabled() or transformed():
                x, y, *_ = ctx.saved_tensors
                needed, (temperature, plain, *_) = ctx.needs_input_grad[:2], ctx.settings
                return *plain_gradients(lambda: plain(x, y, temperature), (x, y), needed, incoming), None, None, None
            return *_gradients(ctx, incoming), None, None, None


def _gradients(ctx: Any, incoming: torch.Tensor) -> Gradients:
    """Gradients of both views."""
    x, y, rows, scale, block, total, margin = ctx.saved_tensors
    temperature, _, symmetric, shifted = ctx.settings
    to_x, to_y, *_ = ctx.needs_input_grad
    n, mean = x.shape[0], {"beta": 0, "alpha": 1 / (margin.numel() * temperature)}
    chance = margin.sigmoid().mul_(incoming)  # of a negative, by row
    weight = chance.view(-1, 1) / total
    if symmetric and not shifted:
        weights = (weight + weight.T).mul_(block)
    else:
        weights = block * weight
        weights = weights + weights.T if symmetric else weights
    chance, diagonals = chance.sum(dim=0), _diagonals(weights, n)
    diagonals[0, -1].sub_(chance)
    gradient = torch.zeros_like(rows)
    if symmetric:
        diagonals[1, 0].sub_(chance)
        gradient.addmm_(weights, rows, **mean)
    else:
        if to_x:
            gradient[:n].addmm_(weights, rows[n:], **mean)
        if to_y:
            gradient[n:].addmm_(weights.T, rows[:n], **mean)
    gradient = gradient_of_rows(gradient, rows, scale)
    return gradient[:n].to(dtype=x.dtype) if to_x else None, gradient[n:].to(dtype=y.dtype) if to_y else None


def _value(x: torch.Tensor, y: torch.Tensor, temperature: float, symmetric: bool) -> tuple[torch.Tensor, ...]:
    """The loss, and what backward needs: unit rows, their scale, exponentials, their sums and margins."""
    dtype, n = compute_dtype(x, y), x.shape[0]
    rows, scale = unit_rows_and_scale(torch.cat([x.to(dtype=dtype), y.to(dtype=dtype)]))
    a, b = (rows, rows) if symmetric else (rows[:n], rows[n:])
    block = rows.new_empty(a.shape[0], a.shape[0]).addmm_(a, b.T, beta=0, alpha=LOG2_E / temperature)
    diagonals = _diagonals(block, n)
    agreement = diagonals[0, -1].clone()
    diagonals.fill_(-torch.inf)
    top = None if exp_is_safe(dtype, temperature) else block.amax(dim=1, keepdim=True)
    block = (block if top is None else block.sub_(top)).exp2_()
    total = block.sum(dim=1, keepdim=True)
    others = total.log() if top is None else total.log().add_(top, alpha=LOG_2)
    margin = torch.sub(others.view(-1, n), agreement, alpha=LOG_2)
    return cross_entropy(margin), rows, scale, block, total, margin


def _diagonals(block: torch.Tensor, n: int) -> torch.Tensor:
    """Similarities of each row with itself and its partner: (1, 1, N) of a matrix (N, N), (2, 2, N) of (2N, 2N)."""
    views = block.shape[0] // n
    return block.view(views, n, views, n).diagonal(dim1=1, dim2=3)
