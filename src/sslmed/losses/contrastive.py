"""Contrastive losses on embeddings: NT-Xent and InfoNCE.

NT-Xent: Chen et al., "SimCLR", ICML 2020, Eq. 1. InfoNCE: van den Oord et al., "Representation learning with
contrastive predictive coding", 2018, Eq. 4, in the form of He et al., "MoCo", CVPR 2020, Eq. 1.

Similarities are cosines: rows are scaled to length 1 inside, and a row of zeros has cosine 0 with everything.
All work is in float32 or wider with autocast off, and in log space.

`block_size` bounds the memory of a loss, exactly: value and gradient are those of the whole matrix. The whole
matrix is what torch.compile, the transforms of torch.func and `create_graph=True` get, whatever the block size. Use
torch.func for batched gradients too: autograd's own `is_grads_batched` cannot follow the blocks.
"""

from __future__ import annotations

import torch
from torch import nn

from .. import _checks
from .._compat import plain, without_autocast
from .._tensor import compute_dtype, unit_rows
from ._blocked import cross_entropy, masked_logit
from ._paired import paired_cross_entropy
from ._rows import check_ids, check_negatives, check_pair, own_cosines
from ._shared import shared_cross_entropy


def nt_xent(
    z0: torch.Tensor, z1: torch.Tensor, *, temperature: float = 0.5, block_size: int | None = None
) -> torch.Tensor:
    """Normalised temperature-scaled cross-entropy: each view finds its partner among all other views.

    The mean over the 2N rows of -log(e^{s(i, partner) / T} / sum_{j != i} e^{s(i, j) / T}), s being the
    cosine. Google's code returns twice this (the sum of two means over N rows).

    Args:
        z0: (N, D), one view of each sample, N >= 2.
        z1: (N, D), another view of the same samples.
        temperature: T, above 0.
        block_size: rows of similarities held from forward to backward, for memory O(N x block); the fewer, the more
            are computed twice. None: up to 256 MiB of them, which is all up to 5600 samples in float32 (4096
            samples take 136 MiB).

    Returns:
        The loss, a scalar of at least float32.

    Raises:
        TypeError: a tensor is not of floating point.
        ValueError: shapes or devices that do not fit, fewer than two samples, or a setting that is not
            positive.

    Example:
        With all rows equal the loss is log(2N - 1):

        >>> import torch
        >>> nt_xent(torch.ones(4, 8), torch.ones(4, 8))  # log 7
        tensor(1.9459)
    """
    temperature, block_size = _checked_settings(temperature, block_size)
    check_pair(z0=z0, z1=z1)
    if z0.shape[0] < 2:
        raise ValueError("z0 must have at least 2 rows, got 1: there is no negative")
    with without_autocast(z0.device):
        return paired_cross_entropy(plain(z0), plain(z1), temperature, block_size)


