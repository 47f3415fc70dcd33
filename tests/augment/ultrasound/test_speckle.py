"""Speckle by its statistics, and Lee's filter against a literal loop."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from sslmed.augment import Speckle
from sslmed.augment._fields import seed_from
from sslmed.augment.functional import reduce_speckle, speckle_intensity

SIZE = (128, 160)


def seeds(n: int) -> Tensor:
    return seed_from(torch.rand(n, 2, generator=torch.Generator().manual_seed(1)))


def field(n: int, axial: float, lateral: float) -> Tensor:
    return speckle_intensity(seeds(n), torch.full((n,), axial), torch.full((n,), lateral), SIZE).double()


def test_speckle_is_fully_developed() -> None:
    intensity = field(16, 1.0, 1.5)
    cells = intensity.numel() / (math.pi * 1.0 * 1.5)  # independent ones
    assert abs(intensity.mean().item() - 1) < 5 / cells**0.5
    assert abs(intensity.var().item() - 1) < 5 * (8 / cells) ** 0.5
    amplitude = intensity.sqrt()
    assert (amplitude.mean() / amplitude.std()).item() == pytest.approx(1.913, abs=0.02)
    for level in (0.1, 0.5, 1.0, 2.0, 4.0):
        assert (intensity > level).double().mean().item() == pytest.approx(math.exp(-level), abs=0.01)
    level_db = 10 * intensity.log10()
    assert level_db.std().item() == pytest.approx(5.57, abs=0.1)
    assert level_db.mean().item() == pytest.approx(-2.507, abs=0.05)


@pytest.mark.parametrize(("axial", "lateral"), [(1.0, 2.5), (2.0, 0.8)])
def test_its_correlation_is_that_of_the_point_spread_function(axial: float, lateral: float) -> None:
    intensity = field(24, axial, lateral) - 1
    for dy, dx in ((1, 0), (2, 0), (0, 1), (0, 2), (0, 4), (1, 2), (9, 0), (0, 12)):
        covariance = (intensity * intensity.roll((dy, dx), (2, 3))).mean().item()
        expected = math.exp(-(dy**2) / (2 * axial**2) - dx**2 / (2 * lateral**2))
        assert covariance == pytest.approx(expected, abs=0.03), (dy, dx)


def test_each_sample_has_its_own_width_and_seed() -> None:
    widths = torch.tensor([0.5, 3.0])
    both = speckle_intensity(seeds(2), widths, widths, SIZE)
    for k in range(2):
        alone = speckle_intensity(seeds(2)[k : k + 1], widths[k : k + 1], widths[k : k + 1], SIZE)
        torch.testing.assert_close(alone[0], both[k])
    neighbours = (both[..., 1:] - both[..., :-1]).square().mean(dim=(1, 2, 3))
    assert neighbours[0] > 5 * neighbours[1]


def test_odd_sizes_and_a_point_like_function() -> None:
    zero = torch.zeros(1)
    intensity = speckle_intensity(seeds(1), zero, zero, (101, 97)).double()
    assert intensity.shape == (1, 1, 101, 97)
    assert abs(intensity.mean().item() - 1) < 0.05
    shifted = ((intensity - 1) * (intensity - 1).roll(1, 3)).mean().item()
    assert abs(shifted) < 0.05


@pytest.mark.parametrize("strength", [0.2, 0.7])
def test_added_speckle_has_its_decibels_and_keeps_the_mean(strength: float) -> None:
    x = torch.full((8, 1, 128, 128), 30.0)
    x[..., 0, 0], x[..., 0, 1] = 0, 60
    augment = Speckle(strength=(strength, strength), mode="add", axial_px=(0.6, 0.6), lateral_px=(0.8, 0.8))
    change = (augment(x) - x)[..., 1:, :]
    assert change.std().item() == pytest.approx(5.57 * strength, rel=0.03)
    assert abs(change.mean().item()) < 0.1
    three = augment(x.expand(-1, 3, -1, -1))
    torch.testing.assert_close(three[:, 0], three[:, 2])


def lee(image: Tensor, strength: float) -> Tensor:
    """The filter as it is written, pixel by pixel."""
    height, width = image.shape
    low, high = image.min(), image.max()
    means, variances = torch.zeros_like(image), torch.zeros_like(image)
    for i in range(height):
        for j in range(width):
            window = torch.stack(
                [
                    image[min(max(i + di, 0), height - 1), min(max(j + dj, 0), width - 1)]
                    for di in range(-3, 4)
                    for dj in range(-3, 4)
                ]
            )
            means[i, j], variances[i, j] = window.mean(), window.var(correction=0)
    sampled = sorted(v for v in variances[::4, ::4].flatten().tolist() if v > 1e-6 * float(high - low) ** 2)
    noise = sampled[(len(sampled) - 1) // 2]
    out = image.clone()
    for i in range(height):
        for j in range(width):
            k = max(0.0, 1 - noise / max(float(variances[i, j]), 1e-300))
            change = strength * (means[i, j] + k * (image[i, j] - means[i, j]) - image[i, j])
            limit = image[i, j] - low
            out[i, j] += change.clamp(-limit, limit)
    return out


def test_reduction_is_lees_filter() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(2, 1, 18, 21, generator=generator, dtype=torch.float64) * 200 - 50
    x[1, 0, :9] = -50
    y = reduce_speckle(x, torch.tensor([1.0, 0.4]))
    torch.testing.assert_close(y[0, 0], lee(x[0, 0], 1.0))
    torch.testing.assert_close(y[1, 0], lee(x[1, 0], 0.4), rtol=0, atol=1e-4)  # strength is float32


@pytest.mark.parametrize("ripple", [0.0, 1e-20, 1e-16, 1e-12, 1e-8, 1e-4])
def test_reduction_differentiates_over_places_that_are_all_but_flat(ripple: float) -> None:
    x = torch.rand(1, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    x[..., 16:] *= ripple
    x.requires_grad_()
    (gradient,) = torch.autograd.grad(reduce_speckle(x, torch.ones(1)).square().sum(), x)
    assert gradient.abs().max() < 10


def test_reduction_smooths_tissue_and_keeps_edges_and_black() -> None:
    x = 10 * field(4, 0.8, 1.2).log10() + 40
    x[..., 80:] += 25
    x[..., :64, :40] = 0
    y = reduce_speckle(x, torch.ones(4))
    inside = (slice(None), slice(None), slice(70, 120), slice(10, 70))
    assert y[inside].var() < 0.35 * x[inside].var()
    assert abs((y[inside].mean() - x[inside].mean()).item()) < 0.3
    step = y[..., 70:, 84:88].mean() - y[..., 70:, 72:76].mean()
    assert step.item() == pytest.approx(25, abs=2.5)
    assert (y[..., :64, :40] == 0).all()
    half = reduce_speckle(x, torch.full((4,), 0.5))
    assert y[inside].var() < half[inside].var() < x[inside].var()
    assert torch.equal(reduce_speckle(x, torch.zeros(4)), x)


def test_modes() -> None:
    shape = (4000, 1, 32, 32)
    for mode, share in (("add", 1.0), ("reduce", 0.0), ("both", 0.5)):
        strength = Speckle(mode=mode).forward_parameters(shape)["strength"]
        assert abs((strength > 0).float().mean().item() - share) < 0.04
        assert strength.abs().min() >= 0.1
        assert strength.abs().max() <= 0.4


def test_a_strength_the_mode_does_not_allow_changes_nothing() -> None:
    x = torch.rand(6, 1, 32, 32)
    params = Speckle().forward_parameters(x.shape)
    params["strength"] = torch.tensor([0.3, -0.3, 0.3, -0.3, -0.3, 0.0])
    added, reduced = (Speckle(mode=mode)(x, params=params) for mode in ("add", "reduce"))
    both = Speckle()(x, params=params)
    adds = params["strength"] > 0
    assert torch.equal(added[~adds], x[~adds])
    assert torch.equal(reduced[params["strength"] >= 0], x[params["strength"] >= 0])
    torch.testing.assert_close(both[adds], added[adds])
    torch.testing.assert_close(both[~adds], reduced[~adds])


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: Speckle(strength=(0.0, 1.5)), r"strength\[1\] must be"),
        (lambda: Speckle(strength=0.5), "strength must be a pair"),
        (lambda: Speckle(mode="remove"), "mode must be one of 'add', 'reduce', 'both'"),
        (lambda: Speckle(axial_px=(-1.0, 1.0)), r"axial_px\[0\] must be"),
        (lambda: Speckle(lateral_px=(2.0, 1.0)), "lateral_px must be a pair"),
        (
            lambda: speckle_intensity(seeds(2), torch.ones(3), torch.ones(2), SIZE),
            r"axial must have shape \(2,\)",
        ),
        (
            lambda: speckle_intensity(seeds(2)[:, :1], torch.ones(2), torch.ones(2), SIZE),
            r"seed must have shape \(B, 2\), got \(2, 1\)",
        ),
        (lambda: reduce_speckle(torch.ones(2, 1, 8, 8), torch.ones(3)), r"strength must have shape \(2,\)"),
    ],
)
def test_bad_arguments_raise(make: Callable[[], object], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        make()
