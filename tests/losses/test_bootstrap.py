"""BYOL and SimSiam: closed forms, the literal loop, gradients of the prediction only, precision, bad input."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

import reference
from sslmed.losses import BYOL, NegativeCosine, byol, negative_cosine

LOSSES = [byol, negative_cosine]


def rows(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(("degrees", "expected"), [(0, 0.0), (90, 2.0), (180, 4.0), (60, 1.0)])
def test_closed_forms(degrees: float, expected: float) -> None:
    angle = torch.tensor(degrees, dtype=torch.float64).deg2rad()
    p = torch.tensor([[3.0, 0.0]], dtype=torch.float64)
    z = 5 * torch.stack([angle.cos(), angle.sin()])[None]
    assert BYOL()(p, z).item() == pytest.approx(expected, abs=1e-12)
    assert NegativeCosine()(p, z).item() == pytest.approx(expected / 2 - 1, abs=1e-12)


def test_the_loop() -> None:
    p, z = rows(5, 6), rows(5, 6, seed=1)
    torch.testing.assert_close(byol(p, z), reference.byol(p, z))
    torch.testing.assert_close(negative_cosine(p, z), reference.byol(p, z) / 2 - 1)


def test_torchs_cosine_similarity() -> None:
    p, z = rows(5, 6), rows(5, 6, seed=1)
    torch.testing.assert_close(negative_cosine(p, z), -F.cosine_similarity(p, z).mean())


@pytest.mark.parametrize("loss", LOSSES)
def test_gradients_reach_the_prediction_only(loss) -> None:
    p, z = rows(5, 6).requires_grad_(), rows(5, 6, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda p: loss(p, z), p)
    assert torch.autograd.gradgradcheck(lambda p: loss(p, z), p)
    loss(p, z).backward()
    assert p.grad.abs().sum() > 0
    assert z.grad is None


@pytest.mark.parametrize("loss", LOSSES)
def test_invariance_to_row_scale_and_batch_order(loss) -> None:
    p, z = rows(5, 6), rows(5, 6, seed=1)
    order, scale = (
        torch.tensor([3, 0, 4, 1, 2]),
        torch.tensor([1e-6, 1.0, 7.0, 1e3, 1e6], dtype=torch.float64),
    )
    torch.testing.assert_close(loss(p[order] * scale[:, None], z[order]), loss(p, z))
    torch.testing.assert_close(loss(p, z * scale[:, None]), loss(p, z))


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_narrow_dtypes_and_autocast(loss, dtype: torch.dtype, scale: float, device: torch.device) -> None:
    p, z = ((scale * rows(5, 6, seed=i)).to(device, dtype) for i in (0, 1))
    p[0] = 0
    expected = loss(p.double(), z.double())
    assert loss(p, z).dtype == torch.float32
    torch.testing.assert_close(loss(p, z).double(), expected, rtol=1e-6, atol=1e-6)
    with torch.autocast(device.type, dtype=torch.bfloat16):
        assert loss(p, z) == loss(p, z)
    (grad,) = torch.autograd.grad(loss(p.requires_grad_(), z), p)
    assert grad.isfinite().all()
    assert grad.abs().max() < 2


@pytest.mark.parametrize("loss", LOSSES)
def test_one_graph(loss) -> None:
    p, z = rows(5, 6), rows(5, 6, seed=1)
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(p, z), loss(p, z))


@pytest.mark.parametrize("loss", LOSSES)
def test_bad_input(loss) -> None:
    p = torch.rand(4, 6)
    with pytest.raises(ValueError, match="prediction and target must have the same shape"):
        loss(p, p[:, :5])
    with pytest.raises(ValueError, match=r"prediction must have shape \(N, D\)"):
        loss(p[0], p[0])
    with pytest.raises(ValueError, match="prediction must have at least one row"):
        loss(p[:0], p[:0])
    with pytest.raises(TypeError, match="target must be a floating point tensor"):
        loss(p, p.int())
    with pytest.raises(ValueError, match="same device"):
        loss(p, p.to("meta"))


@pytest.mark.peers
def test_negative_cosine_equals_lightly() -> None:
    from lightly.loss import NegativeCosineSimilarity

    p, z = rows(5, 6), rows(5, 6, seed=1)
    torch.testing.assert_close(negative_cosine(p, z), NegativeCosineSimilarity()(p, z))


@pytest.mark.parametrize("loss", LOSSES)
def test_first_and_second_derivatives(loss) -> None:  # type: ignore[no-untyped-def]
    p, z = rows(3, 4).requires_grad_(), rows(3, 4, seed=1)
    assert torch.autograd.gradcheck(lambda x: loss(x, z), p)
    assert torch.autograd.gradgradcheck(lambda x: loss(x, z), p)
