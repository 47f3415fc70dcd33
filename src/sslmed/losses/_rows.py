"""What the losses share on rows of embeddings: checks, and cosines with negatives of each query's own."""

from __future__ import annotations

import torch

from .. import _checks
from .._tensor import eager, scaled_rows, unit_rows


def check_pair(**pair: torch.Tensor) -> None:
    """Raise unless both named tensors are floating point, of one shape (N, D), not empty, on one device."""
    for name, x in pair.items():
        _checks.floating(name, x)
        _checks.shaped(name, x, "(N, D)", ndim=2)
    (name_a, a), (name_b, b) = pair.items()
    _checks.same_shape(name_a, a, name_b, b)
    _checks.same_device(**pair)
    if not a.numel():
        raise ValueError(f"{name_a} must have at least one row and one feature, got shape {tuple(a.shape)}")


def check_negatives(anchor_name: str, anchor: torch.Tensor, negatives: torch.Tensor, *, per_anchor: bool) -> None:
    """Raise unless `negatives` fits `anchor` (N, D): (N, K, D) or, unless `per_anchor`, (K, D); K >= 1."""
    expected = "(N, K, D)" if per_anchor else "(K, D) or (N, K, D)"
    _checks.floating("negatives", negatives)
    _checks.shaped("negatives", negatives, expected, ndim=3 if per_anchor else (2, 3))
    fits = negatives.shape[-1] == anchor.shape[1] and (negatives.ndim == 2 or negatives.shape[0] == anchor.shape[0])
    if not fits:
        raise ValueError(
            f"negatives must have shape {expected} to fit {anchor_name} of shape {tuple(anchor.shape)}, "
            f"got {tuple(negatives.shape)}"
        )
    if not negatives.shape[-2]:
        raise ValueError(f"negatives must hold at least one row for each anchor, got shape {tuple(negatives.shape)}")
    _checks.same_device(**{anchor_name: anchor, "negatives": negatives})


def check_ids(
    query: torch.Tensor,
    negatives: torch.Tensor | None,
    ids: torch.Tensor | None,
    negative_ids: torch.Tensor | None,
) -> None:
    """Raise unless `ids` (N,) and `negative_ids` (K,) or (N, K) label query and negatives, or are None."""
    if negatives is None and negative_ids is not None:
        raise ValueError("negative_ids must be None when negatives is None: ids labels both sides")
    if negatives is not None and (ids is None) != (negative_ids is None):
        given, missing = ("ids", "negative_ids") if negative_ids is None else ("negative_ids", "ids")
        raise ValueError(f"{missing} must be given along with {given}, got None")
    labelled = (("ids", ids, "query", query), ("negative_ids", negative_ids, "negatives", negatives))
    for name, labels, owner, rows in labelled:
        if labels is None or rows is None:
            continue
        if not isinstance(labels, torch.Tensor) or labels.is_floating_point() or labels.is_complex():
            got = labels.dtype if isinstance(labels, torch.Tensor) else type(labels).__name__
            raise TypeError(f"{name} must be a tensor of integers, got {got}")
        if labels.shape != rows.shape[:-1]:
            raise ValueError(
                f"{name} must have shape {tuple(rows.shape[:-1])} to label {owner}, got {tuple(labels.shape)}"
            )
        _checks.same_device(**{owner: rows, name: labels})


def own_cosines(query: torch.Tensor, negatives: torch.Tensor) -> torch.Tensor:
    """Cosines (N, K) of unit rows `query` (N, D) with negatives (N, K, D) of any length."""
    if negatives.requires_grad or not eager(negatives):
        return torch.einsum("nd,nkd->nk", query, unit_rows(negatives))
    if 1 not in negatives.stride()[1:]:  # every product would copy it anew
        negatives = negatives.contiguous()
    ((rows, factor, _),) = scaled_rows(negatives)  # cosines are scaled: rows are D times as many numbers
    cosines = torch.einsum("nd,nkd->nk", query, rows)
    return cosines if factor is None else cosines * factor.squeeze(2)
