"""Has it collapsed? What embeddings of a batch or a data set tell about a pretraining, without labels.

Standard deviation of features: Chen and He, "SimSiam", CVPR 2021, section 4.1. Alignment and uniformity: Wang and
Isola, "Understanding contrastive representation learning through alignment and uniformity on the hypersphere", ICML
2020, sections 4.1.1 and 4.1.2. Effective rank: Garrido et al., "RankMe", ICML 2023, Eq. 1. LiDAR: Thilak et al.,
"LiDAR: Sensing linear probing performance in joint embedding SSL architectures", ICLR 2024, section 4.

All are scalars of at least float32, outside any graph and with autocast off, on the embeddings' device. An embedding
that is not finite makes them nan.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .. import _checks
from .._compat import without_autocast
from .._tensor import compute_dtype, unit_rows

_ROWS = 256  # of similarities held at a time


@torch.no_grad()
def feature_std(z: Tensor) -> Tensor:
    """Standard deviation of each feature over the rows, averaged over the features; rows are scaled to length 1 first.

    About 1 / sqrt(D) where directions spread evenly, 0 where all embeddings have collapsed to one. It does not see a
    collapse to some of the dimensions: `effective_rank` does.

    Args:
        z: (N, D) embeddings, N >= 2.

    Returns:
        Scalar from 0 to sqrt(N / ((N - 1) D)).

    Raises:
        TypeError: z is not of floating point.
        ValueError: a shape that is not (N, D), or fewer than two rows.

    Example:
        >>> feature_std(torch.eye(4)), feature_std(torch.ones(4, 4))
        (tensor(0.5000), tensor(0.))
    """
    return unit_rows(_wide("z", z, rows=2)).std(dim=0).mean()


@torch.no_grad()
def alignment(z0: Tensor, z1: Tensor, *, alpha: float = 2.0) -> Tensor:
    """Mean distance of two views of a sample, to the power alpha; rows are scaled to length 1 first.

    0 where views agree, 2^(alpha / 2) where they are orthogonal. Low alone is no success: a collapse gives 0.

    Args:
        z0: (N, D) embeddings of one view of each sample.
        z1: (N, D) embeddings of another view of the same samples.
        alpha: the exponent, above 0.

    Returns:
        Scalar in [0, 2^alpha].

    Raises:
        TypeError: a tensor is not of floating point.
        ValueError: shapes or devices that do not fit, no rows, or alpha not above 0.

    Example:
        >>> alignment(torch.eye(3), 5 * torch.eye(3)), alignment(torch.eye(3), torch.eye(3).flip(1))
        (tensor(0.), tensor(1.3333))
    """
    alpha = _checks.number("alpha", alpha, low=0, low_open=True)
    z0, z1 = _wide("z0", z0), _wide("z1", z1)
    _checks.same_shape("z0", z0, "z1", z1)
    _checks.same_device(z0=z0, z1=z1)
    distances: Tensor = torch.linalg.vector_norm(unit_rows(z0) - unit_rows(z1), dim=1)
    return distances.pow(alpha).mean()


@torch.no_grad()
def uniformity(z: Tensor, *, t: float = 2.0) -> Tensor:
    """Logarithm of the mean of exp(-t |z_i - z_j|^2) over all pairs i < j; rows are scaled to length 1 first.

    0 where all embeddings have collapsed to one, and the lower the more evenly they cover the sphere: towards -2t in
    many dimensions. Exact, in time O(N^2 D) and memory O(N): 256 rows of distances are held at a time.

    Args:
        z: (N, D) embeddings, one for each sample, N >= 2.
        t: the scale, above 0.

    Returns:
        Scalar in [-4t, 0].

    Raises:
        TypeError: z is not of floating point.
        ValueError: a shape that is not (N, D), fewer than two rows, or t not above 0.

    Example:
        >>> uniformity(torch.eye(3)), uniformity(torch.ones(3, 3))
        (tensor(-4.), tensor(0.))
    """
    t = _checks.number("t", t, low=0, low_open=True)
    z = unit_rows(_wide("z", z, rows=2))
    parts = []
    with without_autocast(z.device):
        for start in range(0, len(z) - 1, _ROWS):
            rows = z[start : start + _ROWS]
            # not 2 - 2 a.b: a row may be 0
            squares = z[start:].square().sum(dim=1)
            distances = squares[: len(rows), None] + squares - 2 * rows @ z[start:].T
            distances.clamp_(min=0)  # where rounding went below
            own = torch.ones(len(rows), len(rows), dtype=torch.bool, device=z.device).tril()
            distances[:, : len(rows)].masked_fill_(own, torch.inf)
            parts.append((-t * distances).flatten().logsumexp(dim=0))
    pairs = len(z) * (len(z) - 1) / 2
    return torch.stack(parts).logsumexp(dim=0) - math.log(pairs)


@torch.no_grad()
def effective_rank(z: Tensor) -> Tensor:
    """RankMe: exponential of the entropy of the singular values' shares, or how many dimensions the embeddings use.

    The rows are taken as they are, neither scaled nor centred, as published; the published 1e-7 that keeps log 0 away
    is not needed. k where k directions carry equal parts, 1 where all embeddings have collapsed to one direction, or
    to 0. It sees a collapse to some of the dimensions, which `feature_std` does not.

    Args:
        z: (N, D) embeddings. With N not well above D it says more about N than about the network.

    Returns:
        Scalar in [1, min(N, D)].

    Raises:
        TypeError: z is not of floating point.
        ValueError: a shape that is not (N, D), or no rows.

    Example:
        >>> effective_rank(torch.eye(4)), effective_rank(torch.eye(4)[:1].expand(9, 4))
        (tensor(4.), tensor(1.))
    """
    z = _wide("z", z)
    if not z.isfinite().all():
        return z.new_tensor(torch.nan)
    values = torch.linalg.svdvals(_scaled(z, z.abs().amax()))
    return _perplexity(values)


@torch.no_grad()
def lidar(z: Tensor, *, delta: float = 1e-4) -> Tensor:
    """LiDAR: effective rank of the linear discriminant analysis that tells the images apart by their views.

    The views of an image are a class. With the covariance of the images' means, S_b, and the mean covariance of an
    image's views plus delta I, S_w, it is the exponential of the entropy of the eigenvalues' shares of
    S_w^-1/2 S_b S_w^-1/2. Directions in which views of one image differ as much as images do count little, which
    `effective_rank` cannot tell from useful ones.

    The embeddings are taken as they are, as published; the published constant that keeps log 0 away is not needed.
    Computed in float64.

    Args:
        z: (N, Q, D) embeddings of Q views of each of N images, N and Q >= 2. The paper takes 1,000 images and 50 views;
            fewer give a lower value, so compare values of the same N and Q only.
        delta: added to the variances of views, above 0; it decides where views hardly differ.

    Returns:
        Scalar in [1, min(N - 1, D)].

    Raises:
        TypeError: z is not of floating point.
        ValueError: a shape that is not (N, Q, D), fewer than two images or views, or delta not above 0.

    Example:
        >>> images, noise = torch.eye(4)[:, None], torch.tensor([[[-0.1], [0.1]]])
        >>> lidar(images + noise)
        tensor(3.)
    """
    _checks.floating("z", z)
    _checks.shaped("z", z, "(N, Q, D)", ndim=3)
    if min(z.shape[:2]) < 2 or not z.shape[2]:
        raise ValueError(f"z must have at least 2 images, 2 views and one feature, got shape {tuple(z.shape)}")
    delta = _checks.number("delta", delta, low=0, low_open=True)
    if not z.isfinite().all():
        return z.new_tensor(torch.nan, dtype=compute_dtype(z))
    views, means = z.double(), z.double().mean(dim=1)
    within = (views - means[:, None]).flatten(0, 1)
    covariance = within.T @ within / len(within)
    covariance.diagonal().add_(delta)
    between = (means - means.mean(dim=0)) / len(means) ** 0.5
    # The eigenvalues of S_w^-1/2 S_b S_w^-1/2 are the squared singular values of L^-1 times the means, S_w = L L^T.
    whitened = torch.linalg.solve_triangular(torch.linalg.cholesky(covariance), between.T, upper=False)
    return _perplexity(torch.linalg.svdvals(whitened).square()).to(compute_dtype(z))


def _wide(name: str, z: Tensor, *, rows: int = 1) -> Tensor:
    """`z` in at least float32, after a look at it."""
    _checks.floating(name, z)
    _checks.shaped(name, z, "(N, D)", ndim=2)
    if len(z) < rows or not z.shape[1]:
        raise ValueError(
            f"{name} must have at least {rows} row{'s' * (rows > 1)} and one feature, got shape {tuple(z.shape)}"
        )
    return z.to(compute_dtype(z))


def _perplexity(values: Tensor) -> Tensor:
    """Exponential of the entropy of the shares of non-negative values."""
    entropy: Tensor = torch.special.entr(_scaled(values, values.sum())).sum()
    return entropy.exp()


def _scaled(x: Tensor, by: Tensor) -> Tensor:
    """Divide by `by`, where it is not 0."""
    return x / by.masked_fill(by == 0, 1)
