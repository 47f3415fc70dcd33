"""The blocked kernels: value and gradient of the plain expressions, second derivatives, memory."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from plain_losses import plainly
from sslmed.losses import _blocked, _paired, info_nce, nt_xent


def rows(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def losses(kind: str, temperature: float) -> Callable[..., torch.Tensor]:
    if kind == "nt_xent":
        return lambda *x, **options: nt_xent(*x, temperature=temperature, **options)
    if kind == "ids":
        ids, negative_ids = torch.arange(9) % 4, torch.arange(23) % 6
        options = {"ids": ids, "negative_ids": negative_ids, "temperature": temperature}
        return lambda *x, **more: info_nce(*x, **options, **more)
    return lambda *x, **options: info_nce(*x, temperature=temperature, **options)


def inputs(kind: str, dtype: torch.dtype = torch.float64) -> list[torch.Tensor]:
    tensors = [rows(9, 5, dtype=dtype), rows(9, 5, seed=1, dtype=dtype)]
    if kind in ("shared", "ids"):
        tensors.append(rows(23, 5, seed=2, dtype=dtype))
    return [x.requires_grad_() for x in tensors]


KINDS = ["nt_xent", "in-batch", "shared", "ids"]


@pytest.mark.parametrize("block_size", [1, 4, 9, 10, 1000])
@pytest.mark.parametrize("temperature", [0.001, 0.01, 0.07, 0.5, 10.0])
@pytest.mark.parametrize("kind", KINDS)
def test_kernels_equal_the_plain_expressions(kind: str, temperature: float, block_size: int) -> None:
    loss, x = losses(kind, temperature), inputs(kind)
    expected, got = plainly(loss)(*x), loss(*x, block_size=block_size)
    torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-12)
    for a, b in zip(torch.autograd.grad(got, x), torch.autograd.grad(expected, x), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("temperature", [0.01, 0.5])
@pytest.mark.parametrize("kind", KINDS)
def test_the_automatic_choice_equals_the_plain_expression(
    kind: str, temperature: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    loss, x = losses(kind, temperature), inputs(kind)
    expected = plainly(loss)(*x)
    gradients = torch.autograd.grad(expected, x)
    for kept_bytes in (2**30, 0):
        monkeypatch.setattr(_blocked, "KEPT_BYTES", kept_bytes)
        got = loss(*x)
        torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-12)
        for a, b in zip(torch.autograd.grad(got, x), gradients, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("side", [1, 2, 5, 7, 9])
def test_tiles_of_any_side_meet_every_pair_once(side: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_paired, "SIDE_ON_CPU", side)
    for temperature in (0.001, 0.5):
        loss, x = losses("nt_xent", temperature), inputs("nt_xent")
        expected, got = plainly(loss)(*x), loss(*x, block_size=30)
        torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-12)
        for a, b in zip(torch.autograd.grad(got, x), torch.autograd.grad(expected, x), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("temperature", [0.01, 0.07, 0.5])
def test_large_batches_in_float32_equal_float64(temperature: float, device: torch.device) -> None:
    x = [rows(300, 16, seed=i, dtype=torch.float32).to(device).requires_grad_() for i in range(3)]
    wide = [v.detach().double().requires_grad_() for v in x]
    for pair, count in ((nt_xent, 2), (info_nce, 2), (info_nce, 3)):
        for block_size in (None, 64):
            got = pair(*x[:count], temperature=temperature, block_size=block_size)
            expected = pair(*wide[:count], temperature=temperature, block_size=10**6)
            torch.testing.assert_close(got.double(), expected, rtol=1e-6, atol=1e-6)
            grads = torch.autograd.grad(got, x[:count]), torch.autograd.grad(expected, wide[:count])
            for a, b in zip(*grads, strict=True):
                torch.testing.assert_close(a.double(), b, rtol=0, atol=1e-5 * b.abs().max().item() + 1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_first_and_second_derivatives_of_the_kernels(kind: str) -> None:
    loss, x = losses(kind, 0.3), inputs(kind)
    x = [v.detach()[:4, :3].clone().requires_grad_() for v in x] if kind != "ids" else x
    if kind != "ids":
        assert torch.autograd.gradcheck(lambda *v: loss(*v, block_size=3), x)
        assert torch.autograd.gradgradcheck(lambda *v: loss(*v, block_size=3), x)
    (first,) = torch.autograd.grad(loss(*x, block_size=3), x[:1], create_graph=True)
    (expected,) = torch.autograd.grad(plainly(loss)(*x), x[:1], create_graph=True)
    for a, b in zip(
        torch.autograd.grad(first.square().sum(), x),
        torch.autograd.grad(expected.square().sum(), x),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11)


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")  # torch's own use of it, in jvp
@pytest.mark.parametrize("kind", KINDS[:3])
def test_transforms_of_torch_func(kind: str) -> None:
    loss, x = losses(kind, 0.3), [v.detach() for v in inputs(kind)]
    batch = torch.stack([x[0], x[0].flip(0)])
    wanted = [torch.autograd.functional.jacobian(lambda v: plainly(loss)(v, *x[1:]), v) for v in batch]

    def blocked(v: torch.Tensor) -> torch.Tensor:
        return loss(v, *x[1:], block_size=4)

    torch.testing.assert_close(torch.func.vmap(blocked)(batch), torch.stack([loss(v, *x[1:]) for v in batch]))
    torch.testing.assert_close(torch.func.vmap(torch.func.grad(blocked))(batch), torch.stack(wanted))
    _, slope = torch.func.jvp(blocked, (batch[0],), (batch[1],))
    torch.testing.assert_close(slope, (wanted[0] * batch[1]).sum())


@pytest.mark.parametrize("kind", KINDS)
def test_many_incoming_gradients_at_once(kind: str) -> None:
    loss, x = losses(kind, 0.3), inputs(kind)
    value, incoming = loss(*x, block_size=4), rows(3)
    expected = torch.autograd.grad(plainly(loss)(*x), x)
    got = torch.func.vmap(lambda v: torch.autograd.grad(value, x, v, retain_graph=True))(incoming)
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, incoming[:, None, None] * b)


@pytest.mark.parametrize("kind", KINDS)
def test_backward_can_run_twice(kind: str) -> None:
    x = inputs(kind)
    loss = losses(kind, 0.5)(*x)
    first = torch.autograd.grad(loss, x, retain_graph=True)
    for a, b in zip(first, torch.autograd.grad(loss, x), strict=True):
        torch.testing.assert_close(a, b)


def test_only_what_needs_a_gradient_gets_one() -> None:
    q, p, n = (v.detach() for v in inputs("shared"))
    for needed in range(3):
        x = [v.clone().requires_grad_(i == needed) for i, v in enumerate((q, p, n))]
        plain = [v.detach().clone().requires_grad_(i == needed) for i, v in enumerate((q, p, n))]
        info_nce(*x, block_size=4).backward()
        plainly(info_nce)(*plain).backward()
        torch.testing.assert_close(x[needed].grad, plain[needed].grad)
        assert all(v.grad is None for i, v in enumerate(x) if i != needed)


def test_a_half_precision_queue_is_read_block_by_block() -> None:
    q, p, n = (v.detach() for v in inputs("shared"))
    n = n.half()
    torch.testing.assert_close(info_nce(q, p, n, block_size=4), plainly(info_nce)(q, p, n.double()))


@pytest.mark.parametrize("kind", KINDS)
def test_backward_under_autocast_stays_in_full_precision(kind: str) -> None:
    loss, x = losses(kind, 0.1), inputs(kind, torch.float32)
    expected = torch.autograd.grad(loss(*x, block_size=4), x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = torch.autograd.grad(loss(*x, block_size=4), x)
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b)


class Largest(TorchDispatchMode):
    """The largest number of elements that any operation returned in memory not of a `known` tensor."""

    def __init__(self, *known: torch.Tensor) -> None:
        super().__init__()
        self.known = {x.data_ptr() for x in known}
        self.elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor) and result.untyped_storage().data_ptr() not in self.known:
            self.elements = max(self.elements, result.untyped_storage().nbytes() // result.element_size())
        return result


@pytest.mark.parametrize("temperature", [0.01, 0.5])
@pytest.mark.parametrize("kind", ["nt_xent", "in-batch"])
def test_memory_grows_with_n_times_block(kind: str, temperature: float) -> None:
    n, block_size = 400, 8
    x = [rows(n, 4, seed=i).requires_grad_() for i in (0, 1)]
    with Largest() as mode:
        losses(kind, temperature)(*x, block_size=block_size).backward()
    assert mode.elements <= 2 * n * block_size


@pytest.mark.parametrize("block_size", [8, 30, 10**6])
def test_block_size_bounds_what_is_kept_until_backward(block_size: int) -> None:
    z0, z1 = rows(800, 4).requires_grad_().split(400)
    result = nt_xent(z0, z1, block_size=block_size)
    kept = [tile.numel() for *_, tile in result.grad_fn.kept]
    assert 0 < sum(kept) <= min(800 * block_size, 800 * 1200)
    result.backward()
    assert result.grad_fn.kept == []


def test_a_queue_is_never_copied_whole() -> None:
    queue = rows(5000, 8, seed=2)
    for n, width in ((5, 8), (4, 4)):  # few queries copy none of its rows: similarities are scaled instead
        q, p = rows(n, 8).requires_grad_(), rows(n, 8, seed=1)
        with Largest(queue) as mode:
            info_nce(q, p, queue, block_size=100).backward()
        assert mode.elements == 100 * width


def test_nothing_is_kept_without_a_gradient() -> None:
    x = inputs("nt_xent")
    with torch.no_grad():
        loss = nt_xent(*x)
    assert not loss.requires_grad
    torch.testing.assert_close(loss, nt_xent(*x).detach())


def test_orthonormal_rows_at_a_temperature_where_plain_exponentials_underflow() -> None:
    e = torch.eye(300)
    loss = nt_xent(e, e, temperature=0.01, block_size=32)
    assert loss.item() == pytest.approx(598 * math.exp(-100), rel=1e-4)
