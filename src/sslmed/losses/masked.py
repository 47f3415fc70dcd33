"""Masked-pixel regression: predict what was hidden.

Umapathy et al., "Learning to segment with limited annotations: Self-supervised pretraining with regression
and contrastive loss in MRI", 2022, regression stage: L = || M psi(x~) - M x ||_1. The paper prints a sum; the
mean over the masked pixels, which does not depend on the image's size or the mask's ratio, is the default
here.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.autograd import Function

from .. import _checks
from .._compat import plain
from .._tensor import compute_dtype, eager, transformed
from ._blocked import plain_gradients, savable

_REDUCTIONS = ("masked", "sum", "mean_all")


def masked_l1(
    prediction: torch.Tensor, target: torch.Tensor, mask: torch.Tensor, *, reduction: str = "masked"
) -> torch.Tensor:
    """Absolute error on the masked pixels.

    Pixels outside the mask take no part: their gradient is exactly 0, whatever they hold.

    Args:
        prediction: (B, C, H, W).
        target: (B, C, H, W), the image before masking.
        mask: (B, 1, H, W) bool, True where a pixel was hidden; shared by the channels.
        reduction: "masked", the mean over masked pixels and channels; "sum", the paper's; "mean_all", the sum
            over all B C H W values.

    Returns:
        The loss, a scalar of at least float32.

    Raises:
        TypeError: an image is not of floating point, or the mask not bool.
        ValueError: shapes or devices that do not fit, an empty tensor, an unknown reduction, or, with reduction
            "masked", a mask that hides nothing.

    Note:
        To see whether a mask hides anything, reduction "masked" waits for an accelerator once a call. Graphs of
        torch.compile and of CUDA cannot look at values, nor do transforms of torch.func: there the mean over nothing
        is nan, with a gradient of 0. The other reductions never wait; with them an empty mask costs 0.

    Example:
        >>> import torch
        >>> mask = torch.zeros(1, 1, 4, 4, dtype=torch.bool)
        >>> mask[..., :2] = True
        >>> masked_l1(torch.zeros(1, 3, 4, 4), torch.full((1, 3, 4, 4), 0.5), mask)
        tensor(0.5000)
    """
    _checks.choice("reduction", reduction, _REDUCTIONS)
    for name, x in (("prediction", prediction), ("target", target)):
        _checks.floating(name, x)
        _checks.shaped(name, x, "(B, C, H, W)", ndim=4)
    _checks.same_shape("prediction", prediction, "target", target)
    _checks.shaped("mask", mask, "(B, 1, H, W)", ndim=4)
    if mask.dtype != torch.bool:
        raise TypeError(f"mask must be a bool tensor, got {mask.dtype}")
    batch, _, height, width = prediction.shape
    if mask.shape != (batch, 1, height, width):
        raise ValueError(f"mask must have shape {(batch, 1, height, width)}, got {tuple(mask.shape)}")
    if not prediction.numel():
        raise ValueError(f"prediction must not be empty, got shape {tuple(prediction.shape)}")
    _checks.same_device(prediction=prediction, target=target, mask=mask)
    mask, images = plain(mask), (plain(prediction), plain(target))
    looked_at = _can_be_looked_at(mask)
    count: torch.Tensor | int = 1 if reduction == "sum" else prediction.numel()
    if reduction == "masked":  # count_nonzero is faster, but torch 2.9 warns about it under vmap
        hidden = int(torch.count_nonzero(mask)) if looked_at else mask.sum()
        if looked_at and not hidden:
            raise ValueError("mask must hide at least one pixel, got a mask without any")
        count = hidden * prediction.shape[1]
    # The gradient of a mean over nothing is 0 by the plain expression alone.
    quick = eager(images[0]) and looked_at
    mean: torch.Tensor = _Mean.apply(*images, mask, count) if quick else _plain_mean(*images, mask, count)
    return mean


class _Mean(Function):
    """`_plain_mean` with few passes in backward; second derivatives are those of the plain expression."""

    @staticmethod
    def forward(
        ctx: Any, prediction: torch.Tensor, target: torch.Tensor, mask: torch.Tensor, count: int
    ) -> torch.Tensor:
        dtype = compute_dtype(prediction, target)
        difference = prediction.to(dtype=dtype) - target.to(dtype=dtype)
        # Its bits times 0 or 1: `where` has a branch, which processors mispredict on random masks.
        bits = torch.int64 if dtype == torch.float64 else torch.int32
        difference.view(bits).mul_(mask.to(dtype=bits))
        if any(ctx.needs_input_grad):
            ctx.count = count
            ctx.save_for_backward(*map(savable, (prediction, target, mask, difference)))
        return difference.abs().sum() / count

    @staticmethod
    def backward(ctx: Any, incoming: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        prediction, target, mask, difference = ctx.saved_tensors
        needed = ctx.needs_input_grad[:2]
        if torch.is_grad_enabled() or transformed():
            pair = prediction, target
            found = plain_gradients(lambda: _plain_mean(*pair, mask, ctx.count), pair, needed, incoming)
            return *found, None, None
        gradient = difference.sgn().mul_(incoming / ctx.count)
        to_prediction = gradient.to(dtype=prediction.dtype) if needed[0] else None
        return to_prediction, gradient.neg().to(dtype=target.dtype) if needed[1] else None, None, None


def _plain_mean(
    prediction: torch.Tensor, target: torch.Tensor, mask: torch.Tensor, count: torch.Tensor | int
) -> torch.Tensor:
    dtype = compute_dtype(prediction, target)
    # The difference is chosen before the absolute value, so that nan outside the mask reaches no gradient.
    return torch.where(mask, prediction.to(dtype) - target.to(dtype), 0).abs().sum() / count


def _can_be_looked_at(x: torch.Tensor) -> bool:
    """Whether the values of `x` may decide what to do: not in graphs, which have none yet, nor under vmap."""
    recorded = torch.compiler.is_compiling() or (x.is_cuda and torch.cuda.is_current_stream_capturing())
    return not (recorded or transformed() or x.is_meta)


class MaskedL1(nn.Module):
    """Mean absolute error over hidden pixels: `masked_l1` with stored settings.

    Args:
        reduction: as in `masked_l1`.

    Example:
        >>> import torch
        >>> x, y = torch.rand(2, 1, 8, 8), torch.rand(2, 1, 8, 8)
        >>> MaskedL1()(x, y, torch.rand(2, 1, 8, 8) < 0.5).shape
        torch.Size([])
    """

    def __init__(self, *, reduction: str = "masked") -> None:
        super().__init__()
        self.reduction: str = _checks.choice("reduction", reduction, _REDUCTIONS)

    def forward(self, prediction: torch.Tensor, target: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """The loss of prediction (B, C, H, W), target (B, C, H, W) and mask (B, 1, H, W) bool."""
        return masked_l1(prediction, target, mask, reduction=self.reduction)

    def extra_repr(self) -> str:
        """Show the settings."""
        return f"reduction={self.reduction!r}"
