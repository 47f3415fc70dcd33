"""Relation contrastive loss: closed forms, the literal loop, gradients, precision, bad input."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

import reference
from sslmed.losses import RelationContrastive, RelationHead, relation_contrastive


def unit(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return F.normalize(x, dim=-1).to(dtype)


def constant(c: float, dim: int = 6) -> RelationContrastive:
    loss = RelationContrastive(dim)
    with torch.no_grad():
        for parameter in loss.parameters():
            parameter.zero_()
        list(loss.parameters())[-1].fill_(torch.logit(torch.tensor(c)))
    return loss


@pytest.mark.parametrize("k", [1, 2, 50])
@pytest.mark.parametrize("c", [0.1, 0.5, 0.8])
def test_a_constant_head_costs_the_same_whatever_the_number_of_negatives(c: float, k: int) -> None:
    a, p, n = torch.rand(4, 6), torch.rand(4, 6), torch.rand(4, k, 6)
    assert constant(c)(a, p, n).item() == pytest.approx((1 - c) ** 2 + c**2, abs=1e-6)
    assert constant(c)(a, p, n[0]).item() == pytest.approx((1 - c) ** 2 + c**2, abs=1e-6)


def test_the_best_constant_is_one_half() -> None:
    c = torch.tensor(0.3, requires_grad=True)
    for _ in range(200):
        loss = relation_contrastive(c.expand(4), c.expand(4, 30))
        (grad,) = torch.autograd.grad(loss, c)
        c = (c - 0.1 * grad).detach().requires_grad_()
    assert c.item() == pytest.approx(0.5, abs=1e-4)


def test_perfect_and_worst_scores() -> None:
    one, zero = torch.ones(3), torch.zeros(3, 5)
    assert relation_contrastive(one, zero) == 0
    assert relation_contrastive(1 - one, 1 - zero) == 2
    assert relation_contrastive(one, zero.flatten()) == 0


@pytest.mark.parametrize("seed", range(5))
def test_an_untrained_head_costs_about_one_half(seed: int) -> None:
    torch.manual_seed(seed)
    loss = RelationContrastive()(unit(16, 128).float(), unit(16, 128, seed=1).float(), unit(99, 128, seed=2).float())
    assert 0.49 < loss.item() < 0.51


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("scale", [1.0, 6.0])
def test_the_loss_equals_the_loop(shared: bool, scale: float) -> None:
    torch.manual_seed(0)
    loss = RelationContrastive(6, hidden=5, input_scale=scale).double()
    a, p, n = unit(4, 6), unit(4, 6, seed=1), unit(4, 3, 6, seed=2)
    n = n[0] if shared else n
    expected = reference.relation((*loss.parameters(), scale), a, p, n.expand(4, 3, 6))
    torch.testing.assert_close(loss(a, p, n), expected)


def test_inputs_are_not_normalised() -> None:
    torch.manual_seed(0)
    loss = RelationContrastive(6)
    a, p, n = torch.rand(4, 6), torch.rand(4, 6), torch.rand(5, 6)
    assert not torch.isclose(loss(a, p, n), loss(3 * a, p, n))


def test_input_scale_scales_the_product() -> None:
    torch.manual_seed(0)
    scaled = RelationHead(6, input_scale=6.0)
    plain = RelationHead(6)
    plain.load_state_dict(scaled.state_dict())
    a, b = torch.rand(4, 6), torch.rand(4, 6)
    torch.testing.assert_close(scaled(a, b), plain(6 * a, b))


def test_the_head_is_symmetric_and_between_0_and_1() -> None:
    torch.manual_seed(0)
    head = RelationHead(6, input_scale=10.0)
    a, b = torch.randn(50, 6), torch.randn(50, 6)
    assert torch.equal(head(a, b), head(b, a))
    assert 0 < head(a, b).min() < head(a, b).max() < 1
    assert head(a[:, None], b).shape == (50, 50)


def test_the_head_has_the_papers_layers() -> None:
    shapes = [tuple(p.shape) for p in RelationContrastive().parameters()]
    assert shapes == [(64, 128), (64,), (1, 64), (1,)]


@pytest.mark.parametrize("shared", [True, False])
def test_gradients_of_inputs_and_head(shared: bool) -> None:
    torch.manual_seed(0)
    loss = RelationContrastive(4, hidden=3).double()
    parameters = dict(loss.named_parameters())
    tensors = [unit(3, 4), unit(3, 4, seed=1), unit(*((5, 4) if shared else (3, 5, 4)), seed=2)]
    inputs = [x.requires_grad_() for x in tensors]

    def call(*values: torch.Tensor) -> torch.Tensor:
        weights = dict(zip(parameters, values[3:], strict=True))
        return torch.func.functional_call(loss, weights, values[:3])

    assert torch.autograd.gradcheck(call, (*inputs, *parameters.values()))


def test_training_the_head_alone_separates_pairs() -> None:
    torch.manual_seed(0)
    loss = RelationContrastive(16, input_scale=16.0)
    optimizer = torch.optim.SGD(loss.parameters(), lr=0.1, momentum=0.9)
    anchor = unit(64, 16, dtype=torch.float32)
    positive = F.normalize(anchor + 0.05 * torch.randn_like(anchor), dim=1)
    negatives = unit(64, 8, 16, seed=9, dtype=torch.float32)
    for _ in range(200):
        optimizer.zero_grad()
        value = loss(anchor, positive, negatives)
        value.backward()
        optimizer.step()
    assert value.item() < 0.2


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_narrow_inputs_and_autocast_work_in_float32(dtype: torch.dtype, device: torch.device) -> None:
    torch.manual_seed(0)
    loss = RelationContrastive(6, input_scale=6.0).to(device)
    narrow = [unit(*shape, seed=i).to(device, dtype) for i, shape in enumerate([(4, 6), (4, 6), (5, 6)])]
    expected = loss(*(x.float() for x in narrow))
    assert loss(*narrow) == expected
    with torch.autocast(device.type, dtype=torch.bfloat16):
        assert loss(*narrow) == expected
    assert loss.to(dtype)(*narrow).dtype == torch.float32


def test_the_loss_compiles_in_one_graph() -> None:
    torch.manual_seed(0)
    loss = RelationContrastive(6)
    a, p, n = torch.rand(4, 6), torch.rand(4, 6), torch.rand(5, 6)
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(a, p, n), loss(a, p, n))


def test_bad_input() -> None:
    loss = RelationContrastive(6)
    a, n = torch.rand(4, 6), torch.rand(5, 6)
    with pytest.raises(ValueError, match="anchor and positive must have the same shape"):
        loss(a, a[:3], n)
    with pytest.raises(ValueError, match=r"anchor must have shape \(N, 6\), got \(4, 5\)"):
        loss(a[:, :5], a[:, :5], n)
    with pytest.raises(ValueError, match=r"negatives must have shape .*got \(5, 5\)"):
        loss(a, a, n[:, :5])
    with pytest.raises(ValueError, match="negatives must hold at least one row"):
        loss(a, a, n[:0])
    with pytest.raises(TypeError, match="positive must be a floating point tensor"):
        loss(a, a.long(), n)
    with pytest.raises(ValueError, match="same device, got anchor on cpu, negatives on meta"):
        loss(a, a, n.to("meta"))
    with pytest.raises(ValueError, match="dim must be at least 1"):
        RelationContrastive(0)
    with pytest.raises(ValueError, match="input_scale must be a finite number"):
        RelationHead(6, input_scale=0.0)
    with pytest.raises(ValueError, match=r"b must have shape \(\.\.\., 6\), got \(4, 5\)"):
        RelationHead(6)(a, a[:, :5])


def test_bad_scores() -> None:
    with pytest.raises(ValueError, match=r"negative_scores must have shape .* N = 3"):
        relation_contrastive(torch.rand(3), torch.rand(4, 2))
    with pytest.raises(ValueError, match="must not be empty"):
        relation_contrastive(torch.rand(3), torch.rand(3, 0))
    with pytest.raises(ValueError, match=r"positive_scores must have shape \(N,\)"):
        relation_contrastive(torch.rand(3, 1), torch.rand(3, 2))
    with pytest.raises(TypeError, match="negative_scores must be a floating point tensor"):
        relation_contrastive(torch.rand(3), torch.ones(3, dtype=torch.bool))
