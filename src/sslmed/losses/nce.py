"""Noise-contrastive estimation over a memory of images.

Wu et al., "Unsupervised feature learning via non-parametric instance discrimination", CVPR 2018, Eqs. 5-8, as used
by Misra and van der Maaten, "PIRL", CVPR 2020.

Similarities are cosines: rows are scaled to length 1 inside, and a row of zeros has cosine 0 with everything.
All work is in float32 or wider with autocast off, and in log space.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn

from .. import _checks
from .._compat import without_autocast
from .._tensor import compute_dtype, unit_rows
from ._rows import check_negatives, check_pair, own_cosines


def nce(
    query: torch.Tensor,
    positive: torch.Tensor,
    negatives: torch.Tensor,
    *,
    population: int,
    temperature: float = 0.07,
) -> torch.Tensor:
    """Noise-contrastive estimation of instance discrimination over a memory of `population` images.

    The mean over i of -log(P_i / (P_i + K/M)) - sum_k log((K/M) / (P_ik + K/M)), where M is the population
    and P = e^{cosine / T} / Z is the probability of an image under the query. Z = M * mean(e^{cosine / T}) is
    estimated from all N (K + 1) cosines of the batch at every call. Because Z grows with M, M cancels from
    the value; it is asked for because it belongs to the estimator. The gradient is that of the value: it
    passes through Z.

    Deviations from vissl's code: Z is not frozen at the first batch, and negatives are the caller's, so that
    the own image need not be among them (`MemoryBank.negatives` never draws it).

    Args:
        query: (N, D).
        positive: (N, D), the memory's row of each query's image.
        negatives: (N, K, D), rows of other images.
        population: M, the number of images in the data set.
        temperature: T, above 0.

    Returns:
        The loss, a scalar of at least float32.

    Raises:
        TypeError: a tensor is not of floating point, or `population` not an int.
        ValueError: shapes or devices that do not fit, no negatives, a population below 1, or a temperature
            that is not positive.

    Example:
        With all cosines equal the loss is log(1 + K) + K log(1 + 1/K), whatever the population:

        >>> import torch
        >>> nce(torch.ones(2, 4), torch.ones(2, 4), torch.ones(2, 7, 4), population=100)
        tensor(3.0142)
    """
    temperature = _checks.number("temperature", temperature, low=0, low_open=True)
    population = _checks.integer("population", population, low=1)
    check_pair(query=query, positive=positive)
    check_negatives("query", query, negatives, per_anchor=True)
    with without_autocast(query.device):
        dtype = compute_dtype(query, positive, negatives)
        query, positive = unit_rows(query.to(dtype)), unit_rows(positive.to(dtype))
        agreement = (query * positive).sum(dim=1, keepdim=True)
        others = own_cosines(query, negatives.to(dtype))
        scores = torch.cat([agreement, others], dim=1) / temperature
        # Logarithms of sizes as tensors: torch 2.9 may keep a compiled number where the size has changed.
        log_z = math.log(population) + scores.flatten().logsumexp(dim=0) - _log(scores.numel(), scores)
        log_noise = _log(negatives.shape[1], scores) - math.log(population)
        log_odds = scores - log_z - log_noise
        return -(F.logsigmoid(log_odds[:, 0]) + F.logsigmoid(-log_odds[:, 1:]).sum(dim=1)).mean()


def _log(size: int, like: torch.Tensor) -> torch.Tensor:
    return torch.full((), size, dtype=like.dtype, device=like.device).log()


class NCE(nn.Module):
    """Noise-contrastive estimation against a memory bank, as in PIRL: `nce` with stored settings.

    Args:
        temperature: as in `nce`.

    Example:
        >>> import torch
        >>> NCE()(torch.rand(8, 16), torch.rand(8, 16), torch.rand(8, 5, 16), population=931).shape
        torch.Size([])
    """

    def __init__(self, *, temperature: float = 0.07) -> None:
        super().__init__()
        self.temperature: float = _checks.number("temperature", temperature, low=0, low_open=True)

    def forward(
        self, query: torch.Tensor, positive: torch.Tensor, negatives: torch.Tensor, *, population: int
    ) -> torch.Tensor:
        """The loss of query (N, D), positive (N, D) and negatives (N, K, D)."""
        return nce(query, positive, negatives, population=population, temperature=self.temperature)

    def extra_repr(self) -> str:
        """Show the settings."""
        return f"temperature={self.temperature:g}"
