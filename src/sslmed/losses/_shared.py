"""The kernel behind InfoNCE: log-sum-exp of the similarities of queries with the negatives they share.

The softmax-weighted sum of negatives that makes the query's gradient grows along with the sum of exponentials, in one
pass. A gradient of the negatives, where one is asked for, takes a second pass in backward.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch.autograd import Function

from .._compat import without_autocast
from .._tensor import unit_rows
from ._blocked import LOG2_E, LOG_2, bounded, never, plain_is_better, transformed

BLOCK_ON_CPU = 1024
BLOCK_ELSEWHERE = 8192


def shared_logsumexp(
    query: torch.Tensor,
    negatives: torch.Tensor,
    temperature: float,
    block_size: int | None,
    ids: torch.Tensor | None = None,
    negative_ids: torch.Tensor | None = None,
) -> torch.Tensor:
    """Log-sum-exp of the similarities of each query with shared negatives.

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
    if plain_is_better(len(query) * len(negatives), block_size):
        if not negatives.requires_grad:
            negatives = unit_rows(negatives.to(query.dtype))
        return _plain(query, negatives, temperature, ids, negative_ids)
    query = query if torch.is_grad_enabled() else query.detach()  # no gradient is built in vain
    result: torch.Tensor = _Shared.apply(query, negatives, temperature, block_size, ids, negative_ids)
    return result


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
        size = block_size or (BLOCK_ON_CPU if query.device.type == "cpu" else BLOCK_ELSEWHERE)
        shifted = not bounded(query.dtype, temperature)
        ctx.settings = temperature, min(size, len(negatives)), not ctx.needs_input_grad[1]
        top = query.new_full((len(query), 1), -LOG2_E / temperature if shifted else 0.0)
        total = torch.zeros_like(top)
        average = torch.zeros_like(query) if ctx.needs_input_grad[0] else None
        for _, rows, block in _blocks(query, negatives, ids, negative_ids, *ctx.settings):
            if shifted:
                higher = torch.maximum(top, block.amax(dim=1, keepdim=True))
                fade = top.sub_(higher).exp2_()
                total *= fade
                if average is not None:
                    average *= fade
                top = higher
                block -= top
            total += block.exp2_().sum(dim=1, keepdim=True)
            if average is not None:
                average.addmm_(block, rows)
        result = ((total.log2() + top) * LOG_2).squeeze(1).clamp_min_(never(query.dtype))
        total.masked_fill_(total == 0, 1)
        if average is not None:
            average.div_(total * temperature)
        # A queue may be overwritten before backward, which does not need it unless it is asked for a gradient
        # or a second derivative.
        queue = negatives, negative_ids
        ctx.queue = None if ctx.needs_input_grad[1] else (*queue, [_version(x) for x in queue])
        late = queue if ctx.queue is None else (None, None)
        ctx.save_for_backward(*map(_savable, (query, ids, average, total, top, *late)))
        return result

    @staticmethod
    def backward(ctx: Any, incoming: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        with without_autocast(incoming.device):
            exact = torch.is_grad_enabled() or transformed()
            gradients = _plain_gradients(ctx, incoming) if exact else _gradients(ctx, incoming)
            return (*gradients, None, None, None, None)


Gradients = tuple[torch.Tensor | None, torch.Tensor | None]


def _gradients(ctx: Any, incoming: torch.Tensor) -> Gradients:
    """Gradients of query and negatives, in blocks."""
    query, ids, average, total, top, negatives, negative_ids = ctx.saved_tensors
    temperature, _, normalise = ctx.settings
    to_query = None if average is None else average * incoming[:, None]
    to_negatives = None
    if not normalise:
        to_negatives = torch.empty_like(negatives)
        weighted = query * (incoming[:, None] / (total * temperature))
        for start, rows, block in _blocks(query, negatives, ids, negative_ids, *ctx.settings):
            torch.mm(block.sub_(top).exp2_().T, weighted, out=to_negatives[start : start + len(rows)])
    return to_query, to_negatives


def _plain_gradients(ctx: Any, incoming: torch.Tensor) -> Gradients:
    """Gradients of the plain expression, which can be differentiated and transformed again."""
    query, ids, _, _, _, negatives, negative_ids = ctx.saved_tensors
    temperature, _, normalise = ctx.settings
    if ctx.queue is not None:
        negatives, negative_ids, versions = ctx.queue
        if [_version(negatives), _version(negative_ids)] != versions:
            raise RuntimeError("negatives were changed in place before their second derivative was taken")
    again = torch.is_grad_enabled()
    needed = ctx.needs_input_grad[:2]
    with torch.enable_grad():
        rows = unit_rows(negatives.to(query.dtype)) if normalise else negatives
        plain = _plain(query, rows, temperature, ids, negative_ids)
    inputs = [x for x, wanted in zip((query, negatives), needed, strict=True) if wanted]
    exact = iter(torch.autograd.grad(plain, inputs, incoming, create_graph=again))
    to_query, to_negatives = (next(exact) if wanted else None for wanted in needed)
    return to_query, to_negatives


def _savable(x: torch.Tensor | None) -> torch.Tensor | None:
    """`x` as autograd can save it: tensors of inference mode are copied."""
    return x.clone() if x is not None and x.is_inference() else x


def _version(x: torch.Tensor | None) -> int | None:
    """How often `x` was changed in place; unknown for tensors of inference mode."""
    return None if x is None or x.is_inference() else x._version


def _blocks(
    query: torch.Tensor,
    negatives: torch.Tensor,
    ids: torch.Tensor | None,
    negative_ids: torch.Tensor | None,
    temperature: float,
    size: int,
    normalise: bool,
) -> Iterator[tuple[int, torch.Tensor, torch.Tensor]]:
    """Blocks of negatives: first one, their unit rows (size, D), and their similarities (N, size) in base 2.

    Each block of similarities lies in the place of the one before.
    """
    place = query.new_empty(len(query) * size)
    for start in range(0, len(negatives), size):
        rows = negatives[start : start + size]
        if normalise:
            rows = unit_rows(rows.to(query.dtype))
        block = place[: len(query) * len(rows)].view(len(query), len(rows))
        block.addmm_(query, rows.T, beta=0, alpha=LOG2_E / temperature)
        if ids is not None and negative_ids is not None:
            block.masked_fill_(ids[:, None] == negative_ids[start : start + size], -math.inf)
        yield start, rows, block


def _plain(
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
