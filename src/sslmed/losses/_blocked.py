"""What the block-wise kernels share: when they serve, and how they take exponentials.

A block of similarities is multiplied, exponentiated and summed while it is in the cache; the matrix of all
similarities never exists at once. Value and gradient are those of the plain expression, which stands beside each
kernel and serves small problems, compiled graphs, transforms of `torch.func` and second derivatives
(`create_graph=True`), at the plain expression's memory.

Kernels work in base 2, on similarities times log2(e) / T: `exp2` takes about a third of the time of `exp` on CPUs.
Unit rows bound a similarity by 1/T. Where e^(1/T) is far from overflow (T >= 0.025 in float32) exponentials need no
shift; elsewhere the largest similarity is subtracted.
"""

from __future__ import annotations

import math

import torch

LOG2_E = math.log2(math.e)
LOG_2 = math.log(2)
PLAIN_ELEMENTS = 2**14  # similarities up to which the plain expression is the faster one


def plain_is_better(elements: int, block_size: int | None) -> bool:
    """Whether the plain expression serves: few similarities and no block size asked for, or no kernel allowed."""
    # Asked in this order, a graph is not specialised to batches on one side of PLAIN_ELEMENTS.
    if torch.compiler.is_compiling() or transformed():
        return True
    return block_size is None and elements <= PLAIN_ELEMENTS


def transformed() -> bool:
    """Whether a transform of `torch.func` (grad, vmap, jvp) is at work, which kernels cannot follow."""
    return torch._C._are_functorch_transforms_active()


def bounded(dtype: torch.dtype, temperature: float) -> bool:
    """Whether exponentials of similarities stay so far from the ends of `dtype` that they need no shift."""
    return 1 / temperature <= 0.45 * math.log(torch.finfo(dtype).max)


def never(dtype: torch.dtype) -> float:
    """A similarity so low that its exponential is 0; finite, so that a sum of nothing else has a gradient."""
    return torch.finfo(dtype).min / 4
