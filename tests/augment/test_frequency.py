"""Band-stop masks against the slow loop, the published counts, and the laws of a projection."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import reference
from sslmed.augment import FrequencyBandStop, frequency
from sslmed.augment import _spectrum as spectrum
from sslmed.augment.functional import apply_spectral_mask, band_stop_mask

SIZES = [(16, 16), (15, 15), (16, 13), (13, 16), (24, 16), (16, 24), (1, 9), (9, 1), (2, 2)]


def full(keep: torch.Tensor, width: int) -> torch.Tensor:
    """Expand a half-spectrum mask (H, W // 2 + 1) to (H, W) by (u, v) -> (-u, -v)."""
    height = keep.shape[0]
    rows = (-torch.arange(height)) % height
    columns = torch.arange(width // 2 + 1, width)
    return torch.cat([keep, keep[rows][:, width - columns]], dim=1)


def mask_of(size: tuple[int, int], *lengths: float, cross_from: float = 20) -> torch.Tensor:
    """One mask from inner, outer, cross."""
    return band_stop_mask(size, *(torch.tensor([value]) for value in lengths), cross_from=cross_from)


@pytest.mark.parametrize(
    ("lengths", "ring", "cross"),
    [
        ((20, 30, 2), 1576, 1085),
        ((15, 40, 5), 4328, 1661),
        ((12, 50, 8), 7408, 2721),
        ((10, 100, 10), 31112, 1753),
        ((10, 10, 0), 12, 0),
    ],
)
def test_published_counts_on_224(lengths: tuple[int, int, int], ring: int, cross: int) -> None:
    for kind in (int, float):  # looked up, and compared
        inner, outer, thickness = map(kind, lengths)
        only_ring = ~full(mask_of((224, 224), inner, outer, kind(0))[0, 0], 224)
        both = ~full(mask_of((224, 224), inner, outer, thickness)[0, 0], 224)
        assert int(only_ring.sum()) == ring
        assert int(both.sum()) - ring == cross


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("lengths", [(2, 4, 3), (0, 3, 1), (3, 3, 0), (2, 5, 2), (1, 30, 4), (4, 4, 31), (2, 3, 40)])
def test_mask_equals_the_loop(size: tuple[int, int], lengths: tuple[int, int, int]) -> None:
    if lengths[0] ** 2 > (size[0] // 2) ** 2 + (size[1] // 2) ** 2:
        pytest.skip("ring beyond this spectrum")
    expected = ~reference.stopped_bins(size, *lengths, cross_from=2)
    for kind in (int, float):
        keep = mask_of(size, *map(kind, lengths), cross_from=2)
        assert keep.shape == (1, 1, size[0], size[1] // 2 + 1)
        assert torch.equal(full(keep[0, 0], size[1]), expected)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 20),
    st.integers(1, 20),
    st.tuples(st.floats(0, 12), st.floats(0, 12)),
    st.floats(0, 12),
    st.floats(0, 12),
)
def test_real_lengths_equal_the_loop(
    height: int, width: int, radii: tuple[float, float], cross: float, cross_from: float
) -> None:
    inner, outer = sorted(radii)
    lengths = (torch.tensor([value], dtype=torch.float64) for value in (inner, outer, cross))
    keep = band_stop_mask((height, width), *lengths, cross_from=cross_from)
    # squaring rounds: radii within a few ulp of a bin may fall on either side
    r = [math.hypot(u, v) for u in range(height // 2 + 1) for v in range(width // 2 + 1)]
    if all(abs(a - b) > 1e-9 or a == b == int(b) for a in r for b in (inner, outer)):
        expected = ~reference.stopped_bins((height, width), inner, outer, cross, cross_from)
        assert torch.equal(full(keep[0, 0], width), expected)


@pytest.mark.parametrize("size", [(254, 254), (256, 256), (90, 400), (1, 7), (97, 64)])
@pytest.mark.parametrize("compiling", [False, True])
def test_bits_equal_plain_comparisons_at_every_extreme(
    size: tuple[int, int], compiling: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """254 is the largest square whose planes fit in 16 bits; 90 x 400 has a long common unit."""
    lengths = torch.cartesian_prod(*[torch.tensor([0, 1, 8.5, 45, 179.6, 181.02, 1e3, 1e9])] * 3).double()
    inner, outer, cross = lengths[lengths[:, 0] <= lengths[:, 1]].T
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: compiling)
    bounds = spectrum.limits(size, inner, outer, cross, 5)
    r2, arm = (plane.long() for plane in spectrum._planes(*size, bounds.device))
    lowest, highest, reach = bounds.long()[:, :, None, None]
    expected = (r2 < lowest) | ((r2 > highest) & (arm > reach))
    stays = spectrum.bits(size, bounds)
    assert torch.equal(stays, -expected.to(stays.dtype).unsqueeze(1))


def test_stored_planes_are_few() -> None:
    lengths = torch.tensor([2]), torch.tensor([3]), torch.tensor([3])
    for side in range(8, 20):
        band_stop_mask((side, side), *lengths)
    assert spectrum._laid_out_planes.cache_info().currsize <= 4


@pytest.mark.parametrize("size", [(224, 224), (30, 44), (31, 45)])
def test_mask_is_symmetric_so_the_image_is_real(size: tuple[int, int]) -> None:
    keep = mask_of(size, 10, 14, 3, cross_from=5)[0, 0]
    rows = (-torch.arange(size[0])) % size[0]
    edges = [0, size[1] // 2] if size[1] % 2 == 0 else [0]
    for column in edges:
        assert torch.equal(keep[:, column], keep[rows, column])
    x = torch.rand(size, dtype=torch.float64)
    filtered = torch.fft.ifft2(torch.fft.fft2(x) * full(keep, size[1]))
    assert filtered.imag.abs().max() < 1e-12  # rounding, which depends on the processor
    torch.testing.assert_close(apply_spectral_mask(x[None, None], keep[None, None])[0, 0], filtered.real)


def test_diagonals_are_the_true_ones_on_images_that_are_not_square() -> None:
    keep = mask_of((32, 64), 2, 4, 1, cross_from=3)[0, 0]
    for k in range(3, 16):  # |u| / H = |v| / W
        assert not keep[k, 2 * k]
        assert not keep[-k, 2 * k]
    assert keep[12, 12]


def test_filter_equals_the_loop_on_the_full_spectrum() -> None:
    x = torch.rand(3, 2, 20, 27, dtype=torch.float64)
    lengths = torch.tensor([[2, 3, 1], [5, 8, 4], [1, 2, 3]])
    y = apply_spectral_mask(x, band_stop_mask((20, 27), *lengths, cross_from=3))
    for i in range(3):
        stop = reference.stopped_bins((20, 27), *lengths[:, i].tolist(), cross_from=3)
        torch.testing.assert_close(y[i], reference.band_stopped(x[i], stop), rtol=0, atol=1e-12)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from([(16, 16), (15, 18), (21, 17)]))
def test_laws_of_a_projection(seed: int, size: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(seed)
    augment = FrequencyBandStop(radius=(1, 8), cross=(0, 4), cross_from=3, generator=generator)
    x, z = torch.rand(2, 3, 1, *size, dtype=torch.float64, generator=generator)
    params = augment.forward_parameters(x.shape)
    y = augment(x, params=params)
    torch.testing.assert_close(augment(y, params=params), y, rtol=0, atol=1e-14)
    mixed = augment(2 * x - 3 * z, params=params)
    torch.testing.assert_close(mixed, 2 * y - 3 * augment(z, params=params), rtol=0, atol=1e-13)
    torch.testing.assert_close(y.mean((2, 3)), x.mean((2, 3)), rtol=0, atol=1e-15)
    for i in range(3):
        lengths = [int(params[name][i]) for name in augment.names]
        stop = reference.stopped_bins(size, *lengths, cross_from=3)
        removed = torch.fft.fft2(x[i, 0]).abs().square()[stop].sum() / (size[0] * size[1])
        torch.testing.assert_close((x[i] - y[i]).square().sum(), removed, rtol=1e-9, atol=1e-12)
        low = torch.fft.rfft2(x[i, 0])[0, : lengths[0]], torch.fft.rfft2(y[i, 0])[0, : lengths[0]]
        torch.testing.assert_close(low[0], low[1], rtol=0, atol=1e-13)


def test_constants_pass_and_waves_are_stopped_by_their_radius() -> None:
    keep = mask_of((64, 64), 10, 20, 0)
    constant = torch.full((1, 1, 64, 64), 0.7)
    torch.testing.assert_close(apply_spectral_mask(constant, keep), constant, rtol=0, atol=1e-6)
    t = torch.arange(64, dtype=torch.float64) * 2 * math.pi / 64
    for u, v, stays in (
        (12, 9, False),
        (10, 0, False),
        (0, 20, False),
        (9, 0, True),
        (21, 0, True),
        (6, 7, True),
    ):
        wave = torch.cos(u * t[:, None] + v * t)[None, None]
        expected = wave if stays else torch.zeros_like(wave)
        torch.testing.assert_close(apply_spectral_mask(wave, keep), expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("size", [(160, 160), (150, 171), (151, 160)])
def test_blocks_equal_single_images_and_the_differentiable_path(size: tuple[int, int]) -> None:
    x = torch.rand(10, 3, *size)
    keep = band_stop_mask(size, torch.arange(10) + 10, torch.arange(10) + 30, torch.arange(10))
    y = apply_spectral_mask(x, keep)
    for i in range(10):
        single = apply_spectral_mask(x[i : i + 1], keep[i : i + 1])[0]
        torch.testing.assert_close(single, y[i], rtol=0, atol=1e-6)
    for same in (apply_spectral_mask(x, keep.contiguous()), apply_spectral_mask(x.mT.contiguous().mT, keep)):
        torch.testing.assert_close(same, y, rtol=0, atol=1e-6)
    torch.testing.assert_close(apply_spectral_mask(x.double(), keep).float(), y, rtol=0, atol=1e-6)
    torch.testing.assert_close(apply_spectral_mask(x.requires_grad_(), keep), y, rtol=0, atol=1e-6)


def test_one_mask_for_all_and_a_mask_for_each_channel() -> None:
    x = torch.rand(2, 3, 12, 12)
    one = mask_of((12, 12), 2, 3, 0)
    each = one.expand(2, 3, 12, 7)
    torch.testing.assert_close(apply_spectral_mask(x, one), apply_spectral_mask(x, each), rtol=0, atol=1e-6)


@pytest.mark.parametrize("size", [(6, 6), (5, 7)])
def test_gradcheck(size: tuple[int, int]) -> None:
    x = torch.rand(2, 1, *size, dtype=torch.float64, requires_grad=True)
    keep = band_stop_mask(size, torch.tensor([1, 2]), torch.tensor([2, 3]), torch.tensor([1, 2]), cross_from=0)
    assert torch.autograd.gradcheck(lambda x: apply_spectral_mask(x, keep), (x,))
    assert torch.autograd.gradgradcheck(lambda x: apply_spectral_mask(x, keep).square(), (x,))


def test_default_draw_is_two_sorted_integers_and_a_thickness() -> None:
    augment = FrequencyBandStop(generator=torch.Generator().manual_seed(0))
    params = augment.forward_parameters((20000, 1, 224, 224))
    inner, outer, cross = (params[name] for name in augment.names)
    assert inner.shape == outer.shape == cross.shape == (20000,)
    assert all(value.dtype == torch.int64 for value in (inner, outer, cross))
    assert (inner.min(), outer.max(), cross.min(), cross.max()) == (10, 100, 0, 10)
    assert (inner <= outer).all()
    assert set(cross.tolist()) == set(range(11))
    # each end of a sorted pair of U{10..100}: means 55 -+ (n^2 - 1) / (6 n) with n = 91
    shift = (91**2 - 1) / (6 * 91)
    assert abs(inner.double().mean() - (55 - shift)) < 0.6
    assert abs(outer.double().mean() - (55 + shift)) < 0.6
    assert abs(cross.double().mean() - 5) < 0.1


def test_a_single_radius_is_drawn_as_given() -> None:
    params = FrequencyBandStop(radius=(15, 15), cross=(5, 5)).forward_parameters((4, 1, 64, 64))
    assert params["inner"].tolist() == params["outer"].tolist() == [15] * 4
    assert params["cross"].tolist() == [5] * 4


def test_nyquist_lengths_are_fractions_of_half_the_shorter_side() -> None:
    augment = FrequencyBandStop(unit="nyquist")
    assert augment.radius == (10 / 112, 100 / 112)
    assert augment.cross == (0, 10 / 112)
    assert augment.cross_from == 20 / 112
    x = torch.rand(1, 1, 40, 64, dtype=torch.float64)
    params = {"inner": torch.tensor([0.25]), "outer": torch.tensor([0.5]), "cross": torch.tensor([0.125])}
    keep = band_stop_mask((40, 64), 5, 10, 2.5, cross_from=20 / 112 * 20)
    torch.testing.assert_close(augment(x, params=params), apply_spectral_mask(x, keep), rtol=0, atol=1e-14)


def test_nyquist_draws_are_uniform_fractions() -> None:
    params = FrequencyBandStop(unit="nyquist", radius=(0.2, 0.8)).forward_parameters((4000, 1, 96, 96))
    inner, outer = params["inner"], params["outer"]
    assert inner.dtype == torch.float32
    assert 0.2 <= inner.min() <= outer.max() <= 0.8
    assert abs(inner.mean() - 0.4) < 0.01
    assert abs(outer.mean() - 0.6) < 0.01


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"radius": (-1, 10)}, r"radius\[0\] must be at least 0, got -1"),
        ({"radius": (30, 20)}, r"radius must be a pair \(lowest, highest\), got \(30, 20\)"),
        ({"radius": 10}, r"radius must be a pair"),
        ({"cross": (5, 1)}, r"cross must be a pair"),
        ({"cross_from": -1}, "cross_from must be"),
        ({"unit": "hertz"}, "unit must be one of 'bin', 'nyquist'"),
        ({"radius": (-0.1, 0.5), "unit": "nyquist"}, r"radius\[0\] must be"),
        ({"radius": (0.1, float("inf")), "unit": "nyquist"}, r"radius\[1\] must be"),
    ],
)
def test_bad_settings_raise(settings: dict, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        FrequencyBandStop(**settings)


def test_bins_must_be_integers() -> None:
    with pytest.raises(TypeError, match=r"radius\[0\] must be an integer, got 0.1"):
        FrequencyBandStop(radius=(0.1, 0.9))


def test_ring_beyond_the_spectrum_raises() -> None:
    with pytest.raises(ValueError, match=r"radius lies beyond the spectrum of a 32 x 32 image.*22\.6 bins"):
        FrequencyBandStop(radius=(40, 60))(torch.rand(1, 1, 32, 32))
    with pytest.raises(ValueError, match="radius lies beyond"):
        FrequencyBandStop(radius=(1.5, 2.0), unit="nyquist")(torch.rand(1, 1, 32, 32))
    with pytest.raises(ValueError, match="inner, outer lies beyond"):
        band_stop_mask((32, 32), 40, 60, 0)
    with pytest.raises(ValueError, match="inner <= outer"):
        band_stop_mask((32, 32), 9, 6, 0)


@pytest.mark.parametrize(
    ("settings", "size", "share", "remedy"),
    [
        ({}, (64, 64), 0.365, r"unit='nyquist', .* or radius=\(10, 45\)"),
        ({"radius": (20, 60)}, (32, 40), 0.729, r"or radius=\(20, 25\)"),
        ({"radius": (0.5, 2.0), "unit": "nyquist"}, (64, 64), 0.153, r"use radius=\(0\.5, 1\.414\)$"),
    ],
)
def test_radii_that_lie_beyond_the_spectrum_are_pointed_out(
    settings: dict[str, Any], size: tuple[int, int], share: float, remedy: str
) -> None:
    augment, x = FrequencyBandStop(**settings), torch.rand(40, 1, *size)
    with pytest.warns(UserWarning, match=remedy) as caught:
        params = augment.forward_parameters((4000, 1, *size))
    assert f"leaves {share:.1%} of images" in str(caught[0].message)
    half = min(size) / 2 if augment.unit == "nyquist" else 1
    beyond = params["inner"] * half > ((size[0] // 2) ** 2 + (size[1] // 2) ** 2) ** 0.5
    assert abs(float(beyond.float().mean()) - share) < 0.03
    few = {name: value[:40] for name, value in params.items()}
    changed = (augment(x, params=few) - x).abs().amax((1, 2, 3)) > 1e-4
    assert not (changed & beyond[:40]).any()


def test_radii_within_the_spectrum_are_not() -> None:
    for setting, size in (
        ({}, (142, 142)),
        ({"unit": "nyquist"}, (16, 16)),
        ({"radius": (10, 45)}, (64, 64)),
    ):
        FrequencyBandStop(**setting).forward_parameters((2, 1, *size))


def test_bad_tensors_raise() -> None:
    with pytest.raises(TypeError, match="cross_from must be a number, got '20'"):
        band_stop_mask((16, 16), 1, 2, 0, cross_from="20")  # type: ignore[arg-type]
    one, x = torch.tensor([3]), torch.rand(2, 1, 8, 8)
    with pytest.raises(ValueError, match="inner and outer must have the same shape"):
        band_stop_mask((8, 8), one, torch.tensor([3, 4]), one)
    with pytest.raises(ValueError, match=r"inner must have shape \(B,\)"):
        band_stop_mask((8, 8), one[None], one, one)
    with pytest.raises(TypeError, match="cross must hold real numbers"):
        band_stop_mask((8, 8), one, one, one > 2)
    with pytest.raises(TypeError, match="inner must be a number"):
        band_stop_mask((8, 8), "3", one, one)
    with pytest.raises(ValueError, match=r"size\[1\] must be at least 1"):
        band_stop_mask((8, 0), one, one, one)
    with pytest.raises(TypeError, match="keep must be a bool tensor"):
        apply_spectral_mask(x, torch.ones(2, 1, 8, 5))
    with pytest.raises(ValueError, match=r"keep must have shape \(2, 1, 8, 5\)"):
        apply_spectral_mask(x, torch.ones(2, 1, 8, 8, dtype=torch.bool))
    with pytest.raises(TypeError, match="x must be a floating point tensor"):
        apply_spectral_mask(x.long(), torch.ones(2, 1, 8, 5, dtype=torch.bool))


def test_devices_agree(device: torch.device) -> None:
    x = torch.rand(4, 1, 96, 96)
    augment = FrequencyBandStop(radius=(5, 40))
    params = augment.forward_parameters(x.shape)
    y = augment(x.to(device), params=params).cpu()
    torch.testing.assert_close(y, augment(x, params=params), rtol=0, atol=1e-5)


@pytest.mark.parametrize("batch_pixels", [0, 1 << 21])
@pytest.mark.parametrize("block_pixels", [1, 3000])
def test_blocks_and_batches_of_any_size_give_the_same(
    batch_pixels: int, block_pixels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, keep = torch.rand(7, 2, 30, 25), torch.rand(7, 1, 30, 13) > 0.5
    want = torch.fft.irfft2(torch.fft.rfft2(x) * keep, s=(30, 25))
    monkeypatch.setattr(frequency, "_BATCH_PIXELS", batch_pixels)
    monkeypatch.setattr(frequency, "_BLOCK_PIXELS", block_pixels)
    torch.testing.assert_close(apply_spectral_mask(x, keep), want)
    one = torch.fft.irfft2(torch.fft.rfft2(x) * keep[:1], s=(30, 25))
    torch.testing.assert_close(apply_spectral_mask(x, keep[:1]), one)
