"""What a contrastive loss allocates with default settings: its similarities, and less where they are many."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from allocations import Largest
from sslmed.losses import info_nce, nt_xent

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def largest_of(loss: Loss, n: int) -> int:
    z0, z1 = (torch.randn(n, 8).requires_grad_() for _ in range(2))
    with Largest() as mode:
        loss(z0, z1).backward()
    return mode.elements


@pytest.mark.parametrize("loss", [nt_xent, info_nce])
def test_a_small_batch_makes_its_similarities_and_nothing_larger(loss: Loss) -> None:
    assert largest_of(loss, 256) <= 512**2  # 1 MiB in float32; N x N x D would be 128 times as much for D = 128


@pytest.mark.parametrize("loss", [nt_xent, info_nce])
def test_a_large_batch_never_makes_all_its_similarities_at_once(loss: Loss) -> None:
    assert largest_of(loss, 2048) <= 2048**2 / 2
