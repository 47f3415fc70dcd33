"""The physics behind the phantom against what is known in closed form."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sslmed.data.phantoms._bmode import SPEED_MM_PER_US, Scanner, b_mode_db, display

STEPS = 256


def homogeneous(scanner: Scanner, *, echo_db: float = 0.0, attenuation: float | None = None) -> np.ndarray:
    echo = np.full((STEPS, STEPS), echo_db, dtype=np.float32)
    through = scanner.tgc_db_per_cm_mhz if attenuation is None else attenuation
    return b_mode_db(echo, echo * 0, echo * 0 + np.float32(through), scanner, np.random.default_rng(0))


def test_developed_speckle_is_rayleigh() -> None:
    power = 10 ** (homogeneous(Scanner(noise_db=-200)) / 10)
    envelope = np.sqrt(power)
    assert power.mean() == pytest.approx(1, rel=0.05)
    assert envelope.mean() / envelope.std() == pytest.approx(math.sqrt(math.pi / (4 - math.pi)), rel=0.05)  # 1.91


def test_backscatter_is_in_decibels() -> None:
    scanner = Scanner(noise_db=-200)
    difference = homogeneous(scanner, echo_db=-12.0) - homogeneous(scanner)
    np.testing.assert_allclose(difference, -12, atol=2e-3)


def test_attenuation_above_the_gain_darkens_with_depth() -> None:
    scanner = Scanner(noise_db=-200)
    lost = homogeneous(scanner, attenuation=scanner.tgc_db_per_cm_mhz + 0.3) - homogeneous(scanner)
    expected_db_per_cm = -2 * scanner.frequency_mhz * 0.3
    slope = (lost[200].mean() - lost[40].mean()) / (160 * scanner.depth_mm / STEPS / 10)
    assert slope == pytest.approx(expected_db_per_cm, rel=0.02)


def test_noise_fills_what_scatters_nothing() -> None:
    scanner = Scanner(noise_db=-40.0)
    image = homogeneous(scanner, echo_db=-200.0)
    depth_cm = scanner.depth_mm / 10 * np.arange(1, STEPS + 1) / STEPS
    tgc_db = 2 * scanner.frequency_mhz * scanner.tgc_db_per_cm_mhz * depth_cm
    mean_db = 10 * np.log10((10 ** (image / 10)).mean(axis=1))
    np.testing.assert_allclose(mean_db[20:-20], (tgc_db - 40)[20:-20], atol=2.5)


def width_mm(profile: np.ndarray, step_mm: float) -> float:
    """Full width at half maximum of a peak, interpolated."""
    half, top = profile.max() / 2, int(profile.argmax())
    left = next(i for i in range(top, 0, -1) if profile[i - 1] < half)
    right = next(i for i in range(top, len(profile) - 1) if profile[i + 1] < half)
    left_at = left - (profile[left] - half) / (profile[left] - profile[left - 1])
    right_at = right + (profile[right] - half) / (profile[right] - profile[right + 1])
    return (right_at - left_at) * step_mm


@pytest.mark.parametrize("depth_mm", [16.6, 30.9])
def test_a_point_shows_the_pulse_and_the_beam(depth_mm: float) -> None:
    scanner = Scanner(noise_db=-200, tgc_db_per_cm_mhz=0.0)
    step_mm = scanner.depth_mm / STEPS
    nothing = np.zeros((STEPS, STEPS), dtype=np.float32)
    point = nothing.copy()
    row = int(depth_mm / step_mm)
    point[row, 128] = 1000
    envelope = 10 ** (b_mode_db(nothing - 200, point, nothing, scanner, np.random.default_rng(0)) / 20)
    wavelength_mm = SPEED_MM_PER_US / scanner.frequency_mhz
    # The grid's own width adds to both.
    grid = (2.355 * step_mm) ** 2 / 12
    assert width_mm(envelope[:, 128], step_mm) == pytest.approx(
        math.sqrt((scanner.cycles * wavelength_mm / 2) ** 2 + grid), rel=0.05
    )
    zone_mm = scanner.depth_mm / scanner.zones
    centre_mm = (depth_mm // zone_mm + 0.5) * zone_mm
    beam_mm = scanner.f_number * wavelength_mm * math.hypot(1, (centre_mm - scanner.focus_mm) / scanner.focal_range_mm)
    assert width_mm(envelope[row], step_mm) == pytest.approx(math.sqrt(beam_mm**2 + grid), rel=0.05)


def test_an_attenuating_lesion_casts_a_shadow_and_a_cyst_an_enhancement() -> None:
    scanner = Scanner(noise_db=-200)
    tissue = np.full((STEPS, STEPS), scanner.tgc_db_per_cm_mhz, dtype=np.float32)
    zeros = tissue * 0
    plain = b_mode_db(zeros, zeros, tissue, scanner, np.random.default_rng(0))
    thickness_cm = 60 * scanner.depth_mm / STEPS / 10
    for extra in (1.0, -0.5):
        lesion = tissue.copy()
        lesion[80:140, 80:176] += np.float32(extra)
        behind = (b_mode_db(zeros, zeros, lesion, scanner, np.random.default_rng(0)) - plain)[160:240]
        assert behind[:, 110:146].mean() == pytest.approx(-2 * scanner.frequency_mhz * extra * thickness_cm, rel=0.02)
        np.testing.assert_allclose(behind[:, :40], 0, atol=1e-2)


def test_display_maps_the_dynamic_range_to_gray() -> None:
    scanner = Scanner()
    for level_db, gray in ((-30.0, 0.0), (-15.0, 0.25), (0.0, 0.5), (30.0, 1.0), (90.0, 1.0)):
        shown = display(np.full((64, 64), level_db, dtype=np.float32), 32, scanner, dynamic_range_db=60, middle_db=0)
        assert shown.shape == (32, 32)
        assert shown.dtype == np.float32
        np.testing.assert_allclose(shown, gray, atol=1e-6)
