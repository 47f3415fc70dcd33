"""Tensor functions that several subpackages share: the dtype to compute in, and rows of length 1."""

from __future__ import annotations

import torch

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
    entries that may underflow. Here rows are first scaled by their largest entry. The result does not depend
    on that scale, so no gradient needs to pass through it. The square of the length, unlike the length itself,
    has finite derivatives of all orders at a row of zeros.
    """
    x = plain(x)
    largest = x.detach().abs().amax(dim=-1, keepdim=True)
    zero = largest == 0
    x = x / largest.masked_fill(zero, 1)
    squared = x.square().sum(dim=-1, keepdim=True).masked_fill(zero, 1)
    return x * squared.rsqrt()  # its backward makes half as many passes as that of a division
