"""Masked L1: closed forms, the literal loop, gradients that stay inside the mask, reductions, bad input."""

from __future__ import annotations

import pytest
import torch

import reference
from sslmed.losses import MaskedL1, masked_l1


def images(seed: int = 0) -> torch.Tensor:
    return torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture
def mask() -> torch.Tensor:
    return torch.rand(2, 1, 4, 5, generator=torch.Generator().manual_seed(2)) < 0.4


def test_the_loop(mask: torch.Tensor) -> None:
    torch.testing.assert_close(masked_l1(images(), images(1), mask), reference.masked_l1(images(), images(1), mask))


def test_reductions(mask: torch.Tensor) -> None:
    p, x = images(), images(1)
    total = ((p - x).abs() * mask).sum()
    torch.testing.assert_close(MaskedL1()(p, x, mask), total / (3 * mask.sum()))
    torch.testing.assert_close(MaskedL1(reduction="sum")(p, x, mask), total)
    torch.testing.assert_close(MaskedL1(reduction="mean_all")(p, x, mask), total / p.numel())


def test_an_oracle_costs_nothing_and_zeros_cost_the_mean(mask: torch.Tensor) -> None:
    x = images().abs()
    assert masked_l1(x, x, mask) == 0
    torch.testing.assert_close(masked_l1(torch.zeros_like(x), x, mask), x[mask.expand_as(x)].mean())


@pytest.mark.parametrize("reduction", ["masked", "sum", "mean_all"])
def test_pixels_outside_the_mask_take_no_part(reduction: str, mask: torch.Tensor) -> None:
    p, x = images(), images(1)
    loss = masked_l1(p, x, mask, reduction=reduction)
    p[~mask.expand_as(p)] = float("nan")
    p.requires_grad_()
    poisoned = masked_l1(p, x, mask, reduction=reduction)
    assert poisoned == loss
    poisoned.backward()
    assert (p.grad[~mask.expand_as(p)] == 0).all()
    assert (p.grad[mask.expand_as(p)] != 0).all()


def test_gradients(mask: torch.Tensor) -> None:
    inputs = images().requires_grad_(), images(1).requires_grad_()
    for reduction in ("masked", "sum", "mean_all"):
        assert torch.autograd.gradcheck(lambda *v, r=reduction: masked_l1(*v, mask, reduction=r), inputs)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_narrow_dtypes_are_summed_in_float32(dtype: torch.dtype, mask: torch.Tensor, device: torch.device) -> None:
    p, x, m = (1e4 * images()).to(device, dtype), (1e4 * images(1)).to(device, dtype), mask.to(device)
    for reduction in ("masked", "sum"):
        loss = masked_l1(p, x, m, reduction=reduction)
        assert loss.dtype == torch.float32
        torch.testing.assert_close(
            loss.double(), masked_l1(p.double(), x.double(), m, reduction=reduction), rtol=1e-6, atol=0
        )


def test_one_graph(mask: torch.Tensor) -> None:
    compiled = torch.compile(MaskedL1(), fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(images(), images(1), mask), masked_l1(images(), images(1), mask))


def test_an_empty_mask_is_an_error_on_every_device(device: torch.device) -> None:
    x = images().to(device)
    mask = torch.zeros(2, 1, 4, 5, dtype=torch.bool, device=device)
    with pytest.raises(ValueError, match="mask must hide at least one pixel, got a mask without any"):
        MaskedL1()(x, x, mask)
    for reduction in ("sum", "mean_all"):
        assert masked_l1(x, x + 1, mask, reduction=reduction) == 0
    mask[0, 0, 0, 0] = True
    assert masked_l1(x, x + 1, mask) == 1


def test_a_graph_cannot_look_and_says_nan() -> None:
    compiled = torch.compile(masked_l1, fullgraph=True, backend="aot_eager")
    x = images().requires_grad_()
    loss = compiled(x, images(1), torch.zeros(2, 1, 4, 5, dtype=torch.bool))
    loss.backward()
    assert loss.isnan()
    assert (x.grad == 0).all()
    assert masked_l1(*(y.to("meta") for y in (x, x)), torch.ones(2, 1, 4, 5, dtype=torch.bool, device="meta")).is_meta


def test_transforms_of_torch_func(mask: torch.Tensor) -> None:
    p, x, masks = images(), images(1), mask.clone()
    masks[1] = False
    each = torch.func.vmap(masked_l1)(p[:, None], x[:, None], masks[:, None])
    torch.testing.assert_close(each[0], masked_l1(p[:1], x[:1], mask[:1]))
    assert each[1].isnan()
    shared = torch.func.vmap(masked_l1, in_dims=(0, 0, None))(p[:, None], x[:, None], mask[:1])
    torch.testing.assert_close(shared[1], masked_l1(p[1:], x[1:], mask[:1]))
    leaf = p.clone().requires_grad_()
    masked_l1(leaf, x, mask).backward()
    torch.testing.assert_close(torch.func.grad(masked_l1)(p, x, mask), leaf.grad)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_cuda_graph_records_the_loss() -> None:
    p, x, mask = images().cuda(), images(1).cuda(), torch.ones(2, 1, 4, 5, dtype=torch.bool, device="cuda")
    expected = masked_l1(p, x, mask)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        loss = masked_l1(p, x, mask)
    graph.replay()
    torch.testing.assert_close(loss, expected)


def test_bad_input(mask: torch.Tensor) -> None:
    x = images()
    with pytest.raises(ValueError, match=r"mask must have shape \(2, 1, 4, 5\), got \(2, 3, 4, 5\)"):
        masked_l1(x, x, mask.expand_as(x))
    with pytest.raises(ValueError, match=r"mask must have shape \(2, 1, 4, 5\), got \(1, 1, 4, 5\)"):
        masked_l1(x, x, mask[:1])
    with pytest.raises(TypeError, match=r"mask must be a bool tensor, got torch\.float32"):
        masked_l1(x, x, mask.float())
    with pytest.raises(ValueError, match="prediction and target must have the same shape"):
        masked_l1(x, x[:, :1], mask)
    with pytest.raises(ValueError, match=r"prediction must have shape \(B, C, H, W\)"):
        masked_l1(x[0], x[0], mask)
    with pytest.raises(ValueError, match="prediction must not be empty"):
        masked_l1(x[:0], x[:0], mask[:0])
    with pytest.raises(TypeError, match="target must be a floating point tensor"):
        masked_l1(x, x.int(), mask)
    with pytest.raises(ValueError, match="same device"):
        masked_l1(x, x, mask.to("meta"))
    with pytest.raises(ValueError, match="reduction must be one of 'masked', 'sum', 'mean_all', got 'mean'"):
        MaskedL1(reduction="mean")


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_gradients_of_both_images_in_any_layout(dtype: torch.dtype, mask: torch.Tensor) -> None:
    pair = [images(seed).to(dtype).mT.contiguous().mT.requires_grad_() for seed in (0, 1)]
    found = torch.autograd.grad(masked_l1(*pair, mask, reduction="sum"), pair, create_graph=True)
    assert [g.dtype for g in found] == [dtype, dtype]
    quick = torch.autograd.grad(masked_l1(*pair, mask, reduction="sum"), pair)
    signs = (pair[0].float() - pair[1].float()).sign() * mask
    for gradient, expected in zip((*found, *quick), (signs, -signs) * 2, strict=True):
        torch.testing.assert_close(gradient.float(), expected)
