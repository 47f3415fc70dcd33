"""What the block-wise kernels share: when they serve, and how they take exponentials.

A block of similarities is multiplied, exponentiated and summed while it is in the cache; the matrix of all
similarities never exists at once. Value and gradient are those of the plain expression, which stands beside each
kernel and serves compiled graphs, transforms of `torch.func` and second derivatives (`create_graph=True`), at the plain
expression's memory.

Kernels work in base 2, on similarities times log2(e) / T: `exp2` takes about a third of the time of `exp` on AMD's
CPUs, and 1.3 times as long on Intel's. Unit rows bound a similarity by 1/T. Where e^(1/T) is far from overflow (T >=
0.025 in float32) exponentials need no shift; elsewhere the largest similarity is subtracted.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F

from .._tensor import transformed

LOG2_E = math.log2(math.e)
LOG_2 = math.log(2)
KEPT_BYTES = 256 * 2**20  # exponentials kept for backward at most, when the block size is left open


def plain_is_needed() -> bool:
    """Whether to use the plain expression, because a compiled graph or a transform cannot follow a kernel."""
    return torch.compiler.is_compiling() or transformed()


def exp_is_safe(dtype: torch.dtype, temperature: float) -> bool:
    """Whether exponentials of similarities stay so far from the ends of `dtype` that they need no shift."""
    return 1 / temperature <= 0.45 * math.log(torch.finfo(dtype).max)


def masked_logit(dtype: torch.dtype) -> float:
    """A similarity so low that its exponential is 0; finite, so that a sum of nothing else has a gradient."""
    return torch.finfo(dtype).min / 4


def cross_entropy(margin: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy of logits [positive, negatives], given the negatives' log-sum-exp less the positive.

    Unlike the difference of two large numbers, this is exact also where the loss is far below 1.
    """
    return F.softplus(margin, threshold=40).mean()  # above, log(1 + e^x) is x also in float64


def split(x: torch.Tensor, size: int) -> tuple[torch.Tensor, ...]:
    """`torch.split`, without its cost for a tensor of one block."""
    return (x,) if x.shape[0] <= size else torch.split(x, size)


def savable(x: torch.Tensor | None) -> torch.Tensor | None:
    """`x` as autograd can save it: tensors of inference mode are copied."""
    return x.clone() if x is not None and x.is_inference() else x


Gradients = tuple[torch.Tensor | None, ...]


def plain_gradients(
    value: Callable[[], torch.Tensor], inputs: Sequence[torch.Tensor], needed: Sequence[bool], incoming: torch.Tensor
) -> Gradients:
    """Gradients of a plain expression of inputs, which can be differentiated and transformed again."""
    again = torch.is_grad_enabled()
    with torch.enable_grad():
        plain = value()
    wanted = [x for x, asked in zip(inputs, needed, strict=True) if asked]
    found = iter(torch.autograd.grad(plain, wanted, incoming, create_graph=again))
    return tuple(next(found) if asked else None for asked in needed)
