"""The floor of contrastive losses: the matrix products that no way to write them can leave out."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor


def products(rows: Tensor, others: Tensor, *, backward: bool = True, both: bool = False) -> Callable[[], object]:
    """The similarity of every row with every other, and the products that give the gradients.

    Args:
        rows: (..., N, D).
        others: (..., K, D).
        backward: whether to go on to the gradient of `rows`, one product more.
        both: whether `others` have a gradient of their own, another product.
    """

    def call() -> object:
        similar = rows @ others.mT
        if not backward:
            return similar
        return similar @ others, similar.mT @ rows if both else None

    return call