def info_nce(
    query: torch.Tensor,
    positive: torch.Tensor,
    negatives: torch.Tensor | None = None,
    *,
    temperature: float = 0.07,
    block_size: int | None = None,
    ids: torch.Tensor | None = None,
    negative_ids: torch.Tensor | None = None,
) -> torch.Tensor:
    """Cross-entropy of finding each query's positive among the negatives.

    The mean over i of -log(e^{s(q_i, p_i) / T} / (e^{s(q_i, p_i) / T} + sum_k e^{s(q_i, n_k) / T})), s being
    the cosine.

    Args:
        query: (N, D).
        positive: (N, D); row i belongs to row i of `query`. Gradients reach it, as they do the negatives: make
            MoCo's keys under `torch.no_grad()`.
        negatives: (K, D), shared by all queries, as a queue; or (N, K, D), each query's own, as from a memory
            bank; or None: for query i, the rows of `positive` other than i.
        temperature: T, above 0.
        block_size: shared negatives held at a time, for memory O(N x block); None: on a CPU as many as make 1 MiB of
            similarities (256 to 8192), else 8192, and where negatives need a gradient, as those of the batch do, up to
            256 MiB of similarities are held from forward to backward. Negatives of shape (N, K, D) are not cut into
            blocks: they are larger than their similarities.
        ids: (N,) integers, the patient or image of each query: negatives with its id are left out. A query
            that loses all its negatives counts as a loss of 0.
        negative_ids: (K,) or (N, K) integers, the ids of `negatives`; None if `negatives` is None.

    Returns:
        The loss, a scalar of at least float32.

    Raises:
        TypeError: a tensor is not of floating point, or ids are not integers.
        ValueError: shapes or devices that do not fit, no negatives, ids on one side only, or a setting that
            is not positive.

    Example:
        With K negatives and all cosines equal the loss is log(K + 1):

        >>> import torch
        >>> q, p, n = torch.ones(2, 4), torch.ones(2, 4), torch.ones(7, 4)
        >>> info_nce(q, p, n)  # log 8
        tensor(2.0794)
        >>> patients, queued = torch.tensor([0, 1]), torch.tensor([0, 0, 1, 1, 2, 3, 4])
        >>> info_nce(q, p, n, ids=patients, negative_ids=queued)  # log 6
        tensor(1.7918)
    """
    temperature, block_size = _checked_settings(temperature, block_size)
    check_pair(query=query, positive=positive)
    if negatives is not None:
        check_negatives("query", query, negatives, per_anchor=False)
    elif query.shape[0] < 2:
        raise ValueError("query must have at least 2 rows when negatives is None, got 1: there is no negative")
    if ids is not None or negative_ids is not None:
        check_ids(query, negatives, ids, negative_ids)
        # torch does not compare unsigned integers with others.
        ids, negative_ids = (None if labels is None else plain(labels).long() for labels in (ids, negative_ids))
    negatives = None if negatives is None else plain(negatives)
    query, positive = plain(query), plain(positive)
    with without_autocast(query.device):
        if negatives is None or negatives.ndim == 2:
            labels = ids, ids if negatives is None else negative_ids
            return shared_cross_entropy(query, positive, negatives, temperature, block_size, labels)
        dtype = compute_dtype(query, positive, negatives)
        query, positive = unit_rows(query.to(dtype)), unit_rows(positive.to(dtype))
        logits = own_cosines(query, negatives.to(dtype)) / temperature
        if ids is not None and negative_ids is not None:
            logits = logits.masked_fill(ids[:, None] == negative_ids, masked_logit(dtype))
        return cross_entropy(logits.logsumexp(dim=1) - (query * positive).sum(dim=1) / temperature)


class NTXent(nn.Module):
    """NT-Xent, the loss of SimCLR: `nt_xent` with stored settings.

    Args:
        temperature: as in `nt_xent`.
        block_size: as in `nt_xent`.

    Example:
        >>> import torch
        >>> NTXent(temperature=0.1)(torch.rand(8, 16), torch.rand(8, 16)).shape
        torch.Size([])
    """

    def __init__(self, *, temperature: float = 0.5, block_size: int | None = None) -> None:
        super().__init__()
        self.temperature: float
        self.block_size: int | None
        self.temperature, self.block_size = _checked_settings(temperature, block_size)

    def forward(self, z0: torch.Tensor, z1: torch.Tensor) -> torch.Tensor:
        """The loss of two views z0 and z1, both (N, D)."""
        return nt_xent(z0, z1, temperature=self.temperature, block_size=self.block_size)

    def extra_repr(self) -> str:
        """Show the settings."""
        return _shown(self.temperature, self.block_size)


class InfoNCE(nn.Module):
    """InfoNCE, the loss of MoCo, with or without a queue: `info_nce` with stored settings.

    Args:
        temperature: as in `info_nce`.
        block_size: as in `info_nce`.

    Example:
        >>> import torch
        >>> InfoNCE(temperature=0.2)(torch.rand(8, 16), torch.rand(8, 16)).shape
        torch.Size([])
    """

    def __init__(self, *, temperature: float = 0.07, block_size: int | None = None) -> None:
        super().__init__()
        self.temperature: float
        self.block_size: int | None
        self.temperature, self.block_size = _checked_settings(temperature, block_size)

    def forward(
        self,
        query: torch.Tensor,
        positive: torch.Tensor,
        negatives: torch.Tensor | None = None,
        *,
        ids: torch.Tensor | None = None,
        negative_ids: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """The loss of query (N, D), positive (N, D) and negatives (K, D), (N, K, D) or None."""
        return info_nce(
            query,
            positive,
            negatives,
            temperature=self.temperature,
            block_size=self.block_size,
            ids=ids,
            negative_ids=negative_ids,
        )

    def extra_repr(self) -> str:
        """Show the settings."""
        return _shown(self.temperature, self.block_size)


def _checked_settings(temperature: float, block_size: int | None) -> tuple[float, int | None]:
    temperature = _checks.number("temperature", temperature, low=0, low_open=True)
    return temperature, None if block_size is None else _checks.integer("block_size", block_size, low=1)


def _shown(temperature: float, block_size: int | None) -> str:
    return f"temperature={temperature:g}" + ("" if block_size is None else f", block_size={block_size}")
