"""Exact log-sum-exp of similarities, in blocks: the matrix of all similarities never exists at once.

A block of similarities is multiplied, exponentiated and summed while it is in the cache. Value and gradient
are those of the plain expression, which stands beside each kernel and serves small problems, compiled graphs
and second derivatives (`create_graph=True`, at the plain expression's memory).

Unit rows bound a similarity by 1/T. Where e^(1/T) is far from overflow (T >= 0.025 in float32) exponentials
need no shift; elsewhere a running maximum is subtracted.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch.autograd import Function

from ._rows import unit_rows

PLAIN_ELEMENTS = 2**14  # similarities up to which the plain expression is the faster one
KEPT_BYTES = 256 * 2**20  # exponentials kept for backward at most, when the block size is left open


def paired_logsumexp(z: torch.Tensor, temperature: float, block_size: int | None) -> torch.Tensor:
    """Log-sum-exp of the similarities of each row with all rows but itself and its partner.

    The matrix is symmetric: only panels of its upper triangle are multiplied and exponentiated. With e the
    exponentials and u each row's incoming gradient over its sum, the gradient of row i is
    sum_j e_ij (u_i + u_j) z_j / T.

    Args:
        z: (2N, D) unit rows; row i and row i + N are partners; N >= 2.
        temperature: T.
        block_size: rows of a panel, multiplied again in backward, so that memory is O(N x block); None: plain
            for small N, else panels of a size that suits the device, kept for backward up to 256 MiB.

    Returns:
        (2N,).
    """
    if _plain_is_better(z, len(z) ** 2, block_size):
        return _paired_plain(z, temperature)
    z = z if torch.is_grad_enabled() else z.detach()  # nothing is kept for a backward that cannot come
    result: torch.Tensor = _Paired.apply(z, temperature, block_size)
    return result


def shared_logsumexp(
    query: torch.Tensor,
    negatives: torch.Tensor,
    temperature: float,
    block_size: int | None,
    ids: torch.Tensor | None = None,
    negative_ids: torch.Tensor | None = None,
) -> torch.Tensor:
    """Log-sum-exp of the similarities of each query with shared negatives.

    The softmax-weighted sum of negatives that makes the query's gradient grows along with the sum of
    exponentials, in one pass. A gradient of the negatives, where one is asked for, takes a second pass in
    backward.

    Args:
        query: (N, D) unit rows.
        negatives: (K, D) rows of any length; unit rows where they need a gradient.
        temperature: T.
        block_size: negatives of a block; None: plain for small N x K, else as suits the device.
        ids: (N,) integers, or None.
        negative_ids: (K,) integers; a negative with the query's id is left out of its sum.

    Returns:
        (N,); where all negatives are left out, a value so low that its exponential is 0.
    """
    if _plain_is_better(query, len(query) * len(negatives), block_size):
        if not negatives.requires_grad:
            negatives = unit_rows(negatives.to(query.dtype))
        return _shared_plain(query, negatives, temperature, ids, negative_ids)
    query = query if torch.is_grad_enabled() else query.detach()  # no gradient is built in vain
    result: torch.Tensor = _Shared.apply(query, negatives, temperature, block_size, ids, negative_ids)
    return result


def never(dtype: torch.dtype) -> float:
    """A similarity so low that its exponential is 0; finite, so that a sum of nothing else has a gradient."""
    return torch.finfo(dtype).min / 4


class _Paired(Function):
    """The kernel of `paired_logsumexp`."""

    @staticmethod
    def forward(ctx: Any, z: torch.Tensor, temperature: float, block_size: int | None) -> torch.Tensor:
        n = len(z)
        ctx.temperature, ctx.rows = temperature, min(block_size or _block(z, 128, 1024), n // 2)
        bounded = _bounded(z.dtype, temperature)
        keep = block_size is None and ctx.needs_input_grad[0] and n * n // 2 * z.element_size() <= KEPT_BYTES
        ctx.kept = []
        result = z.new_zeros(n) if bounded else z.new_full((n,), -math.inf)
        for start, panel in _panels(z, temperature, ctx.rows):
            rows = len(panel)
            own, later = result[start : start + rows], result[start + rows :]
            if bounded:
                panel.exp_()
                own += panel.sum(dim=1)
                later += panel[:, rows:].sum(dim=0)
            else:
                torch.logaddexp(own, panel.logsumexp(dim=1), out=own)
                torch.logaddexp(later, panel[:, rows:].logsumexp(dim=0), out=later)
            if keep:
                ctx.kept.append((start, panel))
        result = result.log_() if bounded else result
        ctx.save_for_backward(z, result)
        return result

    @staticmethod
    def backward(ctx: Any, incoming: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        with torch.autocast(incoming.device.type, enabled=False):
            return _Paired._gradient(ctx, incoming), None, None

    @staticmethod
    def _gradient(ctx: Any, incoming: torch.Tensor) -> torch.Tensor:
        z, result = ctx.saved_tensors
        if torch.is_grad_enabled():
            (exact,) = torch.autograd.grad(_paired_plain(z, ctx.temperature), z, incoming, create_graph=True)
            return exact  # type: ignore[no-any-return]
        bounded = _bounded(z.dtype, ctx.temperature)
        weight = incoming * result.neg().exp() if bounded else incoming
        gradient = torch.zeros_like(z)
        kept, ctx.kept = ctx.kept, []
        for start, panel in kept or _panels(z, ctx.temperature, ctx.rows):
            rows = len(panel)
            own = slice(start, start + rows)
            if bounded:
                panel = panel if kept else panel.exp_()
                panel *= weight[own, None] + weight[start:]
            else:
                from_rows = (panel - result[own, None]).exp_().mul_(weight[own, None])
                panel = panel.sub_(result[start:]).exp_().mul_(weight[start:]).add_(from_rows)
            gradient[own].addmm_(panel, z[start:])
            gradient[start + rows :].addmm_(panel[:, rows:].T, z[own])
        return gradient.div_(ctx.temperature)


class _Shared(Function):
    """The kernel of `shared_logsumexp`."""

    @staticmethod
    def forward(
        ctx: Any,
        query: torch.Tensor,
        negatives: torch.Tensor,
        temperature: float,
        block_size: int | None,
        ids: torch.Tensor | None,
        negative_ids: torch.Tensor | None,
    ) -> torch.Tensor:
        ctx.settings = temperature, block_size or _block(query, 1024, 8192), not ctx.needs_input_grad[1]
        bounded = _bounded(query.dtype, temperature)
        top = query.new_full((len(query), 1), 0.0 if bounded else -1 / temperature)
        total = torch.zeros_like(top)
        average = torch.zeros_like(query) if ctx.needs_input_grad[0] else None
        for _, rows, block in _blocks(query, negatives, ids, negative_ids, *ctx.settings):
            if not bounded:
                higher = torch.maximum(top, block.amax(dim=1, keepdim=True))
                fade = top.sub_(higher).exp_()
                total *= fade
                if average is not None:
                    average *= fade
                top = higher
                block -= top
            block.exp_()
            total += block.sum(dim=1, keepdim=True)
            if average is not None:
                average.addmm_(block, rows)
        if average is not None:
            average.div_(total.masked_fill(total == 0, 1) * temperature)
        result = (total.log() + top).squeeze(1).clamp_min_(never(query.dtype))
        # A queue may be overwritten before backward, which does not need it unless it is asked for a gradient
        # or a second derivative.
        queue = negatives, negative_ids
        ctx.queue = None if ctx.needs_input_grad[1] else (*queue, [_version(x) for x in queue])
        ctx.save_for_backward(query, ids, average, result, *(queue if ctx.queue is None else (None, None)))
        return result

    @staticmethod
    def backward(ctx: Any, incoming: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        with torch.autocast(incoming.device.type, enabled=False):
            return (*_Shared._gradients(ctx, incoming), None, None, None, None)

    @staticmethod
    def _gradients(ctx: Any, incoming: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        query, ids, average, result, negatives, negative_ids = ctx.saved_tensors
        temperature, _, normalise = ctx.settings
        if torch.is_grad_enabled():
            if ctx.queue is not None:
                negatives, negative_ids, versions = ctx.queue
                if [_version(negatives), _version(negative_ids)] != versions:
                    raise RuntimeError(
                        "negatives were changed in place before their second derivative was taken"
                    )
            rows = unit_rows(negatives.to(query.dtype)) if normalise else negatives
            inputs = [
                x for x, needed in zip((query, negatives), ctx.needs_input_grad, strict=False) if needed
            ]
            plain = _shared_plain(query, rows, temperature, ids, negative_ids)
            exact = iter(torch.autograd.grad(plain, inputs, incoming, create_graph=True))
            to_query, to_negatives = (next(exact) if needed else None for needed in ctx.needs_input_grad[:2])
            return to_query, to_negatives
        to_query = None if average is None else average * incoming[:, None]
        to_negatives = None
        if not normalise:
            to_negatives = torch.empty_like(negatives)
            weighted = query * (incoming[:, None] / temperature)
            for start, rows, block in _blocks(query, negatives, ids, negative_ids, *ctx.settings):
                block.sub_(result[:, None]).exp_()
                torch.mm(block.T, weighted, out=to_negatives[start : start + len(rows)])
        return to_query, to_negatives


def _version(x: torch.Tensor | None) -> int | None:
    """How often `x` was changed in place; unknown for tensors of inference mode."""
    return None if x is None or x.is_inference() else x._version


def _panels(z: torch.Tensor, temperature: float, rows: int) -> Iterator[tuple[int, torch.Tensor]]:
    """Panels of the upper triangle: first row s, and similarities (rows, 2N - s) from column s on."""
    n = len(z)
    for start in range(0, n, rows):
        panel = (z[start : start + rows] / temperature) @ z[start:].T
        panel.diagonal().fill_(-math.inf)
        if n // 2 < panel.shape[1]:
            panel.diagonal(n // 2).fill_(-math.inf)
        yield start, panel


def _blocks(
    query: torch.Tensor,
    negatives: torch.Tensor,
    ids: torch.Tensor | None,
    negative_ids: torch.Tensor | None,
    temperature: float,
    size: int,
    normalise: bool,
) -> Iterator[tuple[int, torch.Tensor, torch.Tensor]]:
    """Blocks of negatives: first one, their unit rows (size, D), and their similarities (N, size)."""
    scaled = query / temperature
    for start in range(0, len(negatives), size):
        rows = negatives[start : start + size]
        if normalise:
            rows = unit_rows(rows.to(query.dtype))
        block = scaled @ rows.T
        if ids is not None and negative_ids is not None:
            block.masked_fill_(ids[:, None] == negative_ids[start : start + size], -math.inf)
        yield start, rows, block


def _paired_plain(z: torch.Tensor, temperature: float) -> torch.Tensor:
    place = torch.arange(len(z), device=z.device) % (len(z) // 2)
    left_out = place[:, None] == place
    return (z @ z.T / temperature).masked_fill(left_out, never(z.dtype)).logsumexp(dim=1)


def _shared_plain(
    query: torch.Tensor,
    negatives: torch.Tensor,
    temperature: float,
    ids: torch.Tensor | None,
    negative_ids: torch.Tensor | None,
) -> torch.Tensor:
    logits = query @ negatives.T / temperature
    if ids is not None and negative_ids is not None:
        logits = logits.masked_fill(ids[:, None] == negative_ids, never(query.dtype))
    return logits.logsumexp(dim=1)


def _plain_is_better(x: torch.Tensor, elements: int, block_size: int | None) -> bool:
    return torch.compiler.is_compiling() or (block_size is None and elements <= PLAIN_ELEMENTS)


def _bounded(dtype: torch.dtype, temperature: float) -> bool:
    """Whether exponentials of similarities stay so far from the ends of `dtype` that they need no shift."""
    return 1 / temperature <= 0.45 * math.log(torch.finfo(dtype).max)


def _block(x: torch.Tensor, on_cpu: int, on_accelerator: int) -> int:
    return on_cpu if x.device.type == "cpu" else on_accelerator
