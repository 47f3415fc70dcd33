"""Relation contrastive loss: a small learned network judges whether two embeddings belong together.

Ellis et al., section III, Eqs. 7-9; the relation network follows Sung et al., "Learning to compare", CVPR
2018. Negatives are averaged, not summed, so that positives and negatives weigh the same whatever their
number. `input_scale` is an addition (see `RelationHead`).
"""

from __future__ import annotations

from itertools import chain

import torch
import torch.nn.functional as F
from torch import nn

from .. import _checks
from .._compat import without_autocast
from .._tensor import compute_dtype
from ._rows import check_negatives, check_pair


def relation_contrastive(positive_scores: torch.Tensor, negative_scores: torch.Tensor) -> torch.Tensor:
    """Squared error of relation scores: mean (s+ - 1)^2 + mean (s-)^2.

    Args:
        positive_scores: (N,), the relation of each anchor with its positive, in [0, 1].
        negative_scores: (N, K), the relation of each anchor with its K negatives, or (M,) of any pairs, in
            [0, 1].

    Returns:
        The loss, a scalar of at least float32: 0 for perfect scores, 2 at worst, 0.5 at best when all scores
            are equal.

    Raises:
        TypeError: scores are not of floating point.
        ValueError: scores of another shape, on two devices, or empty.

    Example:
        >>> import torch
        >>> relation_contrastive(torch.tensor([1.0, 0.5]), torch.tensor([[0.0, 0.5], [0.0, 0.5]]))
        tensor(0.2500)
    """
    _checks.floating("positive_scores", positive_scores)
    _checks.floating("negative_scores", negative_scores)
    _checks.shaped("positive_scores", positive_scores, "(N,)", ndim=1)
    _checks.shaped("negative_scores", negative_scores, "(N, K) or (M,)", ndim=(1, 2))
    if negative_scores.ndim == 2 and len(negative_scores) != len(positive_scores):
        raise ValueError(
            f"negative_scores must have shape (N, K) with N = {len(positive_scores)} as positive_scores, "
            f"got {tuple(negative_scores.shape)}"
        )
    if not positive_scores.numel() or not negative_scores.numel():
        raise ValueError(
            "positive_scores and negative_scores must not be empty, "
            f"got shapes {tuple(positive_scores.shape)} and {tuple(negative_scores.shape)}"
        )
    _checks.same_device(positive_scores=positive_scores, negative_scores=negative_scores)
    dtype = compute_dtype(positive_scores, negative_scores)
    positive, negative = positive_scores.to(dtype=dtype), negative_scores.to(dtype=dtype)
    return F.mse_loss(positive, torch.ones_like(positive)) + F.mse_loss(negative, torch.zeros_like(negative))


class RelationHead(nn.Module):
    """The relation network h: linear, ReLU, linear, sigmoid of the element-wise product of two embeddings.

    It works in float32 or wider, with autocast off.

    Args:
        dim: features D of an embedding.
        hidden: width of the hidden layer.
        input_scale: factor on the product. At 1 it is the paper's. The entries of a product of two unit
            vectors are about 1/D, so that the network hardly trains at the paper's learning rate of 1e-3;
            `dim` brings them to about 1.

    Raises:
        ValueError: a size below 1, or a scale that is not positive.

    Example:
        >>> import torch
        >>> RelationHead(16)(torch.rand(4, 16), torch.rand(4, 16)).shape
        torch.Size([4])
    """

    def __init__(self, dim: int = 128, *, hidden: int = 64, input_scale: float = 1.0) -> None:
        super().__init__()
        self.dim: int = _checks.integer("dim", dim, low=1)
        self.input_scale: float = _checks.number("input_scale", input_scale, low=0, low_open=True)
        self.hidden: nn.Linear = nn.Linear(dim, _checks.integer("hidden", hidden, low=1))
        self.score: nn.Linear = nn.Linear(hidden, 1)

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        """The relation of `a` and `b`, the same as that of `b` and `a`.

        Args:
            a: (..., D).
            b: (..., D); leading dimensions broadcast against those of `a`, as in `a * b`.

        Returns:
            Scores (...) in (0, 1).
        """
        for name, x in (("a", a), ("b", b)):
            _checks.floating(name, x)
            if x.ndim < 1 or x.shape[-1] != self.dim:
                raise ValueError(f"{name} must have shape (..., {self.dim}), got {tuple(x.shape)}")
        _checks.same_device(a=a, b=b)
        with without_autocast(a.device):
            dtype = compute_dtype(a, b, *self.parameters())
            product = a.to(dtype) * b.to(dtype)
            product = product if self.input_scale == 1 else self.input_scale * product
            return _apply(self.score, F.relu(_apply(self.hidden, product))).squeeze(-1).sigmoid()

    def extra_repr(self) -> str:
        """Show the settings."""
        return f"dim={self.dim}, input_scale={self.input_scale:g}"


def _apply(layer: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Call a layer in the dtype of `x`, whatever its own is.

    The layer is called as a module, so that hooks, parametrisations, pruning and replacements of it act.
    """
    if all(p.dtype == x.dtype for p in layer.parameters()):
        return layer(x)  # type: ignore[no-any-return]
    tensors = chain(layer.named_parameters(), layer.named_buffers())
    cast = {name: t.to(x.dtype) for name, t in tensors if t.is_floating_point()}
    return torch.func.functional_call(layer, cast, (x,))  # type: ignore[no-any-return]


class RelationContrastive(nn.Module):
    """Relation contrastive loss: mean (h(a * p) - 1)^2 + mean h(a * n)^2 with a learned relation network h.

    h is part of the loss and learns with the encoder: give `parameters()` to the optimizer too. Call one
    instance for the image level and the patch level, which share h in the paper. Embeddings are taken as they
    are; the paper's are unit vectors, so normalise them before.

    Args:
        dim: features D of an embedding.
        hidden: width of the relation network's hidden layer.
        input_scale: factor on the products, as in `RelationHead`.

    Raises:
        ValueError: a size below 1, or a scale that is not positive.

    Example:
        >>> import torch, torch.nn.functional as F
        >>> loss = RelationContrastive(16)
        >>> a, p, n = (F.normalize(torch.rand(rows, 16), dim=1) for rows in (4, 4, 9))
        >>> loss(a, p, n).shape
        torch.Size([])
    """

    def __init__(self, dim: int = 128, *, hidden: int = 64, input_scale: float = 1.0) -> None:
        super().__init__()
        self.head: RelationHead = RelationHead(dim, hidden=hidden, input_scale=input_scale)

    def forward(self, anchor: torch.Tensor, positive: torch.Tensor, negatives: torch.Tensor) -> torch.Tensor:
        """The loss of embeddings.

        Args:
            anchor: (N, D).
            positive: (N, D); row i belongs to row i of `anchor`.
            negatives: (K, D), shared by all anchors, or (N, K, D), each anchor's own.

        Returns:
            The loss, a scalar in (0, 2) of at least float32.

        Raises:
            TypeError: a tensor is not of floating point.
            ValueError: shapes or devices that do not fit, or no negatives.
        """
        check_pair(anchor=anchor, positive=positive)
        if anchor.shape[1] != self.head.dim:
            raise ValueError(f"anchor must have shape (N, {self.head.dim}), got {tuple(anchor.shape)}")
        check_negatives("anchor", anchor, negatives, per_anchor=False)
        return relation_contrastive(self.head(anchor, positive), self.head(anchor[:, None], negatives))
