"""NT-Xent, InfoNCE and NCE: closed forms, literal loops, gradients, invariances, precision, bad input."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

import reference
from sslmed.losses import InfoNCE, NTXent, info_nce, nce, nt_xent


def rows(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


NEGATIVES = {"shared": (7, 6), "own": (5, 7, 6), "in-batch": None}


def negatives_of(kind: str) -> torch.Tensor | None:
    shape = NEGATIVES[kind]
    return None if shape is None else rows(*shape, seed=2)


NT_XENT_OF_ORTHONORMAL = [
    (4, 0.5, 0.594438),
    (8, 0.07, 8.7482e-6),
    (64, 0.1, 0.00570409),
    (256, 0.5, 4.248795),
]


@pytest.mark.parametrize("block_size", [None, 3])
@pytest.mark.parametrize(("n", "temperature", "expected"), NT_XENT_OF_ORTHONORMAL)
def test_nt_xent_of_equal_views_of_orthonormal_samples(
    n: int, temperature: float, expected: float, block_size: int | None
) -> None:
    loss = nt_xent(torch.eye(n), torch.eye(n), temperature=temperature, block_size=block_size)
    assert loss.item() == pytest.approx(expected, rel=2e-5)
    assert loss.item() == pytest.approx(math.log1p((2 * n - 2) * math.exp(-1 / temperature)), rel=2e-6)


@pytest.mark.parametrize("n", [2, 4, 64, 256])
def test_nt_xent_of_collapsed_rows(n: int) -> None:
    z = torch.ones(n, 3)
    assert NTXent()(z, 5 * z).item() == pytest.approx(math.log(2 * n - 1), rel=1e-6)


@pytest.mark.parametrize("temperature", [0.01, 0.1, 0.5, 10.0])
def test_nt_xent_equals_the_loop(temperature: float) -> None:
    z0, z1 = rows(5, 6), rows(5, 6, seed=1)
    torch.testing.assert_close(nt_xent(z0, z1, temperature=temperature), reference.nt_xent(z0, z1, temperature))


def test_gradients_of_nt_xent() -> None:
    inputs = rows(4, 5).requires_grad_(), rows(4, 5, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda *z: nt_xent(*z, temperature=0.3), inputs)
    assert torch.autograd.gradgradcheck(lambda *z: nt_xent(*z, temperature=0.3), inputs)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), exponent=st.floats(-6, 6), block_size=st.sampled_from([None, 1, 4]))
def test_nt_xent_ignores_row_scale_batch_order_and_the_order_of_views(
    seed: int, exponent: float, block_size: int | None
) -> None:
    z0, z1 = rows(5, 6, seed=seed), rows(5, 6, seed=seed + 1)
    order = torch.randperm(5, generator=torch.Generator().manual_seed(seed))
    loss = nt_xent(z0, z1, block_size=block_size)
    torch.testing.assert_close(nt_xent(z1, z0, block_size=block_size), loss)
    torch.testing.assert_close(nt_xent(z0[order], z1[order], block_size=block_size), loss)
    torch.testing.assert_close(nt_xent(10**exponent * z0, z1, block_size=block_size), loss)


def test_nt_xent_bad_input() -> None:
    z = torch.rand(4, 6)
    with pytest.raises(ValueError, match="z0 must have at least 2 rows, got 1"):
        nt_xent(z[:1], z[:1])
    with pytest.raises(ValueError, match=r"z0 and z1 must have the same shape, got \(4, 6\) and \(3, 6\)"):
        nt_xent(z, z[:3])
    with pytest.raises(TypeError, match="z1 must be a floating point tensor"):
        nt_xent(z, z.int())
    with pytest.raises(ValueError, match="same device, got z0 on cpu, z1 on meta"):
        nt_xent(z, z.to("meta"))
    with pytest.raises(ValueError, match="temperature must be a finite number"):
        NTXent(temperature=0.0)
    for block_size in (0, -1):
        with pytest.raises(ValueError, match="block_size must be at least 1"):
            NTXent(block_size=block_size)
    with pytest.raises(TypeError, match="block_size must be an integer"):
        InfoNCE(block_size=2.0)


@pytest.mark.parametrize("block_size", [None, 2])
@pytest.mark.parametrize("kind", NEGATIVES)
def test_ids_leave_out_negatives_as_in_the_loop(kind: str, block_size: int | None) -> None:
    q, p, n = rows(5, 6), rows(5, 6, seed=1), negatives_of(kind)
    ids = torch.tensor([0, 1, 0, 2, 3])
    labels = torch.arange(7) % 5
    negative_ids = {"shared": labels, "own": labels.repeat(5, 1), "in-batch": None}[kind]
    loss = info_nce(q, p, n, ids=ids, negative_ids=negative_ids, block_size=block_size)
    torch.testing.assert_close(loss, reference.info_nce(q, p, n, 0.07, ids, negative_ids))
    assert not torch.isclose(loss, info_nce(q, p, n))


@pytest.mark.parametrize("block_size", [None, 2])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.uint16, torch.uint64])
def test_ids_of_any_integers(dtype: torch.dtype, block_size: int | None) -> None:
    q, p, n = rows(5, 6), rows(5, 6, seed=1), negatives_of("shared")
    ids, negative_ids = torch.tensor([0, 1, 0, 2, 3]), torch.arange(len(n)) % 4
    expected = info_nce(q, p, n, ids=ids, negative_ids=negative_ids)
    for pair in ((ids.to(dtype), negative_ids), (ids, negative_ids.to(dtype))):
        loss = info_nce(q, p, n, ids=pair[0], negative_ids=pair[1], block_size=block_size)
        torch.testing.assert_close(loss, expected)


@pytest.mark.parametrize("temperature", [0.01, 0.07])
@pytest.mark.parametrize("block_size", [None, 2])
@pytest.mark.parametrize("kind", NEGATIVES)
def test_a_query_without_negatives_counts_zero(kind: str, block_size: int | None, temperature: float) -> None:
    q, p, n = rows(5, 6).requires_grad_(), rows(5, 6, seed=1).requires_grad_(), negatives_of(kind)
    negative_ids = None if n is None else torch.zeros(n.shape[:-1], dtype=torch.int64)
    loss = info_nce(
        q,
        p,
        n if n is None else n.requires_grad_(),
        ids=torch.zeros(5, dtype=torch.int64),
        negative_ids=negative_ids,
        block_size=block_size,
        temperature=temperature,
    )
    loss.backward()
    assert loss == 0
    assert (q.grad == 0).all()
    assert (p.grad == 0).all()
    assert n is None or (n.grad == 0).all()


def test_bad_ids() -> None:
    q, n, ids = torch.rand(4, 6), torch.rand(7, 6), torch.arange(4)
    with pytest.raises(ValueError, match=r"ids must have shape \(4,\) to label query, got \(3,\)"):
        info_nce(q, q, ids=ids[:3])
    with pytest.raises(ValueError, match=r"negative_ids must have shape \(7,\) to label negatives, got \(4,\)"):
        info_nce(q, q, n, ids=ids, negative_ids=ids)
    with pytest.raises(ValueError, match=r"negative_ids must have shape \(4, 7\) to label negatives, got \(7,\)"):
        info_nce(q, q, n.expand(4, 7, 6), ids=ids, negative_ids=torch.arange(7))
    with pytest.raises(ValueError, match="negative_ids must be given along with ids, got None"):
        info_nce(q, q, n, ids=ids)
    with pytest.raises(ValueError, match="ids must be given along with negative_ids, got None"):
        info_nce(q, q, n, negative_ids=torch.arange(7))
    with pytest.raises(ValueError, match="negative_ids must be None when negatives is None"):
        info_nce(q, q, ids=ids, negative_ids=ids)
    with pytest.raises(TypeError, match=r"ids must be a tensor of integers, got torch\.float32"):
        info_nce(q, q, ids=ids.float())
    with pytest.raises(TypeError, match="ids must be a tensor of integers, got list"):
        info_nce(q, q, ids=[0, 1, 2, 3])
    with pytest.raises(ValueError, match="same device, got query on cpu, ids on meta"):
        info_nce(q, q, ids=ids.to("meta"))


@pytest.mark.parametrize("k", [16384, 65536])
def test_info_nce_of_equal_rows_is_log_k_plus_1(k: int) -> None:
    loss = InfoNCE()(torch.ones(2, 3), torch.ones(2, 3), torch.ones(k, 3))
    torch.testing.assert_close(loss, torch.tensor(math.log(k + 1)), rtol=1e-6, atol=0)


@pytest.mark.parametrize(("k", "expected"), [(16384, 0.0101859), (65536, 0.0401355)])
def test_info_nce_of_an_orthogonal_queue(k: int, expected: float) -> None:
    e = torch.eye(2)
    loss = info_nce(e[:1], e[:1], e[1:].expand(k, 2), temperature=0.07)
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    assert loss.item() == pytest.approx(math.log1p(k * math.exp(-1 / 0.07)), rel=1e-5)


def test_info_nce_keeps_losses_far_below_float32_epsilon() -> None:
    e = torch.eye(2)
    loss = info_nce(e[:1], e[:1], e[1:], temperature=0.01)
    assert loss.item() == pytest.approx(math.exp(-100), rel=1e-4)


@pytest.mark.parametrize("temperature", [0.01, 0.07, 0.5, 10.0])
@pytest.mark.parametrize("kind", NEGATIVES)
def test_info_nce_equals_the_loop(kind: str, temperature: float) -> None:
    q, p, n = rows(5, 6), rows(5, 6, seed=1), negatives_of(kind)
    expected = reference.info_nce(q, p, n, temperature)
    torch.testing.assert_close(info_nce(q, p, n, temperature=temperature), expected)


@pytest.mark.parametrize("kind", NEGATIVES)
def test_gradients_of_info_nce(kind: str) -> None:
    inputs = [x.requires_grad_() for x in (rows(5, 6), rows(5, 6, seed=1), negatives_of(kind)) if x is not None]
    assert torch.autograd.gradcheck(lambda *x: info_nce(*x, temperature=0.3), inputs)
    assert torch.autograd.gradgradcheck(lambda *x: info_nce(*x, temperature=0.3), inputs)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), exponent=st.floats(-6, 6), kind=st.sampled_from(sorted(NEGATIVES)))
def test_invariance_to_row_scale_and_batch_order(seed: int, exponent: float, kind: str) -> None:
    q, p, n = rows(5, 6, seed=seed), rows(5, 6, seed=seed + 1), negatives_of(kind)
    order = torch.randperm(5, generator=torch.Generator().manual_seed(seed))
    scale = 10**exponent * (1 + rows(5, 1, seed=seed).abs())
    loss = info_nce(q, p, n)
    torch.testing.assert_close(info_nce(q * scale, p, n), loss)
    torch.testing.assert_close(info_nce(q, p * scale, n), loss)
    permuted = n[order] if kind == "own" else n
    torch.testing.assert_close(info_nce(q[order], p[order], permuted), loss)
    if kind == "own":
        torch.testing.assert_close(nce(q[order] * scale, p[order], n[order], population=9), nce(q, p, n, population=9))


def test_no_gradient_where_none_is_asked_for() -> None:
    q, p, n = rows(5, 6).requires_grad_(), rows(5, 6, seed=1), rows(7, 6, seed=2)
    info_nce(q, p, n).backward()
    assert q.grad is not None
    assert p.grad is None
    assert n.grad is None


@pytest.mark.parametrize("temperature", [0.01, 0.07, 10.0])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_narrow_dtypes_equal_float64_on_the_same_numbers(
    dtype: torch.dtype, temperature: float, scale: float, device: torch.device
) -> None:
    for kind in (*NEGATIVES, "nce", "nt_xent"):
        n = None if kind == "nt_xent" else negatives_of("own" if kind == "nce" else kind)
        tensors = [x for x in (rows(5, 6), rows(5, 6, seed=1), n) if x is not None]
        narrow = [(x * scale).to(device, dtype).requires_grad_() for x in tensors]
        wide = [x.detach().double().requires_grad_() for x in narrow]
        results = []
        for inputs in (narrow, wide):
            if kind == "nce":
                loss = nce(*inputs, population=100, temperature=temperature)
            elif kind == "nt_xent":
                loss = nt_xent(*inputs, temperature=temperature)
            else:
                loss = info_nce(*inputs, temperature=temperature)
            results.append((loss, torch.autograd.grad(loss * scale, inputs)))
        (loss, grads), (expected, expected_grads) = results
        assert loss.dtype == torch.float32
        torch.testing.assert_close(loss.double(), expected, rtol=1e-5, atol=1e-5)
        for got, want in zip(grads, expected_grads, strict=True):
            assert got.dtype == dtype
            limit = max(torch.finfo(dtype).eps, 2e-5) * want.abs().max().item()
            torch.testing.assert_close(got.double(), want, rtol=0, atol=limit + 1e-7)


def test_autocast_changes_nothing() -> None:
    q, p, n = (
        rows(5, 6, dtype=torch.float32),
        rows(5, 6, seed=1, dtype=torch.float32),
        rows(5, 7, 6, dtype=torch.float32),
    )
    expected = info_nce(q, p), info_nce(q, p, n), nce(q, p, n, population=9), nt_xent(q, p)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert (info_nce(q, p), info_nce(q, p, n), nce(q, p, n, population=9), nt_xent(q, p)) == expected


def test_mixed_dtypes_work_in_the_widest() -> None:
    q, p = rows(5, 6), rows(5, 6, seed=1)
    assert info_nce(q.half(), p.float()).dtype == torch.float32
    assert info_nce(q.half(), p).dtype == torch.float64


@pytest.mark.parametrize("kind", NEGATIVES)
def test_zero_and_duplicated_rows_have_finite_gradients(kind: str) -> None:
    q, p = rows(5, 6, dtype=torch.float32), rows(5, 6, seed=1, dtype=torch.float32)
    q[0], p[1], q[2], p[2] = 0, 0, q[3], q[3]
    q.requires_grad_(), p.requires_grad_()
    n = negatives_of(kind)
    loss = info_nce(q, p, None if n is None else n.float(), temperature=0.01)
    loss.backward()
    assert loss.isfinite()
    assert q.grad.abs().max() < 1e4
    assert p.grad.abs().max() < 1e4


def test_a_zero_row_has_cosine_zero() -> None:
    e = torch.eye(3)
    torch.testing.assert_close(info_nce(torch.zeros(1, 3), e[:1], e[1:]), torch.tensor(math.log(3)))


@pytest.mark.parametrize("kind", NEGATIVES)
def test_the_loss_compiles_in_one_graph(kind: str) -> None:
    q, p, n = rows(5, 6), rows(5, 6, seed=1), negatives_of(kind)
    compiled = torch.compile(InfoNCE(), fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(q, p, n), info_nce(q, p, n))


def test_nt_xent_compiles_in_one_graph() -> None:
    loss, z0, z1 = NTXent(block_size=2), rows(5, 6), rows(5, 6, seed=1)
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(z0, z1), loss(z0, z1))


def test_modules_show_their_settings() -> None:
    assert repr(InfoNCE(temperature=0.2)) == "InfoNCE(temperature=0.2)"
    assert repr(InfoNCE(block_size=64)) == "InfoNCE(temperature=0.07, block_size=64)"
    assert repr(NTXent()) == "NTXent(temperature=0.5)"


def test_shapes_that_do_not_fit() -> None:
    q = torch.rand(4, 6)
    with pytest.raises(ValueError, match=r"query and positive must have the same shape, got \(4, 6\) and \(3, 6\)"):
        info_nce(q, torch.rand(3, 6))
    with pytest.raises(ValueError, match=r"query must have shape \(N, D\), got \(4,\)"):
        info_nce(torch.rand(4), torch.rand(4))
    with pytest.raises(ValueError, match=r"negatives must have shape \(K, D\) or \(N, K, D\).*got \(7, 5\)"):
        info_nce(q, q, torch.rand(7, 5))
    with pytest.raises(ValueError, match=r"negatives must have shape.*got \(3, 7, 6\)"):
        info_nce(q, q, torch.rand(3, 7, 6))


@pytest.mark.parametrize("shape", [(0, 6), (4, 0, 6)])
def test_empty_negatives(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="negatives must hold at least one row"):
        info_nce(torch.rand(4, 6), torch.rand(4, 6), torch.rand(*shape))


def test_batches_too_small() -> None:
    with pytest.raises(ValueError, match="query must have at least 2 rows when negatives is None"):
        info_nce(torch.rand(1, 6), torch.rand(1, 6))
    with pytest.raises(ValueError, match="query must have at least one row"):
        info_nce(torch.rand(0, 6), torch.rand(0, 6), torch.rand(3, 6))


def test_one_query_works_with_negatives() -> None:
    assert info_nce(torch.rand(1, 6), torch.rand(1, 6), torch.rand(3, 6)).isfinite()


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan, math.inf])
def test_bad_temperatures(temperature: float) -> None:
    q = torch.rand(4, 6)
    for call in (
        lambda: InfoNCE(temperature=temperature),
        lambda: info_nce(q, q, temperature=temperature),
        lambda: nce(q, q, torch.rand(4, 2, 6), population=9, temperature=temperature),
    ):
        with pytest.raises(ValueError, match="temperature must be a finite number"):
            call()


def test_bad_types_and_devices() -> None:
    q = torch.rand(4, 6)
    with pytest.raises(TypeError, match="query must be a floating point tensor"):
        info_nce(torch.ones(4, 6, dtype=torch.int64), q)
    with pytest.raises(TypeError, match="negatives must be a floating point tensor"):
        info_nce(q, q, torch.ones(4, 6, dtype=torch.int64))
    with pytest.raises(TypeError, match=r"positive must be a torch\.Tensor"):
        info_nce(q, q.numpy())
    with pytest.raises(ValueError, match="same device, got query on cpu, positive on meta"):
        info_nce(q, q.to("meta"))
    with pytest.raises(ValueError, match="same device, got query on cpu, negatives on meta"):
        info_nce(q, q, q.to("meta"))


@pytest.mark.parametrize("temperature", [0.07, 0.5])
def test_info_nce_equals_cross_entropy(temperature: float) -> None:
    q, p, n = (F.normalize(rows(*shape, seed=i), dim=1) for i, shape in enumerate([(5, 6), (5, 6), (7, 6)]))
    logits = torch.cat([(q * p).sum(1, keepdim=True), q @ n.T], dim=1) / temperature
    expected = F.cross_entropy(logits, torch.zeros(5, dtype=torch.long))
    torch.testing.assert_close(info_nce(q, p, n, temperature=temperature), expected)
    in_batch = F.cross_entropy(q @ p.T / temperature, torch.arange(5))
    torch.testing.assert_close(info_nce(q, p, temperature=temperature), in_batch)


@pytest.mark.peers
def test_info_nce_equals_lightly_with_a_memory_bank() -> None:
    from lightly.loss import NTXentLoss

    peer = NTXentLoss(temperature=0.2, memory_bank_size=(32, 6))
    keys = F.normalize(rows(32, 6, seed=3, dtype=torch.float32), dim=1)
    q = rows(8, 6, dtype=torch.float32)
    p = rows(8, 6, seed=1, dtype=torch.float32)
    for start in range(0, 32, 8):
        peer(q.clone().requires_grad_(), keys[start : start + 8])
    queue = peer.memory_bank.bank.clone()
    queue = queue if queue.shape == (32, 6) else queue.T
    expected = peer(q.clone().requires_grad_(), p)
    torch.testing.assert_close(info_nce(q, p, queue, temperature=0.2), expected.detach())


@pytest.mark.peers
@pytest.mark.parametrize("block_size", [None, 7])
@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_nt_xent_equals_lightly(temperature: float, block_size: int | None) -> None:
    from lightly.loss import NTXentLoss

    ours = [rows(32, 6, seed=i, dtype=torch.float32).requires_grad_() for i in (0, 1)]
    theirs = [z.detach().clone().requires_grad_() for z in ours]
    loss = nt_xent(*ours, temperature=temperature, block_size=block_size)
    expected = NTXentLoss(temperature=temperature)(*theirs)
    torch.testing.assert_close(loss, expected)
    for got, want in zip(torch.autograd.grad(loss, ours), torch.autograd.grad(expected, theirs), strict=True):
        torch.testing.assert_close(got, want)


@pytest.mark.peers
def test_nt_xent_equals_monai() -> None:
    from monai.losses import ContrastiveLoss

    z0, z1 = rows(8, 6, dtype=torch.float32), rows(8, 6, seed=1, dtype=torch.float32)
    torch.testing.assert_close(nt_xent(z0, z1), ContrastiveLoss(temperature=0.5)(z0, z1))


@pytest.mark.peers
@pytest.mark.parametrize("temperature", [0.07, 0.5])
def test_nt_xent_equals_pytorch_metric_learning(temperature: float) -> None:
    from pytorch_metric_learning.losses import NTXentLoss

    ours = [rows(16, 6, seed=i, dtype=torch.float32).requires_grad_() for i in (0, 1)]
    theirs = [z.detach().clone().requires_grad_() for z in ours]
    loss = nt_xent(*ours, temperature=temperature)
    expected = NTXentLoss(temperature=temperature)(torch.cat(theirs), torch.arange(16).repeat(2))
    torch.testing.assert_close(loss, expected)
    for got, want in zip(torch.autograd.grad(loss, ours), torch.autograd.grad(expected, theirs), strict=True):
        torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-4)
