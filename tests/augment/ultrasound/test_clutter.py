"""Haze and reverberation: powers, depths and places by their closed forms."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from sslmed.augment import Haze, Reverberation
from sslmed.augment.functional import beams


def walled(batch: int, height: int, width: int) -> Tensor:
    """Black with a white wall at the image's border, in decibels of 60."""
    x = torch.zeros(batch, 1, height, width, dtype=torch.float64)
    x[..., [0, -1], :], x[..., [0, -1]] = 60, 60
    return x


def test_haze_has_its_level_at_the_face_and_falls_with_depth() -> None:
    augment = Haze(level_db=(-20.0, -20.0), reach=(0.25, 0.25))
    y = augment(walled(64, 96, 96))[..., 2:-2]
    power = (10 ** (y / 10) - 1).mean(dim=(0, 1, 3))
    depth = (torch.arange(96, dtype=torch.float64) + 0.5) / 96
    expected_db = 60 - 20 - 20 * torch.tensor(1.0).exp().log10() * depth / 0.25
    torch.testing.assert_close(10 * power[1:-1].log10(), expected_db[1:-1], rtol=0, atol=0.5)


def test_haze_hides_weak_echoes_and_leaves_bright_ones() -> None:
    x = walled(8, 64, 64)
    x[..., 8:16, 1:-1] = torch.tensor([5.0, 55.0], dtype=torch.float64).repeat(31)
    gain = (Haze(level_db=(-30.0, -30.0))(x) - x)[..., 8:16, 1:-1]
    assert gain[..., ::2].mean() > 5
    assert 0 < gain[..., 1::2].mean() < 0.1


def test_haze_in_a_sector_follows_depth() -> None:
    apex = (0.5, -0.3)
    y = Haze(level_db=(-10.0, -10.0), reach=(0.2, 0.2), apex=apex)(walled(48, 64, 64))
    depth, beam = beams((64, 64), apex=apex)
    centre = (beam - 0.5).abs() < 0.1
    side = (beam > 0.8) & (beam < 0.95)
    for low in (0.3, 0.5):
        ring = (depth > low) & (depth < low + 0.1)
        assert y[..., ring & centre].mean().item() == pytest.approx(y[..., ring & side].mean().item(), abs=1.0)


def test_reverberation_repeats_a_line_at_equal_distances() -> None:
    x = walled(2, 100, 20)
    x[..., 0, :] = 0.7  # hardly an echo of its own
    x[..., 10, 1:-1] = 60
    augment = Reverberation(copies=3)
    params = {"spacing": torch.tensor([0.2, 0.15]), "loss_db": torch.tensor([10.0, 14.0])}
    y = augment(x, params=params)
    for b, (rows, loss) in enumerate(((20, 10.0), (15, 14.0))):
        lines = y[b, 0, :, 10]
        for k in (1, 2, 3):
            assert lines[10 + k * rows].item() == pytest.approx(60 - k * loss, abs=0.2)
        assert lines[12 + rows : 9 + 2 * rows].max() < 0.1
        assert (y[b, 0, :11, 10] == x[b, 0, :11, 10]).all()


def test_reverberation_along_the_beams_of_a_sector() -> None:
    apex, size = (0.5, -0.4), (160, 160)
    depth, beam = beams(size, apex=apex)
    x = walled(1, *size)
    x[..., 0, :] = 0.7
    middle = (beam > 0.25) & (beam < 0.75)
    x[..., (depth - 0.2).abs() < 0.02] = 60
    y = Reverberation(spacing=(0.25, 0.25), loss_db=(12.0, 12.0), copies=2, apex=apex)(x)[0, 0]
    for k, level in ((1, 48.0), (2, 36.0)):
        ring = ((depth - 0.2 - 0.25 * k).abs() < 0.005) & middle
        torch.testing.assert_close(y[ring], torch.full_like(y[ring], level), rtol=0, atol=0.5)
    between = ((depth - 0.325).abs() < 0.05) & middle
    assert y[between].max() < 20


def test_every_echo_is_repeated_in_power() -> None:
    torch.manual_seed(0)
    x = 60 * torch.rand(1, 1, 12, 5, dtype=torch.float64)
    x[..., [0, -1], :], x[..., [0, -1]] = 60, 60
    x[..., 5, 2] = 0
    y = Reverberation(spacing=(0.25, 0.25), loss_db=(6.0, 6.0), copies=2)(x)
    for i in range(12):
        for j in range(5):
            power = 10 ** (x[0, 0, i, j] / 10)
            for k in (1, 2):
                if i - 3 * k >= 0:
                    power = power + (10 ** (x[0, 0, i - 3 * k, j] / 10) - 1) * 10 ** (-0.6 * k)
            assert y[0, 0, i, j].item() == pytest.approx(10 * power.log10().item(), abs=1e-5)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: Haze(level_db=(0.0, -10.0)), "level_db must be a pair"),
        (lambda: Haze(level_db=(0.0, 300.0)), r"level_db\[1\] must be"),
        (lambda: Haze(reach=(0.0, 1.0)), r"reach\[0\] must be"),
        (lambda: Haze(dynamic_range_db=0.0), "dynamic_range_db must be"),
        (lambda: Haze(apex=(0.5, 2.0)), r"apex\[1\] must be"),
        (lambda: Reverberation(spacing=(0.0, 0.5)), r"spacing\[0\] must be"),
        (lambda: Reverberation(loss_db=(-1.0, 0.5)), r"loss_db\[0\] must be"),
        (lambda: Reverberation(copies=0), "copies must be at least 1"),
    ],
)
def test_bad_arguments_raise(make: Callable[[], object], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        make()
