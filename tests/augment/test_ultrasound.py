"""Decibels in log-compressed gray, beams, shadows and attenuation: closed forms, and one law of scaling for all."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sslmed.augment import AcousticShadow, DepthAttenuation, Haze, Reverberation, Speckle
from sslmed.augment._base import Intensity
from sslmed.augment.functional import (
    acoustic_shadow,
    add_power,
    apply_gain,
    beams,
    echo_power,
    shadow_profile,
)
from sslmed.augment.ultrasound._beams import path_length

CLASSES: list[Callable[[], Intensity]] = [
    lambda: Speckle(mode="add"),
    lambda: Speckle(mode="reduce"),
    Speckle,
    AcousticShadow,
    lambda: AcousticShadow(apex=(0.4, -0.2)),
    DepthAttenuation,
    lambda: DepthAttenuation(apex=(0.5, 0.1)),
    Haze,
    lambda: Haze(apex=(0.5, -0.2)),
    Reverberation,
    lambda: Reverberation(apex=(0.5, -0.2)),
]
every = pytest.mark.parametrize("make", CLASSES)


def fan(batch: int = 4, channels: int = 1) -> Tensor:
    """A sector of texture in exact black, in float64, with a black cyst in it."""
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(batch, channels, 48, 64, generator=generator, dtype=torch.float64) * 0.9 + 0.1
    depth, beam = beams((48, 64), apex=(0.5, -0.2))
    inside = (depth > 0.05) & (depth < 0.9) & (beam > 0.2) & (beam < 0.8)
    cyst = torch.zeros(48, 64, dtype=torch.bool)
    cyst[20:26, 28:36] = True
    image[..., ~inside | cyst] = 0
    return image


@every
@pytest.mark.parametrize(("a", "b"), [(65535.0, 0.0), (4.1, -1.7), (1e-3, 1e3)])
def test_values_of_any_scale_get_the_same(make: Callable[[], Intensity], a: float, b: float) -> None:
    augment, x = make(), fan()
    params = augment.forward_parameters(x.shape)
    y = augment(x, params=params)
    assert not torch.equal(x, y)
    torch.testing.assert_close(augment(a * x + b, params=params), a * y + b, rtol=0, atol=a * 1e-9)


@every
def test_channels_scaled_apart_stay_copies(make: Callable[[], Intensity]) -> None:
    augment, x = make(), fan()
    params = augment.forward_parameters(x.shape)
    y = augment(torch.cat([x, (x - 0.4) / 0.2, 255 * x], dim=1), params=params)
    alone = augment(x, params=params)
    torch.testing.assert_close(y[:, :1], alone)
    torch.testing.assert_close(y[:, 1:2] * 0.2 + 0.4, alone)
    torch.testing.assert_close(y[:, 2:] / 255, alone)


@every
def test_black_around_a_sector_stays_black(make: Callable[[], Intensity]) -> None:
    x = fan()
    surround = (x == 0).all(dim=0, keepdim=True).expand_as(x).clone()
    surround[..., 20:26, 28:36] = False
    for value in (0.0, -3.0):
        y = make()(x + value)
        assert (y[surround] == value).all()
        assert (y >= value - 1e-12).all()


@every
def test_a_constant_image_stays_as_it_is(make: Callable[[], Intensity]) -> None:
    x = torch.full((2, 1, 32, 32), 3.5).requires_grad_()
    y = make()(x)
    assert torch.equal(y, x)
    y.sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()


@given(st.floats(-80, 80), st.floats(20, 120), st.floats(-1e3, 1e3), st.floats(1e-2, 1e4))
@settings(max_examples=40, deadline=None)
def test_gain_is_exact_between_its_limits(gain: float, dynamic: float, black: float, extent: float) -> None:
    x = torch.linspace(0, 1, 101, dtype=torch.float64).view(1, 1, 1, -1)
    gain_db = torch.full((1, 1, 1, 1), gain, dtype=torch.float64)
    y = (apply_gain(x * extent + black, gain_db, dynamic_range_db=dynamic) - black) / extent
    share = gain / dynamic
    expected = (x + share).clamp(min=0) if gain < 0 else torch.minimum(x + share, 2 * x)
    torch.testing.assert_close(y, expected, rtol=0, atol=1e-6)
    assert y[0, 0, 0, 0] == 0
    assert (y.diff() >= -1e-12).all()


def test_no_gain_changes_no_bit() -> None:
    x = torch.randn(3, 2, 8, 9)
    assert torch.equal(apply_gain(x, torch.zeros(1, 1, 1, 1)), x)
    assert torch.equal(add_power(x, torch.zeros(1, 1, 1, 1)), x)
    assert apply_gain(x, torch.full((1, 1, 1, 1), -1e4)).amax() == x.amin(dim=(2, 3)).amax()


def test_gain_and_power_differentiate() -> None:
    # Black and white are constants to gradients: they lie in a border that is not differentiated.
    border = torch.tensor([0.0, 60.0], dtype=torch.float64).repeat(4, 1).view(1, 1, 4, 2)
    middle = torch.linspace(7, 50, 8, dtype=torch.float64).view(1, 1, 4, 2).requires_grad_()
    field = torch.rand(1, 1, 4, 6, dtype=torch.float64)

    def framed(value: Tensor) -> Tensor:
        return torch.cat([border.flip(3), value, border], dim=3)

    assert torch.autograd.gradcheck(lambda value: apply_gain(framed(value), -6 * field), middle)
    assert torch.autograd.gradcheck(lambda value: apply_gain(framed(value), 6 * field), middle)
    assert torch.autograd.gradcheck(lambda value: add_power(framed(value), 1e4 * field), middle)
    assert torch.autograd.gradcheck(lambda value: echo_power(framed(value)), middle)


def test_powers_add() -> None:
    level = torch.linspace(0, 60, 36, dtype=torch.float64).view(1, 1, 6, 6)[..., torch.randperm(6), :]
    field = torch.full_like(level, 60)  # bright to the border, so that all is inside
    field[..., 1:-1, 1:-1] = level[..., 1:-1, 1:-1]
    field[..., 2, 2] = 0
    y = add_power(field, torch.full((1, 1, 1, 1), 50.0, dtype=torch.float64))
    torch.testing.assert_close(y, 10 * (10 ** (field / 10) + 50).log10())
    power = echo_power(field)
    torch.testing.assert_close(power, 10 ** (field / 10) - 1)
    doubled = add_power(field, power)
    torch.testing.assert_close(
        doubled.amax(), torch.tensor(60 + 10 * math.log10(2), dtype=torch.float64), atol=1e-4, rtol=0
    )


def test_beams_of_a_linear_array() -> None:
    depth, beam = beams((10, 4))
    torch.testing.assert_close(depth.flatten(), (torch.arange(10) + 0.5) / 10)
    torch.testing.assert_close(beam.flatten(), torch.tensor([0.125, 0.375, 0.625, 0.875]))


@pytest.mark.parametrize("apex", [(0.5, -0.25), (0.5, 0.25), (0.2, 0.0)])
def test_beams_of_a_sector(apex: tuple[float, float]) -> None:
    height, width = 40, 60
    depth, beam = beams((height, width), apex=apex)
    x0, y0 = apex[0] * width, apex[1] * height
    for row, column in ((5, 7), (20, 30), (39, 0), (39, 59)):
        x, y = column + 0.5 - x0, row + 0.5 - y0
        face = max(-y0, 0)
        assert depth[row, column].item() == pytest.approx((math.hypot(x, y) - face) / (height - y0 - face), abs=1e-5)
        left, right = math.atan2(-x0, height - y0), math.atan2(width - x0, height - y0)
        assert beam[row, column].item() == pytest.approx((math.atan2(x, y) - left) / (right - left), abs=1e-5)
    # Straight below the apex, depth runs from 0 at the upper border (or the apex, inside) to 1 at the lower.
    column = int(x0)
    assert depth[-1, column].item() == pytest.approx(1, abs=0.02)
    if apex[1] <= 0:
        assert depth[0, column].item() == pytest.approx(0.5 / height, abs=0.02)


def test_path_through_a_ring_about_the_apex_is_its_thickness() -> None:
    apex = (0.5, -0.25)
    depth, beam = beams((80, 100), apex=apex)
    mask = ((depth > 0.3) & (depth < 0.5)).float()[None, None]
    path = path_length(mask, apex=apex)[0, 0]
    middle = (beam > 0.1) & (beam < 0.9)
    assert (path[depth < 0.27] < 0.01).all()
    torch.testing.assert_close(
        path[middle & (depth > 0.55)],
        torch.tensor(16.0).expand_as(path[middle & (depth > 0.55)]),
        rtol=0,
        atol=1,
    )


@pytest.mark.parametrize("apex", [(0.0, 0.0), (-0.1, 0.0), (-0.5, -0.2), (1.5, 0.3), (-3.0, 0.0), (4.0, -0.5)])
def test_path_from_an_apex_at_the_side_by_steps_along_the_beams(apex: tuple[float, float]) -> None:
    size, steps = (40, 60), 500
    mask = torch.zeros(size)
    mask[16:30, 15:40] = 1
    rows, columns = ((torch.arange(n) + 0.5 - a * n) for n, a in zip(size, apex[::-1], strict=True))
    rows, columns = rows[:, None].expand(size), columns.expand(size)
    radius = torch.hypot(rows, columns)
    expected = torch.zeros(size)
    for share in (torch.arange(steps) + 0.5) / steps:
        i, j = (rows * share + apex[1] * 40).floor().long(), (columns * share + apex[0] * 60).floor().long()
        inside = (i >= 0) & (i < 40) & (j >= 0) & (j < 60) & (radius * share >= max(-apex[1], 0) * 40)
        expected += torch.where(inside, mask[i.clamp(0, 39), j.clamp(0, 59)], 0) * radius / steps
    below = rows > 0
    path = path_length(mask[None, None], apex=apex)[0, 0]
    assert path.isfinite().all()
    assert (path - expected)[below].abs().mean() < 0.15
    assert ((path - expected)[below].abs() < 1.2).float().mean() > 0.98  # but for rays along the mask's sides


def test_power_sets_in_from_the_border_of_a_strip() -> None:
    x = torch.rand(1, 1, 1, 1000) + 1
    x[..., 0] = 0
    full = torch.full((1, 1, 1, 1), 1e3)
    lifted = add_power(x, full) - x
    expected = 10 / 60 * torch.log1p(1e3 * (-(x / x.max()) * 6 * math.log(10)).exp()) / math.log(10) * x.max()
    torch.testing.assert_close(lifted[..., 100:], expected[..., 100:], rtol=1e-3, atol=1e-5)


def test_a_shadow_is_exact_behind_and_absent_in_front_and_beside() -> None:
    size = (100, 200)
    x = torch.linspace(0, 60, 20000, dtype=torch.float64).view(1, 1, *size)  # in decibels
    augment = AcousticShadow()
    params = {
        "beam": torch.tensor([0.5]),
        "depth": torch.tensor([0.4]),
        "width": torch.tensor([0.2]),
        "strength_db": torch.tensor([7.0]),
    }
    lost = x - augment(x, params=params)
    assert (lost[..., :40, :] == 0).all()
    assert (lost[..., :80] == 0).all()
    assert (lost[..., 120:] == 0).all()
    torch.testing.assert_close(lost[0, 0, 50:, 99], torch.full((50,), 7.0, dtype=torch.float64), rtol=0, atol=1e-3)
    assert (lost[0, 0, 41:50, 99].diff() > 0).all()  # over a tenth of the depth
    assert (lost[0, 0, 60, 81:98].diff() > -1e-6).all()


def test_a_sectors_shadow_is_a_wedge_along_its_beams() -> None:
    size, apex = (100, 140), (0.5, -0.2)
    beam, start, width = torch.tensor([0.7]), torch.tensor([0.3]), torch.tensor([0.2])
    profile = shadow_profile(size, beam, start, width, apex=apex)[0, 0]
    depth, across = beams(size, apex=apex)
    assert (profile[depth <= 0.3] == 0).all()
    assert (profile[(across - 0.7).abs() >= 0.1] == 0).all()
    assert (profile[(depth > 0.41) & ((across - 0.7).abs() < 0.01)] == 1).all()
    covered = (profile > 0.5).sum(dim=1)
    assert covered[95] > covered[60] > 0
    middle = [(profile[row] * torch.arange(140)).sum() / profile[row].sum() for row in (60, 95)]
    assert middle[1] > middle[0] + 3  # it leans outwards


def test_the_shadow_behind_a_mask_follows_the_way_through_it() -> None:
    torch.manual_seed(0)
    x = 40 + 20 * torch.rand(2, 1, 30, 20, dtype=torch.float64)
    x[..., 0, 0], x[..., 0, 1] = 0, 60
    mask = torch.rand(2, 1, 30, 20) < 0.2
    y = acoustic_shadow(x, mask, torch.tensor([10.0, 5.0]))
    for b, strength in enumerate((10.0, 5.0)):
        longest = max(int(mask[b, 0, :, j].sum()) for j in range(20))
        for i, j in ((3, 4), (29, 7), (15, 19)):
            lost = strength * int(mask[b, 0, : i + 1, j].sum()) / longest
            assert (x - y)[b, 0, i, j].item() == pytest.approx(lost, abs=1e-5)
    assert torch.equal(acoustic_shadow(x, torch.zeros_like(mask), torch.ones(2)), x)


def test_the_shadow_behind_a_mask_in_a_sector() -> None:
    size, apex = (80, 100), (0.5, -0.25)
    depth, beam = beams(size, apex=apex)
    x = torch.full((1, 1, *size), 50.0)
    x[..., 0, 0], x[..., 0, 1] = 0, 60
    mask = ((depth > 0.3) & (depth < 0.5) & (beam > 0.6) & (beam < 0.8))[None, None]
    lost = (x - acoustic_shadow(x, mask, torch.tensor([12.0]), apex=apex))[0, 0]
    assert lost[(depth > 0.55) & (beam > 0.65) & (beam < 0.75)].min() > 11
    assert lost[(depth < 0.27) | (beam < 0.57) | (beam > 0.83)].abs().max() < 0.01


def test_attenuation_is_twice_slope_times_frequency_times_depth() -> None:
    x = torch.full((3, 1, 50, 4), 40.0, dtype=torch.float64)
    x[..., 0], x[..., 3] = 0, 60
    augment = DepthAttenuation(frequency_mhz=5.0, depth_cm=8.0)
    error = torch.tensor([0.1, -0.1, 0.0])
    y = augment(x, params={"error_db_per_cm_mhz": error})
    depth_cm = (torch.arange(50, dtype=torch.float64) + 0.5) / 50 * 8
    for row, e in enumerate((0.1, -0.1, 0.0)):
        torch.testing.assert_close(y[row, 0, :, 1], 40 - 2 * e * 5 * depth_cm, rtol=0, atol=1e-5)
    assert (y[..., 0] == 0).all()
    assert y[1].amax() > 60  # brighter than white, not clamped
    assert torch.equal(y[2], x[2])


def test_attenuation_in_a_sector_depends_on_depth_alone() -> None:
    apex = (0.5, 0.1)
    x = torch.full((1, 1, 60, 80), 40.0)
    x[..., 0, 0], x[..., 0, 1] = 0, 60
    augment = DepthAttenuation(error_db_per_cm_mhz=(0.1, 0.1), frequency_mhz=4.0, depth_cm=10.0, apex=apex)
    depth, _ = beams((60, 80), apex=apex)
    lost = (x - augment(x))[0, 0, 1:]
    torch.testing.assert_close(lost, 8 * depth[1:], rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: AcousticShadow(strength_db=(5.0, 1.0)), "strength_db must be a pair"),
        (lambda: AcousticShadow(width=(0.0, 1.0)), r"width\[0\] must be"),
        (lambda: AcousticShadow(depth=(0.0, 1.5)), r"depth\[1\] must be"),
        (lambda: AcousticShadow(apex=(0.5, 1.0)), r"apex\[1\] must be"),
        (lambda: DepthAttenuation(apex=0.5), "apex must be None or a pair"),
        (lambda: DepthAttenuation(frequency_mhz=0.0), "frequency_mhz must be"),
        (lambda: DepthAttenuation(dynamic_range_db=300.0), "dynamic_range_db must be"),
        (lambda: beams((3, 4, 5)), "size must be"),
        (
            lambda: apply_gain(torch.ones(2, 1, 4, 4), torch.ones(3, 1, 4, 4)),
            r"gain_db must have shape \(2, 1",
        ),
        (
            lambda: apply_gain(torch.ones(2, 3, 4, 4), torch.ones(2, 3, 4, 4)),
            r"gain_db must have shape \(2, 1",
        ),
        (
            lambda: add_power(torch.ones(2, 3, 4, 4), torch.ones(2, 2, 4, 4)),
            r"power must have shape \(2, 1 or 3",
        ),
        (lambda: echo_power(torch.ones(4, 4)), "x must have shape"),
        (
            lambda: shadow_profile((4, 4), torch.ones(2), torch.ones(3), torch.ones(2)),
            "beam and depth must have",
        ),
        *(
            (
                lambda apex=apex: acoustic_shadow(
                    torch.ones(1, 1, 4, 4), torch.ones(1, 1, 4, 4, dtype=torch.bool), torch.ones(1), apex=apex
                ),
                match,
            )
            for apex, match in (((0.5,), "apex must be None or a pair"), ((0.5, 1.5), r"apex\[1\] must be"))
        ),
        (
            lambda: acoustic_shadow(torch.ones(1, 1, 4, 4), torch.ones(1, 1, 4, 5, dtype=torch.bool), torch.ones(1)),
            "mask must have shape",
        ),
        (
            lambda: acoustic_shadow(torch.ones(1, 1, 4, 4), torch.ones(1, 1, 4, 4, dtype=torch.bool), torch.ones(2)),
            "strength_db must have shape",
        ),
    ],
)
def test_bad_arguments_raise(make: Callable[[], object], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        make()


def test_bad_types_raise() -> None:
    with pytest.raises(TypeError, match="mask must be a bool tensor"):
        acoustic_shadow(torch.ones(1, 1, 4, 4), torch.ones(1, 1, 4, 4), torch.ones(1))
    with pytest.raises(TypeError, match="gain_db must be a floating point"):
        apply_gain(torch.ones(1, 1, 4, 4), torch.ones(1, 1, 4, 4, dtype=torch.int32))
    with pytest.raises(TypeError, match="depth_cm must be a number"):
        DepthAttenuation(depth_cm="4")  # type: ignore[arg-type]
