"""Small batches, which have a kernel of their own, and queries that are few beside their features.

Sizes just below and above each switch give the value of the literal loop and the gradients of the plain expression.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import reference
from plain_losses import plainly
from sslmed.losses import _paired, _shared, byol, info_nce, nt_xent

Loss = Callable[..., Tensor]


def rows(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def pair(n: int, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    return [rows(n, 4, seed=i, dtype=dtype).requires_grad_() for i in (0, 1)]


def kernel_of(loss: Tensor) -> str:
    assert loss.grad_fn is not None
    return loss.grad_fn.name()


def equal_to_plain(loss: Loss, x: list[Tensor], got: Tensor, **settings: object) -> None:
    expected = plainly(loss)(*x, **settings)
    torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-12)
    for a, b in zip(torch.autograd.grad(got, x), torch.autograd.grad(expected, x), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("temperature", [0.01, 0.5])
@pytest.mark.parametrize("n", [2, 5, 6, 7])
def test_sizes_around_the_switch_equal_the_loop(n: int, temperature: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_paired, "WHOLE", 12)
    monkeypatch.setattr(_shared, "WHOLE", 6)
    x = pair(n)
    got = {loss: loss(*x, temperature=temperature) for loss in (nt_xent, info_nce)}
    torch.testing.assert_close(got[nt_xent], reference.nt_xent(*x, temperature))
    torch.testing.assert_close(got[info_nce], reference.info_nce(*x, None, temperature))
    for loss, value in got.items():
        assert (kernel_of(value) == "_WholeBackward") == (n <= 6)
        equal_to_plain(loss, x, value, temperature=temperature)


@pytest.mark.parametrize("temperature", [0.01, 0.07])
@pytest.mark.parametrize(("loss", "most"), [(nt_xent, _paired.WHOLE // 2), (info_nce, _shared.WHOLE)])
def test_sizes_around_the_switch_as_it_is(loss: Loss, most: int, temperature: float) -> None:
    for n in (most, most + 1):
        x = pair(n)
        got = loss(*x, temperature=temperature)
        assert (kernel_of(got) == "_WholeBackward") == (n == most)
        equal_to_plain(loss, x, got, temperature=temperature)


@pytest.mark.parametrize("loss", [nt_xent, info_nce])
def test_a_block_size_and_ids_leave_the_small_kernel(loss: Loss) -> None:
    x = pair(5)
    assert kernel_of(loss(*x, block_size=3)) != "_WholeBackward"
    assert kernel_of(info_nce(*x, ids=torch.arange(5))) != "_WholeBackward"


@pytest.mark.parametrize("temperature", [0.02, 0.3])
@pytest.mark.parametrize("loss", [nt_xent, info_nce])
def test_first_and_second_derivatives(loss: Loss, temperature: float) -> None:
    x = [v.detach()[:, :3].requires_grad_() for v in pair(4)]
    assert torch.autograd.gradcheck(lambda *v: loss(*v, temperature=temperature), x)
    assert torch.autograd.gradgradcheck(lambda *v: loss(*v, temperature=temperature), x)


@pytest.mark.parametrize("loss", [nt_xent, info_nce])
def test_without_gradients_the_value_is_the_same(loss: Loss) -> None:
    x = pair(6)
    expected = loss(*x)
    with torch.no_grad():
        assert torch.equal(loss(*x), expected)
    assert torch.equal(loss(*(v.detach() for v in x)), expected.detach())
    with torch.inference_mode():
        assert torch.equal(loss(*(v.clone() for v in x)), expected)


@pytest.mark.parametrize("loss", [nt_xent, info_nce])
def test_only_what_needs_a_gradient_gets_one(loss: Loss) -> None:
    expected = torch.autograd.grad(plainly(loss)(*(x := pair(6))), x)
    with torch.inference_mode():
        constants = [v.clone() for v in x]
    for i, gradient in enumerate(expected):
        x = [v if j != i else v.clone().requires_grad_() for j, v in enumerate(constants)]
        loss(*x).backward()
        torch.testing.assert_close(x[i].grad, gradient)
        assert x[1 - i].grad is None


@pytest.mark.parametrize("loss", [nt_xent, info_nce])
def test_backward_under_autocast_stays_in_full_precision(loss: Loss) -> None:
    x = pair(9, torch.float32)
    expected = torch.autograd.grad(loss(*x), x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = torch.autograd.grad(loss(*x), x)
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("loss", [nt_xent, info_nce])
def test_many_incoming_gradients_at_once(loss: Loss) -> None:
    x, incoming = pair(6), rows(3)
    value, expected = loss(*x), torch.autograd.grad(plainly(loss)(*x), x)
    got = torch.func.vmap(lambda v: torch.autograd.grad(value, x, v, retain_graph=True))(incoming)
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, incoming[:, None, None] * b)


@pytest.mark.parametrize("dtypes", [(torch.float16, torch.float16), (torch.bfloat16, torch.float32)])
@pytest.mark.parametrize("loss", [nt_xent, info_nce, byol])
def test_narrow_dtypes_are_computed_in_float32(loss: Loss, dtypes: tuple[torch.dtype, torch.dtype]) -> None:
    x = [v.detach().to(dtype).requires_grad_() for v, dtype in zip(pair(6), dtypes, strict=True)]
    wide = [v.detach().float().requires_grad_() for v in x]
    got, expected = loss(*x), loss(*wide)
    assert torch.equal(got, expected)
    got.backward()
    expected.backward()
    for v, w in zip(x, wide, strict=True):
        if w.grad is not None:
            torch.testing.assert_close(v.grad, w.grad.to(v.dtype))


def test_a_loss_far_below_one_is_exact() -> None:
    e = torch.eye(6)
    assert nt_xent(e, e, temperature=0.01).item() == pytest.approx(10 * math.exp(-100), rel=1e-4)
    assert info_nce(e, e, temperature=0.01).item() == pytest.approx(5 * math.exp(-100), rel=1e-4)
    assert info_nce(e, e, temperature=0.05).item() == pytest.approx(5 * math.exp(-20), rel=1e-4)


@pytest.mark.parametrize("lengths", [(0.0, 1.0), (1e-30, 1e30), (1e15, 1e18), (1e-15, 1e-18), (1.0, 1.0), (3.0, 1e-3)])
@pytest.mark.parametrize("loss", [nt_xent, info_nce, byol])
def test_rows_of_any_length(loss: Loss, lengths: tuple[float, float]) -> None:
    x = [torch.nn.functional.normalize(v.detach(), dim=1) for v in pair(6)]
    x = [(v * length).float() for v, length in zip(x, lengths, strict=True)]
    got, wide = [v.clone().requires_grad_() for v in x], [v.double().requires_grad_() for v in x]
    value, expected = loss(*got), loss(*wide)
    torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=1e-6)
    value.backward()
    expected.backward()
    for v, w, length in zip(got, wide, lengths, strict=True):
        if w.grad is not None:
            scale = length or 1.0
            torch.testing.assert_close(v.grad.double() * scale, w.grad * scale, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("with_ids", [False, True])
@pytest.mark.parametrize("temperature", [0.01, 0.5])
@pytest.mark.parametrize("n", [1, 2, 3])
def test_few_queries_of_a_queue_equal_the_loop(n: int, temperature: float, with_ids: bool) -> None:
    """Where queries are at most half as many as features, similarities are scaled instead of the queue's rows."""
    x, queue = pair(n), 3 * rows(11, 4, seed=2)
    queue[0] *= 1e-9
    labels = {"ids": torch.arange(n) % 2, "negative_ids": torch.arange(11) % 3} if with_ids else {}
    expected = reference.info_nce(*x, queue, temperature, **labels)
    wanted = torch.autograd.grad(expected, x)
    for block_size in (None, 4):
        got = info_nce(*x, queue, temperature=temperature, block_size=block_size, **labels)
        torch.testing.assert_close(got, expected)
        for a, b in zip(torch.autograd.grad(got, x), wanted, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-9)
