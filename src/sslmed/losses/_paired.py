"""The kernel behind NT-Xent: log-sum-exp over the symmetric matrix of similarities of paired rows.

Only tiles of the upper triangle are multiplied and exponentiated. With e the exponentials and u each row's incoming
gradient over its sum, the gradient of row i is sum_j e_ij (u_i + u_j) z_j / T: a tile serves its rows and, transposed,
its columns. Tiles are small enough to stay in a core's cache from the product to the sums. Backward reads the tiles
that were kept and multiplies the others again.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import combinations_with_replacement, islice
from typing import Any

import torch
from torch.autograd import Function

from .._compat import without_autocast
from ._blocked import LOG2_E, LOG_2, bounded, never, plain_is_better, transformed

KEPT_BYTES = 256 * 2**20  # exponentials kept for backward at most, when the block size is left open
SIDE_ON_CPU = 480  # of a tile: 0.9 MiB in float32; powers of two are slower, their rows collide in the cache
SIDE_ELSEWHERE = 2048


def paired_logsumexp(z: torch.Tensor, temperature: float, block_size: int | None) -> torch.Tensor:
    """Log-sum-exp of the similarities of each row with all rows but itself and its partner.

    Args:
        z: (2N, D) unit rows; row i and row i + N are partners; N >= 2.
        temperature: T.
        block_size: rows of similarities kept for backward, so that memory is O(N x block); None: plain for small N,
            else 256 MiB of them.

    Returns:
        (2N,).
    """
    if plain_is_better(len(z) ** 2, block_size):
        return _plain(z, temperature)
    z = z if torch.is_grad_enabled() else z.detach()  # nothing is kept for a backward that cannot come
    result: torch.Tensor = _Paired.apply(z, temperature, block_size)
    return result


class _Paired(Function):
    """The kernel of `paired_logsumexp`."""

    @staticmethod
    def forward(ctx: Any, z: torch.Tensor, temperature: float, block_size: int | None) -> torch.Tensor:
        n = len(z)
        side = min(SIDE_ON_CPU if z.device.type == "cpu" else SIDE_ELSEWHERE, n // 2)
        if block_size is None:
            room = KEPT_BYTES // z.element_size()
        else:
            room = n * block_size
            side = min(side, math.isqrt(room))
        shifted = not bounded(z.dtype, temperature)
        room = room if ctx.needs_input_grad[0] and not shifted else 0
        ctx.settings, ctx.kept = (temperature, side, shifted), []
        total = z.new_full((n,), -math.inf) if shifted else z.new_zeros(n)
        totals = torch.split(total, side)
        for i, j, tile in _tiles(z, temperature, side):
            if shifted:
                torch.logaddexp2(totals[i], _log2_sum(tile, dim=1), out=totals[i])
                if i != j:
                    torch.logaddexp2(totals[j], _log2_sum(tile, dim=0), out=totals[j])
                continue
            room -= tile.numel()
            if room >= 0:
                tile = torch.exp2(tile, out=torch.empty_like(tile))
                ctx.kept.append((i, j, tile))
            else:
                tile.exp2_()
            totals[i].add_(tile.sum(dim=1))
            if i != j:
                totals[j].add_(tile.sum(dim=0))
        ctx.save_for_backward(z, total)
        return total * LOG_2 if shifted else total.log()

    @staticmethod
    def backward(ctx: Any, incoming: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        with without_autocast(incoming.device):
            z, total = ctx.saved_tensors
            temperature, side, shifted = ctx.settings
            if (again := torch.is_grad_enabled()) or transformed():
                with torch.enable_grad():
                    plain = _plain(z, temperature)
                return torch.autograd.grad(plain, z, incoming, create_graph=again)[0], None, None
            kept, ctx.kept = ctx.kept[::-1], []
            skip = len(kept)
            weight = incoming / temperature if shifted else incoming / (total * temperature)
            gradient, place = torch.zeros_like(z), z.new_empty(side * side)
            rows, gradients, weights, totals = (torch.split(x, side) for x in (z, gradient, weight, total))

            def spread(i: int, j: int, tile: torch.Tensor) -> None:
                weighted = place[: tile.numel()].view_as(tile)
                if shifted:
                    torch.sub(tile, totals[i][:, None], out=weighted).exp2_().mul_(weights[i][:, None])
                    weighted += tile.sub_(totals[j]).exp2_().mul_(weights[j])
                else:
                    torch.add(weights[i][:, None], weights[j], out=weighted).mul_(tile)
                gradients[i].addmm_(weighted, rows[j])
                if i != j:
                    gradients[j].addmm_(weighted.T, rows[i])

            while kept:  # each tile is freed when it has served
                spread(*kept.pop())
            for i, j, tile in _tiles(z, temperature, side, skip):
                spread(i, j, tile if shifted else tile.exp2_())
            return gradient, None, None


def _tiles(z: torch.Tensor, temperature: float, side: int, skip: int = 0) -> Iterator[tuple[int, int, torch.Tensor]]:
    """Tiles (i, j) of the upper triangle of similarities in base 2, each in the place of the one before."""
    rows, place = torch.split(z, side), z.new_empty(side * side)
    to_partner = len(z) // 2
    for i, j in islice(combinations_with_replacement(range(len(rows)), 2), skip, None):
        a, b = rows[i], rows[j]
        tile = place[: len(a) * len(b)].view(len(a), len(b))
        scale = {"beta": 0, "alpha": LOG2_E / temperature}
        if i == j:
            half = len(a) // 2
            tile[:half].addmm_(a[:half], a.T, **scale)
            tile[half:, half:].addmm_(a[half:], a[half:].T, **scale)
            tile[half:, :half] = tile[:half, half:].T
            tile.fill_diagonal_(never(z.dtype))
        else:
            tile.addmm_(a, b.T, **scale)
        offset = to_partner - (j - i) * side
        if -len(a) < offset < len(b):
            tile.diagonal(offset).fill_(never(z.dtype))
        yield i, j, tile


def _log2_sum(tile: torch.Tensor, dim: int) -> torch.Tensor:
    top = tile.amax(dim, keepdim=True)
    return (tile - top).exp2_().sum(dim, keepdim=True).log2_().add_(top).squeeze(dim)


def _plain(z: torch.Tensor, temperature: float) -> torch.Tensor:
    place = torch.arange(len(z), device=z.device) % (len(z) // 2)
    left_out = place[:, None] == place
    return (z @ z.T / temperature).masked_fill(left_out, never(z.dtype)).logsumexp(dim=1)
