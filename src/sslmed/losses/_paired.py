"""The kernel of NT-Xent: cross-entropy over the symmetric matrix of similarities of paired rows.

Small batches have one of their own, in `_whole`.

Only tiles of the upper triangle are multiplied and exponentiated. With e the exponentials and u each row's weight (its
probability of a negative) over its sum, the gradient of row i is sum_j e_ij (u_i + u_j) z_j / T: a tile serves its rows
and, transposed, its columns. Tiles are small enough to stay in a core's cache from the product to the sums. Backward
reads the tiles that were kept and multiplies the others again.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import combinations_with_replacement, islice
from typing import Any

import torch
from torch.autograd import Function

from .._compat import without_autocast
from .._tensor import compute_dtype, gradient_of_rows, transformed, unit_rows, unit_rows_and_scale
from . import _blocked
from ._blocked import (
    LOG2_E,
    LOG_2,
    Gradients,
    cross_entropy,
    exp_is_safe,
    masked_logit,
    plain_gradients,
    plain_is_needed,
    savable,
    split,
)
from ._whole import whole_cross_entropy

SIDE_ON_CPU = 480  # of a tile at most: 0.9 MiB in float32; powers of two are slower, their rows collide in the cache
SIDE_ELSEWHERE = 2048
WHOLE = 384  # rows of both views up to which the whole matrix in few operations is quicker than its triangle in tiles
HALVED = 256  # rows of a tile on the diagonal above which its lower half is copied instead of multiplied


def paired_cross_entropy(
    z0: torch.Tensor, z1: torch.Tensor, temperature: float, block_size: int | None
) -> torch.Tensor:
    """Mean cross-entropy of finding each row's partner among all other rows of both views.

    Args:
        z0: (N, D), N >= 2.
        z1: (N, D), row i is the partner of row i of `z0`.
        temperature: T.
        block_size: rows of similarities kept for backward, so that memory is O(N x block); None: 256 MiB of them.

    Returns:
        A scalar.
    """
    if plain_is_needed():
        return _plain(z0, z1, temperature)
    if block_size is None and 2 * z0.shape[0] <= WHOLE:
        return whole_cross_entropy(z0, z1, temperature, _plain, symmetric=True)
    if not torch.is_grad_enabled():
        z0, z1 = z0.detach(), z1.detach()  # nothing is kept for a backward that cannot come
    result: torch.Tensor = _Paired.apply(z0, z1, temperature, block_size)
    return result


class _Paired(Function):
    """The kernel of `paired_cross_entropy`."""

    @staticmethod
    def forward(
        ctx: Any, z0: torch.Tensor, z1: torch.Tensor, temperature: float, block_size: int | None
    ) -> torch.Tensor:
        dtype, needed = compute_dtype(z0, z1), any(ctx.needs_input_grad)
        z, scale = unit_rows_and_scale(torch.cat([z0.to(dtype), z1.to(dtype)]))
        n, side, shifted = z.shape[0], _side(z, block_size), not exp_is_safe(dtype, temperature)
        room = _blocked.KEPT_BYTES // z.element_size() if block_size is None else n * block_size
        kept: list[tuple[int, int, torch.Tensor]] = []
        agreements: list[torch.Tensor] = []
        total = z.new_full((n,), -math.inf) if shifted else z.new_zeros(n)
        totals = split(total, side)
        for i, j, tile, fresh in _tiles(z, temperature, side, room=room if needed else 0, agreements=agreements):
            if shifted:
                torch.logaddexp2(totals[i], _log2_sum(tile, dim=1), out=totals[i])
                if i != j:
                    torch.logaddexp2(totals[j], _log2_sum(tile, dim=0), out=totals[j])
            else:
                totals[i].add_(tile.exp2_().sum(dim=1))
                if i != j:
                    totals[j].add_(tile.sum(dim=0))
            if fresh:
                kept.append((i, j, tile))
        agreement = agreements[0] if len(agreements) == 1 else torch.cat(agreements)
        margin = (total * LOG_2 if shifted else total.log()).view(2, -1) - agreement
        if needed:
            ctx.settings, ctx.kept = (temperature, side, shifted), kept
            ctx.save_for_backward(savable(z0), savable(z1), z, scale, total, margin)
        return cross_entropy(margin)

    @staticmethod
    def backward(ctx: Any, incoming: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        with without_autocast(incoming.device):
            if torch.is_grad_enabled() or transformed():
                z0, z1, *_ = ctx.saved_tensors
                needed, temperature = ctx.needs_input_grad[:2], ctx.settings[0]
                found = plain_gradients(lambda: _plain(z0, z1, temperature), (z0, z1), needed, incoming)
                return *found, None, None
            return *_gradients(ctx, incoming), None, None


def _gradients(ctx: Any, incoming: torch.Tensor) -> Gradients:
    z0, z1, z, scale, total, margin = ctx.saved_tensors
    temperature, side, shifted = ctx.settings
    half = z0.shape[0]
    kept, ctx.kept = ctx.kept[::-1], []
    skip = len(kept)
    chance = margin.sigmoid().mul_(incoming / (z.shape[0] * temperature))  # of a negative, by row
    weight = chance.flatten() if shifted else chance.flatten() / total
    gradient, place = torch.zeros_like(z), z.new_empty(side * side) if side < z.shape[0] else None
    rows, gradients, weights, totals = (split(x, side) for x in (z, gradient, weight, total))

    def spread(i: int, j: int, tile: torch.Tensor) -> None:
        out = None if place is None else place[: tile.numel()].view_as(tile)
        if shifted:
            weighted = torch.sub(tile, totals[i][:, None], out=out).exp2_().mul_(weights[i][:, None])
            weighted += tile.sub_(totals[j]).exp2_().mul_(weights[j])
        else:
            weighted = torch.add(weights[i][:, None], weights[j], out=out).mul_(tile)
        gradients[i].addmm_(weighted, rows[j])
        if i != j:
            gradients[j].addmm_(weighted.T, rows[i])

    while kept:  # each tile is freed when it has served
        spread(*kept.pop())
    for i, j, tile, _ in _tiles(z, temperature, side, skip=skip):
        spread(i, j, tile if shifted else tile.exp2_())
    both = chance.sum(dim=0)[:, None]
    gradient[:half].addcmul_(z[half:], both, value=-1)
    gradient[half:].addcmul_(z[:half], both, value=-1)
    gradient = gradient_of_rows(gradient, z, scale)
    needed = ctx.needs_input_grad
    return tuple(
        part.to(x.dtype) if wanted else None
        for part, x, wanted in zip((gradient[:half], gradient[half:]), (z0, z1), needed, strict=False)
    )


def _side(z: torch.Tensor, block_size: int | None) -> int:
    """Rows of a tile: as many as the cache holds, all tiles of about one size."""
    n = z.shape[0]
    side = min(SIDE_ON_CPU if z.device.type == "cpu" else SIDE_ELSEWHERE, n // 2)
    if block_size is not None:
        side = min(side, math.isqrt(n * block_size))
    return -(-n // -(-n // side))


def _tiles(
    z: torch.Tensor,
    temperature: float,
    side: int,
    *,
    skip: int = 0,
    room: int = 0,
    agreements: list[torch.Tensor] | None = None,
) -> Iterator[tuple[int, int, torch.Tensor, bool]]:
    """Tiles (i, j) of the upper triangle of similarities in base 2, and whether each has memory of its own.

    The first tiles have, up to `room` elements; each of the others is in the place of the one before. Similarities of
    partners over T are left out of the tiles and appended to `agreements` in the order of rows.
    """
    rows, place = split(z, side), None
    half, low = z.shape[0] // 2, masked_logit(z.dtype)
    scale = {"beta": 0, "alpha": LOG2_E / temperature}
    for i, j in islice(combinations_with_replacement(range(len(rows)), 2), skip, None):
        a, b = rows[i], rows[j]
        height, width = a.shape[0], b.shape[0]
        room -= height * width
        if room >= 0:
            tile = z.new_empty(height, width)
        else:
            place = z.new_empty(side * side) if place is None else place
            tile = place[: height * width].view(height, width)
        if i == j and height > HALVED:
            top = height // 2
            tile[:top].addmm_(a[:top], a.T, **scale)
            tile[top:, top:].addmm_(a[top:], a[top:].T, **scale)
            tile[top:, :top] = tile[:top, top:].T
        else:
            tile.addmm_(a, b.T, **scale)
        offset = half - (j - i) * side
        if -height < offset < width:
            partners = tile.diagonal(offset)
            if agreements is not None:
                agreements.append(partners * LOG_2)
            partners.fill_(low)
            if i == j:
                tile.diagonal(-offset).fill_(low)
        if i == j:
            tile.fill_diagonal_(low)
        yield i, j, tile, room >= 0


def _log2_sum(tile: torch.Tensor, dim: int) -> torch.Tensor:
    top = tile.amax(dim, keepdim=True)
    return (tile - top).exp2_().sum(dim, keepdim=True).log2_().add_(top).squeeze(dim)


def _plain(z0: torch.Tensor, z1: torch.Tensor, temperature: float) -> torch.Tensor:
    dtype = compute_dtype(z0, z1)
    z0, z1 = unit_rows(z0.to(dtype)), unit_rows(z1.to(dtype))
    z = torch.cat([z0, z1])
    agreement = (z0 * z1).sum(dim=1) / temperature
    place = torch.arange(len(z), device=z.device) % (len(z) // 2)
    left_out = place[:, None] == place
    negatives = (z @ z.T / temperature).masked_fill(left_out, masked_logit(dtype)).logsumexp(dim=1)
    return cross_entropy(negatives.view(2, -1) - agreement)
