"""Noise-contrastive estimation: closed forms, the literal loop, gradients, bad input; the rest in test_contrastive."""

from __future__ import annotations

import math

import pytest
import torch

import reference
from sslmed.losses import NCE, nce


def rows(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("temperature", [0.02, 0.07, 1.0, 10.0])
def test_nce_equals_the_loop(temperature: float) -> None:
    q, p, n = rows(5, 6), rows(5, 6, seed=1), rows(5, 7, 6, seed=2)
    expected = reference.nce(q, p, n, 100, temperature)
    torch.testing.assert_close(NCE(temperature=temperature)(q, p, n, population=100), expected)


@pytest.mark.parametrize(("k", "expected"), [(112, 5.722950), (544, 7.299868), (6400, 9.764131), (32000, 11.373507)])
def test_nce_of_equal_scores(k: int, expected: float) -> None:
    one = torch.ones(1, 2)
    loss = nce(one, one, one.expand(1, k, 2), population=k + 1)
    assert loss.item() == pytest.approx(expected, rel=1e-6)
    assert loss.item() == pytest.approx(math.log(1 + k) + k * math.log1p(1 / k), rel=1e-6)


def test_nce_does_not_depend_on_the_population() -> None:
    q, p, n = rows(5, 6), rows(5, 6, seed=1), rows(5, 7, 6, seed=2)
    torch.testing.assert_close(nce(q, p, n, population=8), nce(q, p, n, population=1_000_000))


def test_gradients_of_nce() -> None:
    inputs = [
        rows(4, 6).requires_grad_(),
        rows(4, 6, seed=1).requires_grad_(),
        rows(4, 3, 6, seed=2).requires_grad_(),
    ]
    assert torch.autograd.gradcheck(lambda *x: nce(*x, population=50, temperature=0.3), inputs)


def test_the_loss_compiles_in_one_graph() -> None:
    q, p, n = rows(5, 6), rows(5, 6, seed=1), rows(5, 7, 6, seed=2)
    compiled = torch.compile(NCE(), fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(q, p, n, population=9), NCE()(q, p, n, population=9))


def test_bad_input() -> None:
    q = torch.rand(4, 6)
    with pytest.raises(ValueError, match=r"negatives must have shape \(N, K, D\), got \(7, 6\)"):
        nce(q, q, torch.rand(7, 6), population=9)
    with pytest.raises(ValueError, match="population must be at least 1"):
        nce(q, q, torch.rand(4, 2, 6), population=0)
    with pytest.raises(ValueError, match="temperature must be a finite number"):
        NCE(temperature=0.0)


def test_the_module_shows_its_settings() -> None:
    assert repr(NCE()) == "NCE(temperature=0.07)"
