"""The kernel of InfoNCE: cross-entropy of queries over the negatives they share.

Small batches without other negatives have one of their own, in `_whole`.

The softmax-weighted sum of negatives that makes the query's gradient grows along with the sum of exponentials, in one
pass. A gradient of the negatives, where one is asked for, takes another product in backward, of the blocks of
exponentials that were kept; the others are made again.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch.autograd import Function

from .._compat import without_autocast
from .._tensor import compute_dtype, gradient_of_rows, scaled_rows, transformed, unit_rows, unit_rows_and_scale
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
)
from ._whole import whole_cross_entropy

BLOCK_BYTES_ON_CPU = 2**20  # of similarities at a time: half of a core's cache
BLOCKS_ON_CPU = 256, 8192  # negatives of a block at least and at most
BLOCK_ELSEWHERE = 8192
WHOLE = 512  # rows of a batch whose similarities are one block anyway

Labels = tuple[torch.Tensor | None, torch.Tensor | None]


def shared_cross_entropy(
    query: torch.Tensor,
    positive: torch.Tensor,
    negatives: torch.Tensor | None,
    temperature: float,
    block_size: int | None,
    labels: Labels = (None, None),
) -> torch.Tensor:
    """Mean cross-entropy of finding each query's positive among shared negatives.

    Args:
        query: (N, D).
        positive: (N, D).
        negatives: (K, D); None: the other rows of `positive`.
        temperature: T.
        block_size: negatives of a block; None: as suits the device, and up to 256 MiB of similarities are kept.
        labels: (N,) integers and (K,) integers, or None: a negative with the query's label is left out.

    Returns:
        A scalar; a query of which all negatives are left out counts 0.
    """
    if plain_is_needed():
        return _plain(query, positive, negatives, temperature, labels)
    if negatives is None and labels[0] is None and block_size is None and query.shape[0] <= WHOLE:
        return whole_cross_entropy(query, positive, temperature, _plain_in_batch, symmetric=False)
    if not torch.is_grad_enabled():  # nothing is kept for a backward that cannot come
        query, positive = query.detach(), positive.detach()
        negatives = None if negatives is None else negatives.detach()
    result: torch.Tensor = _Shared.apply(query, positive, negatives, temperature, block_size, *labels)
    return result


class _Shared(Function):
    """The kernel of `shared_cross_entropy`."""

    @staticmethod
    def forward(
        ctx: Any,
        query: torch.Tensor,
        positive: torch.Tensor,
        negatives: torch.Tensor | None,
        temperature: float,
        block_size: int | None,
        ids: torch.Tensor | None,
        negative_ids: torch.Tensor | None,
    ) -> torch.Tensor:
        dtype = compute_dtype(query, positive, query if negatives is None else negatives)
        rows, scale = unit_rows_and_scale(torch.cat([query.to(dtype=dtype), positive.to(dtype=dtype)]))
        (q, p), (q_scale, p_scale) = rows.chunk(2), scale.chunk(2)
        to_query, to_positive, to_negatives = ctx.needs_input_grad[:3]
        ctx.settings, ctx.kept = (temperature, block_size, negatives is None), []
        keep = block_size is None and (to_positive if negatives is None else to_negatives)
        room = _blocked.KEPT_BYTES // q.element_size() if keep else 0
        total = q.new_zeros(q.shape[0], 1)
        top = None if exp_is_safe(dtype, temperature) else torch.full_like(total, -LOG2_E / temperature)
        average = torch.zeros_like(q) if to_query else None
        size = _size(q, p if negatives is None else negatives, block_size)
        place = q.new_empty(q.shape[0] * size)
        as_units = to_negatives or 2 * q.shape[0] > q.shape[1]  # few queries: their similarities are scaled instead
        for start, rows, factor, _ in _parts(p, negatives, size, as_units):
            block = _similarities(place, q, rows, factor, start, temperature, negatives is None, (ids, negative_ids))
            if top is not None:
                higher = torch.maximum(top, block.amax(dim=1, keepdim=True))
                fade = (top - higher).exp2_()
                total *= fade
                if average is not None:
                    average *= fade
                top = higher
                block -= top
            room -= block.numel()
            block = torch.exp2(block, out=torch.empty_like(block) if room >= 0 else block)
            if room >= 0:
                ctx.kept.append((block, top))
            total += block.sum(dim=1, keepdim=True)
            if average is not None:
                average.addmm_(block if factor is None else block * factor.T, rows)
        others = total.log() if top is None else total.log().add_(top, alpha=LOG_2)
        if negatives is None or ids is not None:  # a query may have no negatives
            others.clamp_min_(masked_logit(dtype))
            total.masked_fill_(total == 0, 1)
        margin = torch.sub(others.squeeze(1), (q * p).sum(dim=1), alpha=1 / temperature)
        # A queue may be overwritten before backward, which does not need it unless it is asked for a gradient
        # or a second derivative.
        queue = negatives, negative_ids
        ctx.queue = None if to_negatives else (*queue, [_version(x) for x in queue])
        late = queue if ctx.queue is None else (None, None)
        ctx.save_for_backward(
            *map(savable, (query, positive, ids, *late, q, q_scale, p, p_scale, average, total, top, margin))
        )
        return cross_entropy(margin)

    @staticmethod
    def backward(ctx: Any, incoming: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        with without_autocast(incoming.device):
            if not torch.is_grad_enabled() and not transformed():
                return *_gradients(ctx, incoming), None, None, None, None
            query, positive, ids, negatives, negative_ids = ctx.saved_tensors[:5]
            if ctx.queue is not None:
                negatives, negative_ids, versions = ctx.queue
                if [_version(negatives), _version(negative_ids)] != versions:
                    raise RuntimeError("negatives were changed in place before their second derivative was taken")
            inputs, needed = (query, positive, negatives), ctx.needs_input_grad[:3]
            temperature, labels = ctx.settings[0], (ids, negative_ids)
            found = plain_gradients(lambda: _plain(*inputs, temperature, labels), inputs, needed, incoming)
            return *found, None, None, None, None


def _gradients(ctx: Any, incoming: torch.Tensor) -> Gradients:
    """Gradients of query, positive and negatives, in blocks."""
    query, positive, ids, negatives, negative_ids, q, q_scale, p, p_scale, average, total, top, margin = (
        ctx.saved_tensors
    )
    temperature, block_size, in_batch = ctx.settings
    _, needs_positive, needs_negatives, *_ = ctx.needs_input_grad
    kept, ctx.kept = ctx.kept[::-1], []
    chance = margin.sigmoid().mul_(incoming / (q.shape[0] * temperature)).unsqueeze(1)  # of a negative
    to_query = to_positive = to_negatives = None
    if average is not None:
        gradient = (average * (chance / total)).addcmul_(p, chance, value=-1)
        to_query = gradient_of_rows(gradient, q, q_scale).to(query.dtype)
    gradient = q * -chance
    if needs_negatives or (needs_positive and in_batch):
        weighted = q * (chance / total)
        to_negatives = torch.empty_like(negatives) if needs_negatives else None
        size = _size(q, p if in_batch else negatives, block_size)
        place = None
        for start, rows, _, scale in _parts(p, negatives, size, as_units=True):
            stop = start + rows.shape[0]
            if kept:
                block, top_then = kept.pop()
                part = block.T @ (weighted if top is None else weighted * torch.exp2(top_then - top))
            else:
                place = q.new_empty(q.shape[0] * size) if place is None else place
                block = _similarities(place, q, rows, None, start, temperature, in_batch, (ids, negative_ids))
                part = (block if top is None else block.sub_(top)).exp2_().T @ weighted
            if to_negatives is None or scale is None:
                gradient[start:stop] += part
            else:
                to_negatives[start:stop] = gradient_of_rows(part, rows, scale)
    if needs_positive:
        to_positive = gradient_of_rows(gradient, p, p_scale).to(positive.dtype)
    return to_query, to_positive, to_negatives


def _version(x: torch.Tensor | None) -> int | None:
    """How often `x` was changed in place; unknown for tensors of inference mode."""
    return None if x is None or x.is_inference() else x._version


def _size(query: torch.Tensor, negatives: torch.Tensor, block_size: int | None) -> int:
    """Negatives of a block: on a CPU as many as stay in the cache, all blocks of about one size."""
    if block_size is None and query.device.type == "cpu":
        least, most = BLOCKS_ON_CPU
        block_size = min(max(BLOCK_BYTES_ON_CPU // (query.shape[0] * query.element_size()), least), most)
    blocks = -(-negatives.shape[0] // (block_size or BLOCK_ELSEWHERE))
    return -(-negatives.shape[0] // blocks)


def _parts(
    positive: torch.Tensor, negatives: torch.Tensor | None, size: int, as_units: bool
) -> Iterator[tuple[int, torch.Tensor, torch.Tensor | None, torch.Tensor | None]]:
    """Blocks of negatives: the first one's index, rows (size, D) and the factors of `scaled_rows`.

    With `as_units` all are unit rows, and the first factor is None.
    """
    for start in range(0, len(positive if negatives is None else negatives), size):
        if negatives is None:
            yield start, positive[start : start + size], None, None
            continue
        ((rows, factor, scale),) = scaled_rows(negatives[start : start + size].to(dtype=positive.dtype))
        if as_units and factor is not None:
            rows, factor = rows * factor, None
        yield start, rows, factor, scale


def _similarities(
    place: torch.Tensor,
    query: torch.Tensor,
    rows: torch.Tensor,
    factor: torch.Tensor | None,
    start: int,
    temperature: float,
    in_batch: bool,
    labels: Labels,
) -> torch.Tensor:
    """Similarities of queries and a block of negatives in base 2, in memory of `place`; left out ones are -inf."""
    block = place[: query.shape[0] * rows.shape[0]].view(query.shape[0], rows.shape[0])
    block.addmm_(query, rows.T, beta=0, alpha=LOG2_E / temperature)
    if factor is not None:
        block *= factor.T
    if labels[0] is not None and labels[1] is not None:
        block.masked_fill_(labels[0][:, None] == labels[1][start : start + rows.shape[0]], -math.inf)
    elif in_batch:
        block.diagonal(-start).fill_(-math.inf)
    return block


def _plain(
    query: torch.Tensor,
    positive: torch.Tensor,
    negatives: torch.Tensor | None,
    temperature: float,
    labels: Labels,
) -> torch.Tensor:
    dtype = compute_dtype(query, positive, query if negatives is None else negatives)
    query, positive = unit_rows(query.to(dtype)), unit_rows(positive.to(dtype))
    ids, negative_ids = labels
    if negatives is None and ids is None:
        ids = negative_ids = torch.arange(query.shape[0], device=query.device)
    logits = query @ (positive if negatives is None else unit_rows(negatives.to(dtype))).T / temperature
    if ids is not None and negative_ids is not None:
        logits = logits.masked_fill(ids[:, None] == negative_ids, masked_logit(dtype))
    return cross_entropy(logits.logsumexp(dim=1) - (query * positive).sum(dim=1) / temperature)


def _plain_in_batch(query: torch.Tensor, positive: torch.Tensor, temperature: float) -> torch.Tensor:
    return _plain(query, positive, None, temperature, (None, None))
