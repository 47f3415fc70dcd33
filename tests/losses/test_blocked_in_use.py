"""The blocked kernels as users meet them: threads, inference mode, graphs, no gradients, extreme temperatures."""

from __future__ import annotations

import math
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from plain_losses import plainly
from sslmed._tensor import unit_rows
from sslmed.losses import _paired, _shared, info_nce, nce, nt_xent
from sslmed.losses._shared import shared_cross_entropy


def rows(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


LOSSES = {
    "nt_xent": lambda q, p, n, **options: nt_xent(q, p, **options),
    "in-batch": lambda q, p, n, **options: info_nce(q, p, **options),
    "shared": info_nce,
}


@pytest.mark.parametrize("n", [127, 128, 129, 479, 480, 481])
@pytest.mark.parametrize("temperature", [0.01, 0.07])
def test_the_edges_of_a_tile(n: int, temperature: float) -> None:
    x = [rows(n, 4, seed=i).requires_grad_() for i in (0, 1)]
    got = nt_xent(*x, temperature=temperature)
    expected = plainly(nt_xent)(*x, temperature=temperature)
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)
    for a, b in zip(torch.autograd.grad(got, x), torch.autograd.grad(expected, x), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("temperature", [0.001, 0.0116, 0.0125, 0.02, 0.0249, 0.0251, 0.07, 10.0])
def test_collapsed_rows_at_any_temperature(temperature: float) -> None:
    z = torch.ones(150, 4).requires_grad_()
    settings = {"temperature": temperature, "block_size": 64}
    for loss, count in ((nt_xent(z, z, **settings), 299), (info_nce(z, z, z, **settings), 151)):
        torch.testing.assert_close(loss, torch.tensor(math.log(count)), rtol=1e-5, atol=0)
        assert torch.autograd.grad(loss, z)[0].abs().max() < 1e-4 / temperature


@pytest.mark.parametrize("block_size", [None, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rows_opposite_to_each_other_at_a_very_low_temperature(dtype: torch.dtype, block_size: int | None) -> None:
    a, settings = torch.tensor([[0.0, 1.0]], dtype=dtype), {"temperature": 1e-4, "block_size": block_size}
    queue = -a.expand(7, 2)
    # The log-sum-exp, about 1 / T, is subtracted from a similarity as high: both are rounded by as much.
    rounding = torch.finfo(dtype).eps / 1e-4
    assert info_nce(a, -a, queue, **settings).item() == pytest.approx(math.log(8), rel=1e-6, abs=rounding)
    # Rows a, -a, -a, -a, of which 0 and 2 are partners: the others of row 0 are as far as its partner.
    expected = (math.log(3) + 2 * math.log(2) + 2e4 + math.log(2)) / 4
    loss = nt_xent(torch.cat([a, -a]), torch.cat([-a, -a]), **settings)
    assert loss.item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("temperature", [0.01, 0.5])
@pytest.mark.parametrize("block_size", [2, 10**6])
def test_a_sum_of_no_negatives_costs_nothing(temperature: float, block_size: int) -> None:
    ids = torch.zeros(4, dtype=torch.int64)
    for size in (None, block_size):
        x = [rows(4, 3, seed=i).requires_grad_() for i in range(3)]
        for loss in (shared_cross_entropy, plainly(shared_cross_entropy)):
            result = loss(*x, temperature, size, (ids, ids))
            assert result == 0
            assert not any(gradient.any() for gradient in torch.autograd.grad(result, x))


@pytest.mark.parametrize("block_size", [None, 2])
def test_second_derivatives_of_rows_of_zeros(block_size: int | None) -> None:
    q, p, n = rows(5, 4), rows(5, 4, seed=1), rows(6, 4, seed=2)
    q[1], n[2] = 0, 0
    x = [v.requires_grad_() for v in (q, p, n)]
    for loss in (
        nt_xent(q, p, block_size=block_size),
        info_nce(q, p, n, block_size=block_size),
        info_nce(q, p, block_size=block_size),
        nce(q, p, n.expand(5, 6, 4), population=9),
    ):
        first = torch.autograd.grad(loss, x, create_graph=True, allow_unused=True)
        penalty = sum(v.square().sum() for v in first if v is not None)
        for second in torch.autograd.grad(penalty, x, allow_unused=True):
            assert second is None or second.isfinite().all()


@pytest.mark.parametrize("kind", LOSSES)
def test_second_derivatives_under_autocast_stay_in_full_precision(kind: str) -> None:
    x = [rows(9, 5, seed=i, dtype=torch.float32).requires_grad_() for i in range(2)]
    loss = LOSSES[kind](*x, rows(23, 5, seed=2, dtype=torch.float32), block_size=4)
    expected = torch.autograd.grad(loss, x, retain_graph=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = torch.autograd.grad(loss, x, create_graph=True)
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a.detach(), b)


@pytest.mark.parametrize("block_size", [None, 4])
def test_keys_queue_and_ids_may_come_from_inference_mode(block_size: int | None) -> None:
    q, p, n, ids, negative_ids = (
        rows(9, 5),
        rows(9, 5, seed=1),
        rows(23, 5),
        torch.arange(9),
        torch.arange(23),
    )
    with torch.inference_mode():
        copies = [x.clone() for x in (p, n, ids, negative_ids)]
    for needed in (False, True):
        gradients = []
        for keys, queue, own, theirs in ((p, n, ids, negative_ids), copies):
            queue = n.clone().requires_grad_() if needed else queue
            query = q.clone().requires_grad_()
            options = {"ids": own, "negative_ids": theirs, "block_size": block_size}
            info_nce(query, keys, queue, **options).backward()
            gradients.append((query.grad, queue.grad))
        torch.testing.assert_close(*gradients)


class Spy(TorchDispatchMode):
    """The operations by name, and the elements of all memory that was in use at some time."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[str] = []
        self.memory: dict[int, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.calls.append(func.__name__)
        if isinstance(result, Tensor):
            storage = result.untyped_storage()
            self.memory[storage.data_ptr()] = storage.nbytes() // result.element_size()
        return result


@pytest.mark.parametrize("grad_mode", [False, True])
def test_no_gradient_is_prepared_where_none_can_be_asked_for(grad_mode: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_paired, "SIDE_ON_CPU", 50)
    q, p, queue = (rows(n, 2, seed=n) for n in (400, 400, 5000))
    if not grad_mode:
        q, p = q.requires_grad_(), p.requires_grad_()
    with torch.set_grad_enabled(grad_mode):
        with Spy() as spy:
            nt_xent(q, p)
        assert sum(spy.memory.values()) < 800**2 / 8
        with Spy() as spy:
            info_nce(q, p, queue)
        assert spy.calls.count("addmm_.default") == math.ceil(5000 / _shared._size(q, queue, None)) > 1


def test_losses_of_several_threads_do_not_meet() -> None:
    """A kernel may round differently in another thread; other rows or temperatures give quite other results."""

    def gradients(kind: str, temperature: float, seed: int) -> Tensor:
        x = [rows(200, 8, seed=seed + i).requires_grad_() for i in range(3)]
        loss = LOSSES[kind](*x, temperature=temperature, block_size=64)
        return torch.cat([loss.reshape(1), *(g.flatten() for g in torch.autograd.grad(loss, x[:2]))])

    jobs = [(kind, temperature, 10 * seed) for kind in LOSSES for temperature in (0.01, 0.5) for seed in range(3)]
    expected = torch.stack([gradients(*job) for job in jobs])
    apart = torch.cdist(expected, expected, p=math.inf)
    assert apart[~torch.eye(len(jobs), dtype=torch.bool)].min() > 1e-4
    with ThreadPoolExecutor(4) as pool:
        got = torch.stack(list(pool.map(lambda job: gradients(*job), jobs)))
    torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kind", LOSSES)
def test_a_loss_inside_the_backward_of_another(kind: str) -> None:
    x = [rows(150, 4, seed=i).requires_grad_() for i in range(3)]
    expected = torch.autograd.grad(LOSSES[kind](*x), x[:2])

    def another(gradient: Tensor) -> Tensor:
        with torch.enable_grad():
            LOSSES[kind](*(rows(150, 4, seed=i + 5).requires_grad_() for i in range(3))).backward()
        return gradient

    inner = [v.clone() for v in x]
    inner[0].register_hook(another)
    torch.testing.assert_close(torch.autograd.grad(LOSSES[kind](*inner), x[:2]), expected, rtol=0, atol=0)


COUNT_GRAPHS = """
import torch
from sslmed.losses import InfoNCE, NTXent

graphs = []

def backend(graph, inputs):
    graphs.append(graph)
    return graph.forward

module = {module}
compiled = torch.compile(module, fullgraph=True, backend=backend)
generator = torch.Generator().manual_seed(0)
for n in (8, 12, 300):
    pair = [torch.randn(n, 4, generator=generator) for _ in range(2)]
    torch.testing.assert_close(compiled(*pair), module(*pair))
assert len(graphs) == 2, len(graphs)  # of 8 rows, and of any number
"""


@pytest.mark.parametrize("module", ["NTXent()", "InfoNCE()"])
def test_one_graph_serves_small_and_large_batches(module: str) -> None:
    # In a process of its own: late in a long session, torch 2.9 runs eagerly what it should compile.
    command = [sys.executable, "-c", COUNT_GRAPHS.format(module=module)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("scale", [1.0, 1e-30, 1e-18, 1e-9, 1e15, 1e30])
@pytest.mark.parametrize("zero", [False, True])
def test_unit_rows_of_any_length(scale: float, zero: bool) -> None:
    x = rows(6, 5, dtype=torch.float32) * torch.linspace(0.5, 1, 6)[:, None]
    wide = x.double().requires_grad_()
    unit = wide / torch.linalg.vector_norm(wide, dim=1, keepdim=True)
    expected = torch.autograd.grad(unit, wide, incoming := rows(6, 5, seed=1))[0]
    x = x * scale
    if zero:
        x[3] = 0
        unit, expected = unit.detach().clone(), expected.clone()
        unit[3], expected[3] = 0, incoming[3] * scale
    x.requires_grad_()
    got = unit_rows(x)
    torch.testing.assert_close(got.double(), unit, rtol=1e-5, atol=1e-7)
    gradient = torch.autograd.grad(got, x, incoming.float())[0].double() * scale
    torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")  # torch's own use of it, in forward mode
def test_derivatives_of_unit_rows() -> None:
    x = rows(3, 2, 4).requires_grad_()
    assert torch.autograd.gradcheck(unit_rows, x)
    assert torch.autograd.gradgradcheck(unit_rows, x)
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(x.detach(), rows(3, 2, 4, seed=1))
        slope = torch.autograd.forward_ad.unpack_dual(unit_rows(dual)).tangent
    jacobian = torch.autograd.functional.jacobian(unit_rows, x)
    torch.testing.assert_close(slope, torch.einsum("abcdef,def->abc", jacobian, rows(3, 2, 4, seed=1)))


def test_unit_rows_are_never_their_argument() -> None:
    x = torch.eye(3)
    unit_rows(x).zero_()
    assert x.sum() == 3
