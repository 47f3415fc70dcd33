"""Noise from seeds: as uniform, independent and normal as a generator's, and a function of seed and place."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sslmed.augment._fields import normal_at, normal_field, seed_from, uniform_field

CPU = torch.device("cpu")
SIZE = (2, 96, 128)


@pytest.fixture
def seed() -> Tensor:
    return seed_from(torch.rand(24, 2, generator=torch.Generator().manual_seed(0)))


def score(products: Tensor) -> float:
    """A mean of independent numbers of mean 0 and variance 1, in its standard deviations."""
    return abs(products.mean().item()) * products.numel() ** 0.5


def standard(seed: Tensor) -> Tensor:
    return (uniform_field(seed, SIZE, CPU).double() - 0.5) * 12**0.5


def test_seeds_keep_all_bits_of_the_uniforms() -> None:
    u = torch.tensor([[0.0, 2**-24], [0.5, 1 - 2**-24]])
    assert seed_from(u).tolist() == [[0, 1], [2**23, 2**24 - 1]]


def test_uniform_by_the_chi_square_test(seed: Tensor) -> None:
    field = uniform_field(seed, SIZE, CPU)
    assert (field.dtype, field.shape) == (torch.float32, (24, *SIZE))
    assert field.min() >= 0
    assert field.max() < 1
    assert torch.equal(field * 2**24, (field * 2**24).round())
    for bits in (field, field * 2**12 % 1):  # the upper half of the bits and the lower one
        expected = field.numel() / 256
        chi = ((torch.histc(bits, 256, 0, 1) - expected) ** 2 / expected).sum().item()
        assert abs(chi - 255) < 5 * (2 * 255) ** 0.5


@pytest.mark.parametrize("shift", [(0, 1), (1, 0), (1, 1), (0, 2), (2, 0), (7, 3), (32, 0), (0, 64)])
def test_places_are_uncorrelated(seed: Tensor, shift: tuple[int, int]) -> None:
    z, (dy, dx) = standard(seed), shift
    height, width = z.shape[2] - dy, z.shape[3] - dx
    assert score(z[..., dy:, dx:] * z[..., :height, :width]) < 4.5


def test_corners_of_rectangles_are_uncorrelated(seed: Tensor) -> None:
    # Rows and columns are combined by exclusive or, which cancels around a rectangle unless mixed well after.
    z = standard(seed)
    upper, lower = z[..., :48, :], z[..., 48:, :]
    assert score(upper[..., :64] * upper[..., 64:] * lower[..., :64] * lower[..., 64:]) < 4.5


def test_samples_planes_and_neighbouring_seeds_are_uncorrelated(seed: Tensor) -> None:
    near = torch.stack([torch.arange(24), torch.zeros(24)], dim=1).int()
    for seeds in (seed, near, near.flip(1)):
        z = standard(seeds).flatten(0, 1).flatten(1)
        correlation = z @ z.T / z.shape[1] ** 0.5
        assert (correlation - correlation.diagonal().diag()).abs().max() < 5.5


def test_spectrum_is_white(seed: Tensor) -> None:
    power = torch.fft.fft2(standard(seed)).abs().square() / (SIZE[1] * SIZE[2])
    assert abs(power.mean().item() - 1) < 0.01
    assert power.max() < 25  # of 590 000 exponential numbers; a line of the mixing would stand out


def test_normal_by_its_moments(seed: Tensor) -> None:
    z = normal_field(seed, (2, 96, 127), CPU).double()
    assert z.shape == (24, 2, 96, 127)
    assert z.isfinite().all()
    n = z.numel()
    for power, moment, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert abs((z**power).mean().item() - moment) < 4.5 * (variance / n) ** 0.5
    inside = (z.abs() < 1).double().mean().item()
    assert abs(inside - 0.682689) < 4.5 * (0.2166 / n) ** 0.5
    assert score(z[..., :63] * z[..., 64:]) < 4.5  # the two halves of Box and Muller's pairs


def test_a_number_depends_on_seed_and_place_alone(seed: Tensor) -> None:
    whole = uniform_field(seed, (3, 40, 50), CPU)
    assert torch.equal(uniform_field(seed[5:7], (3, 40, 50), CPU), whole[5:7])
    assert torch.equal(uniform_field(seed, (1, 17, 31), CPU), whole[:, :1, :17, :31])
    part, whole = normal_field(seed[5:7], (3, 40, 50), CPU), normal_field(seed, (3, 40, 50), CPU)
    torch.testing.assert_close(part, whole[5:7], rtol=0, atol=1e-6)


@pytest.mark.parametrize("width", [30, 31])
def test_single_places_hold_the_fields_numbers(seed: Tensor, width: int) -> None:
    field = normal_field(seed[:5], (2, 7, width), CPU).flatten()
    place = torch.randperm(len(field), generator=torch.Generator().manual_seed(0))[:300]
    torch.testing.assert_close(normal_at(seed[:5], (2, 7, width), place), field[place], rtol=0, atol=1e-6)


def test_devices_agree(seed: Tensor, device: torch.device) -> None:
    assert torch.equal(uniform_field(seed, SIZE, device).cpu(), uniform_field(seed, SIZE, CPU))
    torch.testing.assert_close(normal_field(seed, SIZE, device).cpu(), normal_field(seed, SIZE, CPU))


@pytest.mark.parametrize("make", [uniform_field, normal_field])
def test_compiled_graphs_give_the_same(make: object, seed: Tensor) -> None:
    compiled = torch.compile(make, fullgraph=True, backend="aot_eager")
    shape = (1, 33, 47)
    torch.testing.assert_close(compiled(seed, shape, CPU), make(seed, shape, CPU), rtol=0, atol=1e-6)  # type: ignore[operator]


@pytest.mark.parametrize("dtype", [torch.int64, torch.float32])
def test_seeds_of_other_numbers_give_no_other_field(seed: Tensor, dtype: torch.dtype) -> None:
    for make in (
        lambda: uniform_field(seed.to(dtype), SIZE, CPU),
        lambda: normal_field(seed.to(dtype), SIZE, CPU),
        lambda: normal_at(seed.to(dtype), SIZE, torch.arange(3)),
    ):
        with pytest.raises(TypeError, match=f"seed must hold int32, got {dtype}"):
            make()


@pytest.mark.parametrize("make", [uniform_field, normal_field])
def test_no_sample_gives_no_field(make: object, seed: Tensor) -> None:
    assert make(seed[:0], (3, 5, 7), CPU).shape == (0, 3, 5, 7)  # type: ignore[operator]
