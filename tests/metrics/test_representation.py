"""Spread, alignment, uniformity and ranks of embeddings: closed forms, loops, invariances, precision, bad input."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import hyp0f1

import reference
from sslmed.metrics import alignment, effective_rank, feature_std, lidar, representation, uniformity

OF_ONE = [feature_std, uniformity, effective_rank]


def rows(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def rotation(d: int, seed: int) -> torch.Tensor:
    return torch.linalg.qr(rows(d, d, seed=seed)).Q


def test_even_directions() -> None:
    z = rows(20000, 128)
    assert feature_std(z).item() == pytest.approx(128**-0.5, rel=1e-4)
    assert effective_rank(torch.eye(128)).item() == pytest.approx(128, rel=1e-5)
    few = rows(4000, 8)
    expected = math.log(hyp0f1(4, 2**2)) - 2 * 2  # the mean over the sphere in 8 dimensions at t = 2
    assert uniformity(few).item() == pytest.approx(expected, abs=0.005)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_a_collapse(dtype: torch.dtype, device: torch.device) -> None:
    one = torch.tensor([[3.0, -1.0, 2.0]]).repeat(300, 1).to(device, dtype)
    for value, expected in (
        (feature_std(one), 0),
        (uniformity(one), 0),
        (alignment(one, one), 0),
        (effective_rank(one), 1),
        (feature_std(0 * one), 0),
        (uniformity(0 * one), 0),
        (alignment(0 * one, 0 * one), 0),
        (effective_rank(0 * one), 1),
    ):
        assert value.shape == ()
        assert value.device.type == device.type
        assert value.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
        assert value.item() == pytest.approx(expected, abs=2e-5)


def test_only_the_rank_sees_a_collapse_to_some_dimensions() -> None:
    z = torch.cat([rows(1000, 4), torch.zeros(1000, 60)], dim=1) @ rotation(64, 1)
    assert feature_std(z) > 0.8 / 8
    assert effective_rank(z).item() == pytest.approx(4, rel=0.01)


def test_angles() -> None:
    e = torch.eye(4)
    for alpha in (0.5, 1.0, 2.0, 3.0):
        assert alignment(e, 7 * e, alpha=alpha) == 0
        assert alignment(e, e.roll(1, 0), alpha=alpha).item() == pytest.approx(2 ** (alpha / 2))
        assert alignment(e, -e, alpha=alpha).item() == pytest.approx(2**alpha)
    for t in (0.5, 2.0, 100.0):
        assert uniformity(e, t=t).item() == pytest.approx(-2 * t, rel=1e-5)
        assert uniformity(torch.stack([e[0], -e[0]]), t=t).item() == pytest.approx(-4 * t, rel=1e-5)


@pytest.mark.parametrize("held", [1, 3, 256])
def test_the_loops(held: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(representation, "_ROWS", held)
    z0, z1 = rows(10, 4), rows(10, 4, seed=1)
    assert feature_std(z0).item() == pytest.approx(reference.feature_std(z0), rel=1e-12)
    assert effective_rank(z0).item() == pytest.approx(reference.effective_rank(z0), rel=1e-5)
    for t in (0.5, 2.0):
        assert uniformity(z0, t=t).item() == pytest.approx(reference.uniformity(z0, t).item(), rel=1e-12)
    for alpha in (1.0, 2.0):
        expected = reference.alignment(z0, z1, alpha).item()
        assert alignment(z0, z1, alpha=alpha).item() == pytest.approx(expected, rel=1e-12)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), exponent=st.floats(-30, 30))
def test_order_turns_and_lengths_do_not_matter(seed: int, exponent: float) -> None:
    z0, z1, turn = rows(7, 5, seed=seed), rows(7, 5, seed=seed + 1), rotation(5, seed + 2)
    order = torch.randperm(7, generator=torch.Generator().manual_seed(seed))
    lengths = 10.0**exponent * (1 + rows(7, 1, seed=seed).abs())
    torch.testing.assert_close(feature_std(z0[order] * lengths), feature_std(z0))
    torch.testing.assert_close(uniformity((z0 * lengths)[order] @ turn), uniformity(z0))
    torch.testing.assert_close(alignment(z0[order] @ turn, (z1 * lengths)[order] @ turn), alignment(z0, z1))
    torch.testing.assert_close(effective_rank(10.0**exponent * z0[order] @ turn), effective_rank(z0))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_narrow_dtypes_equal_float64_on_the_same_numbers(dtype: torch.dtype, device: torch.device) -> None:
    z0, z1 = (1e4 * rows(300, 16)).to(device, dtype), rows(300, 16, seed=1).to(device, dtype)
    with torch.autocast(device.type, dtype=torch.bfloat16):
        values = [*(f(z0) for f in OF_ONE), alignment(z0, z1)]
    expected = [*(f(z0.double()) for f in OF_ONE), alignment(z0.double(), z1.double())]
    for value, wide in zip(values, expected, strict=True):
        assert value.dtype == torch.float32
        torch.testing.assert_close(value.double(), wide, rtol=1e-5, atol=1e-6)


def test_no_graph_is_kept_and_nothing_changes() -> None:
    z = rows(5, 3).requires_grad_()
    before = z.detach().clone()
    assert not any(value.requires_grad for value in (*(f(z) for f in OF_ONE), alignment(z, 2 * z)))
    assert torch.equal(z, before)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_not_finite_shows(value: float) -> None:
    z = rows(5, 3)
    z[2, 1] = value
    assert all(result.isnan() for result in (*(f(z) for f in OF_ONE), alignment(z, rows(5, 3))))


@pytest.mark.parametrize("metric", OF_ONE)
def test_bad_embeddings(metric: Callable[[torch.Tensor], torch.Tensor]) -> None:
    with pytest.raises(ValueError, match=r"z must have shape \(N, D\), got \(4, 3, 2\)"):
        metric(torch.rand(4, 3, 2))
    with pytest.raises(TypeError, match=r"z must be a floating point tensor, got torch\.int64"):
        metric(torch.ones(4, 3, dtype=torch.int64))
    with pytest.raises(TypeError, match=r"z must be a torch\.Tensor, got list"):
        metric([[1.0]])  # type: ignore[arg-type]
    fewest = 1 if metric is effective_rank else 2
    with pytest.raises(ValueError, match=rf"z must have at least {fewest} rows? and one feature, got shape"):
        metric(torch.rand(fewest - 1, 3))
    with pytest.raises(ValueError, match=r"one feature, got shape \(4, 0\)"):
        metric(torch.rand(4, 0))


def test_bad_settings_and_pairs() -> None:
    z = torch.rand(4, 3)
    with pytest.raises(ValueError, match=r"z0 and z1 must have the same shape, got \(4, 3\) and \(3, 3\)"):
        alignment(z, z[:3])
    with pytest.raises(ValueError, match="same device, got z0 on cpu, z1 on meta"):
        alignment(z, z.to("meta"))
    with pytest.raises(ValueError, match="z0 must have at least 1 row and one feature"):
        alignment(z[:0], z[:0])
    with pytest.raises(ValueError, match="alpha must be a finite number"):
        alignment(z, z, alpha=0)
    with pytest.raises(ValueError, match="t must be a finite number"):
        uniformity(z, t=-2)


@pytest.mark.parametrize("delta", [1e-4, 1.0])
def test_lidar_is_the_loop(delta: float) -> None:
    z = rows(12, 1, 5) + 0.3 * rows(12, 4, 5, seed=1)
    assert lidar(z, delta=delta).item() == pytest.approx(reference.lidar(z, delta), rel=1e-9)


def test_lidar_counts_the_directions_that_tell_images_apart() -> None:
    apart = torch.cat([rows(300, 4), torch.zeros(300, 12)], dim=1)[:, None]
    noise = torch.cat([torch.zeros(300, 8, 4), rows(300, 8, 12, seed=1)], dim=2)
    z = (apart + noise) @ rotation(16, 2)
    assert effective_rank(z.flatten(0, 1)).item() > 12  # which cannot tell noise from content
    assert lidar(z).item() == pytest.approx(4, rel=0.02)
    order = torch.randperm(300, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(lidar(z[order].flip(1) + 5), lidar(z))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_lidar_of_a_collapse_and_of_one_dimension(dtype: torch.dtype, device: torch.device) -> None:
    one = torch.full((5, 3, 4), 2.0).to(device, dtype)
    line = torch.arange(5.0)[:, None, None] * torch.tensor([1.0, 2.0]) + torch.tensor([[0.0], [1.0], [2.0]])
    for z in (one, 0 * one, line.to(device, dtype)):
        value = lidar(z)
        assert value.item() == pytest.approx(1)
        assert value.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
        assert value.device.type == device.type
    assert lidar(one.index_fill(0, torch.tensor([1], device=device), math.nan)).isnan()


def test_lidar_refuses_what_it_cannot_use() -> None:
    with pytest.raises(ValueError, match=r"z must have shape \(N, Q, D\), got \(4, 3\)"):
        lidar(torch.rand(4, 3))
    for shape in ((1, 2, 3), (2, 1, 3), (2, 2, 0)):
        with pytest.raises(ValueError, match="z must have at least 2 images, 2 views and one feature"):
            lidar(torch.rand(*shape))
    with pytest.raises(TypeError, match="z must be a floating point tensor"):
        lidar(torch.ones(2, 2, 2, dtype=torch.int64))
    with pytest.raises(ValueError, match="delta must be a finite number"):
        lidar(torch.rand(2, 2, 2), delta=0)


@pytest.mark.peers
def test_feature_std_equals_lightly() -> None:
    from lightly.utils.debug import std_of_l2_normalized

    z = rows(50, 7)
    torch.testing.assert_close(feature_std(z), std_of_l2_normalized(z))
