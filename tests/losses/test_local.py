"""Local contrastive loss: closed forms, the literal loop, draws, gradients, precision, bad input."""

from __future__ import annotations

import math

import pytest
import torch

import reference
from sslmed.losses import LocalContrastive, local_contrastive
from sslmed.losses.local import draw_others


def maps(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("region", [1, 3])
def test_orthogonal_regions_of_equal_maps(region: int) -> None:
    cells = torch.eye(16, dtype=torch.float64).view(1, 16, 4, 4)
    f = cells.repeat_interleave(region, dim=2).repeat_interleave(region, dim=3)
    loss = LocalContrastive(region=region)(f, f)
    assert loss.item() == pytest.approx(4.5390e-4, rel=1e-4)
    assert loss.item() == pytest.approx(math.log1p(10 * math.exp(-10)), rel=1e-10)


@pytest.mark.parametrize("negatives", [1, 5, 15])
def test_equal_regions(negatives: int) -> None:
    f = torch.ones(2, 3, 12, 12)
    loss = local_contrastive(f, 4 * f, negatives=negatives)
    assert loss.item() == pytest.approx(math.log(2 * negatives + 1), rel=1e-5)


@pytest.mark.parametrize(("region", "size"), [(1, (3, 4)), (2, (5, 7)), (3, (9, 8))])
@pytest.mark.parametrize("temperature", [0.02, 0.1, 10.0])
def test_the_loop(region: int, size: tuple[int, int], temperature: float) -> None:
    f0, f1 = maps(2, 3, *size), maps(2, 3, *size, seed=1)
    regions = (size[0] // region) * (size[1] // region)
    others = draw_others(2, regions, 4, device=f0.device, generator=generator())
    loss = local_contrastive(f0, f1, temperature=temperature, region=region, negatives=4, generator=generator())
    torch.testing.assert_close(loss, reference.local_contrastive(f0, f1, others, temperature, region))


@pytest.mark.parametrize("k", [1, 3, 6])
def test_drawn_regions_are_distinct_uniform_and_never_the_own(k: int) -> None:
    others = draw_others(3000, 7, k, device=torch.device("cpu"), generator=generator())
    assert others.shape == (3000, 7, k)
    assert (others.sort(dim=2).values.diff(dim=2) > 0).all()
    for own in range(7):
        counts = others[:, own].flatten().bincount(minlength=7)
        assert counts[own] == 0
        expected = 3000 * k / 6
        assert (counts[torch.arange(7) != own] - expected).abs().max() <= 5 * math.sqrt(expected * (1 - k / 6))


def test_the_generator_rules_the_draw() -> None:
    f0, f1 = maps(2, 3, 9, 9), maps(2, 3, 9, 9, seed=1)
    torch.manual_seed(0)
    state = torch.get_rng_state()
    loss = local_contrastive(f0, f1, generator=generator(3))
    assert loss == LocalContrastive()(f0, f1, generator=generator(3))
    assert loss != local_contrastive(f0, f1, generator=generator(4))
    assert torch.equal(torch.get_rng_state(), state)


def test_gradients() -> None:
    inputs = maps(2, 2, 4, 4).requires_grad_(), maps(2, 2, 4, 4, seed=1).requires_grad_()
    options = {"temperature": 0.5, "region": 2, "negatives": 2}
    assert torch.autograd.gradcheck(lambda *f: local_contrastive(*f, **options, generator=generator()), inputs)


def test_invariances() -> None:
    f0, f1 = maps(2, 3, 9, 9), maps(2, 3, 9, 9, seed=1)
    loss = local_contrastive(f0, f1, generator=generator())
    torch.testing.assert_close(local_contrastive(f1, f0, generator=generator()), loss)
    torch.testing.assert_close(local_contrastive(1e3 * f0, f1, generator=generator()), loss)


def test_rows_beyond_the_last_whole_region_take_no_part() -> None:
    f0, f1 = maps(1, 2, 11, 10).requires_grad_(), maps(1, 2, 11, 10, seed=1)
    loss = local_contrastive(f0, f1, generator=generator())
    torch.testing.assert_close(loss, local_contrastive(f0[:, :, :9, :9], f1[:, :, :9, :9], generator=generator()))
    loss.backward()
    assert (f0.grad[:, :, 9:] == 0).all()
    assert (f0.grad[..., 9:] == 0).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("temperature", [0.01, 10.0])
def test_narrow_dtypes_autocast_and_zero_regions(dtype: torch.dtype, temperature: float, device: torch.device) -> None:
    f0, f1 = ((1e3 * maps(2, 3, 9, 9, seed=i)).to(device, dtype) for i in (0, 1))
    f0[0, :, :3, :3] = 0
    f0.requires_grad_()
    options = {"temperature": temperature}
    loss = local_contrastive(f0, f1, **options, generator=generator())
    assert loss.dtype == torch.float32
    wide = local_contrastive(f0.double(), f1.double(), **options, generator=generator())
    torch.testing.assert_close(loss.double(), wide, rtol=1e-5, atol=1e-5)
    loss.backward()
    assert f0.grad.isfinite().all()
    with torch.autocast(device.type, dtype=torch.bfloat16):
        assert local_contrastive(f0, f1, **options, generator=generator()) == loss


def test_one_graph() -> None:
    f0, f1 = maps(2, 3, 9, 9), maps(2, 3, 9, 9, seed=1)
    compiled = torch.compile(LocalContrastive(), fullgraph=True, backend="aot_eager")
    assert compiled(f0, f1).isfinite()
    cells = torch.eye(16).view(1, 16, 4, 4)
    loss = torch.compile(LocalContrastive(region=1), fullgraph=True, backend="aot_eager")(cells, cells)
    assert loss.item() == pytest.approx(4.5390e-4, rel=1e-4)


def test_bad_input() -> None:
    f = torch.rand(2, 3, 9, 9)
    with pytest.raises(TypeError, match=r"generator must be a torch\.Generator or None, got int"):
        local_contrastive(f, f, generator=0)
    with pytest.raises(ValueError, match="f0 and f1 must have the same shape"):
        local_contrastive(f, f[..., :6])
    with pytest.raises(ValueError, match=r"f0 must have shape \(B, D, h, w\), got \(3, 9, 9\)"):
        local_contrastive(f[0], f[0])
    with pytest.raises(ValueError, match=r"f0 must hold more than negatives=9 regions of 3 x 3, got 9"):
        local_contrastive(f, f, negatives=9)
    with pytest.raises(ValueError, match=r"regions of 10 x 10, got 0"):
        local_contrastive(f, f, region=10)
    with pytest.raises(ValueError, match="f0 must not be empty"):
        local_contrastive(f[:0], f[:0])
    with pytest.raises(TypeError, match="f1 must be a floating point tensor"):
        local_contrastive(f, f.int())
    with pytest.raises(ValueError, match="same device"):
        local_contrastive(f, f.to("meta"))
    with pytest.raises(ValueError, match="temperature must be a finite number"):
        LocalContrastive(temperature=0)
    for name in ("region", "negatives"):
        with pytest.raises(ValueError, match=f"{name} must be at least 1"):
            LocalContrastive(**{name: 0})
