"""MR artefacts against closed forms, slow transforms and the laws of their physics."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sslmed.augment import BiasField, GibbsRinging, KSpaceSpike
from sslmed.augment.functional import (
    acquired_matrix,
    add_spikes,
    apply_bias_field,
    apply_spectral_mask,
    bias_field,
)

SIZES = [(16, 16), (15, 17), (16, 9), (2, 12), (40, 24)]
EVERY = [GibbsRinging, KSpaceSpike, BiasField]


def images(
    batch: int = 4, channels: int = 1, size: tuple[int, int] = (24, 32), dtype: torch.dtype = torch.float64
) -> torch.Tensor:
    return torch.randn(batch, channels, *size, generator=torch.Generator().manual_seed(batch), dtype=dtype)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


# all three


@pytest.mark.parametrize("make", EVERY)
@settings(max_examples=25, deadline=None)
@given(st.floats(1e-3, 1e5), st.floats(-1e5, 1e5), st.integers(1, 3), st.integers(0, 2**31))
def test_units_do_not_matter(make: type, scale: float, shift: float, channels: int, seed: int) -> None:
    """T(a x + b) = a T(x) + b for a > 0: scaled to [0, 1], z-scored or 16-bit, the artefact is the same."""
    x, augment = images(2, channels), make(generator=torch.Generator().manual_seed(seed))
    params = augment.forward_parameters(x.shape)
    expected = scale * augment(x, params=params) + shift
    tolerance = 1e-11 * (scale + abs(shift))
    torch.testing.assert_close(augment(scale * x + shift, params=params), expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("make", EVERY)
def test_sixteen_bit_values_are_neither_clipped_nor_rounded(make: type) -> None:
    x = torch.randint(0, 2**16, (8, 1, 64, 64)).float()
    augment = make()
    params = augment.forward_parameters(x.shape)
    y = augment(x, params=params)
    torch.testing.assert_close(y.double(), augment(x.double(), params=params), rtol=0, atol=0.05)
    assert y.frac().abs().max() > 0
    assert y.max() > x.max()


@pytest.mark.parametrize("make", EVERY)
@pytest.mark.parametrize("level", [0.0, -3.5, 40000.0])
def test_constant_images_stay_as_they_are(make: type, level: float) -> None:
    x = torch.full((3, 1, 24, 32), level, requires_grad=True)
    y = make()(x)
    torch.testing.assert_close(y, x, rtol=1e-6, atol=1e-6)
    y.sum().backward()
    assert x.grad.isfinite().all()


@pytest.mark.parametrize("make", EVERY)
def test_channels_are_taken_one_by_one(make: type) -> None:
    x, augment = images(3, 3), make()
    x = x * torch.tensor([1.0, 50.0, 0.1], dtype=x.dtype).view(3, 1, 1) + 4
    params = augment.forward_parameters(x.shape)
    y = augment(x, params=params)
    for c in range(3):
        torch.testing.assert_close(y[:, c : c + 1], augment(x[:, c : c + 1], params=params))


@pytest.mark.parametrize("make", EVERY)
def test_draws_inside_compiled_graphs_at_several_sizes(make: type) -> None:
    torch._dynamo.reset()
    compiled = torch.compile(make(), fullgraph=True, backend="eager")
    for size in ((32, 40), (40, 32), (36, 36)):
        x = images(2, 1, size, torch.float32)
        y = compiled(x)
        assert y.isfinite().all()
        assert (y != x).flatten(1).any(dim=1).all()


# GibbsRinging


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("parts", [(1.0, 0.5), (0.5, 1.0), (0.3, 0.7), (0.0, 1.0)])
def test_acquired_matrix_by_a_loop(size: tuple[int, int], parts: tuple[float, float]) -> None:
    keep = acquired_matrix(size, *(torch.tensor([part], dtype=torch.float64) for part in parts))
    assert keep.shape == (1, 1, size[0], size[1] // 2 + 1)
    for i in range(size[0]):
        for v in range(size[1] // 2 + 1):
            u = i if i <= size[0] // 2 else i - size[0]
            inside = abs(u) <= parts[0] * size[0] / 2 and v <= parts[1] * size[1] / 2
            assert bool(keep[0, 0, i, v]) == inside


@pytest.mark.parametrize("n", [20, 50, 101, 320])
def test_a_part_that_ends_on_a_bin_acquires_it(n: int) -> None:
    last = torch.arange(1, n // 2)
    for part in (last.double() / (n / 2), (last.double() / (n / 2)).float()):
        keep = acquired_matrix((n, n), part, part)
        assert torch.equal(keep[:, 0, :, 0].sum(dim=1), 2 * last + 1)
        assert torch.equal(keep[:, 0, 0].sum(dim=1), last + 1)


@pytest.mark.parametrize("size", SIZES)
def test_ringing_is_linear_idempotent_and_keeps_mean_and_parseval(size: tuple[int, int]) -> None:
    augment, x = GibbsRinging(axis="both"), images(4, 2, size)
    params = augment.forward_parameters(x.shape)
    y, other = augment(x, params=params), torch.randn_like(x)
    torch.testing.assert_close(augment(y, params=params), y)
    torch.testing.assert_close(y.mean((2, 3)), x.mean((2, 3)))
    torch.testing.assert_close(augment(x + 2 * other, params=params), y + 2 * augment(other, params=params))
    keep = acquired_matrix(size, params["height"], params["width"])
    spectrum = torch.fft.fft2(x - y).abs().square().sum((1, 2, 3)) / (size[0] * size[1])
    torch.testing.assert_close((x - y).square().sum((1, 2, 3)), spectrum)
    assert (torch.fft.rfft2(y).abs() * ~keep).max() < 1e-10
    torch.testing.assert_close(torch.fft.rfft2(y) * keep, torch.fft.rfft2(x) * keep)


def test_truncation_is_a_convolution_with_dirichlets_kernel() -> None:
    n, part = 24, 0.5
    x = images(1, 1, (1, n))
    y = GibbsRinging(part=(part, part), axis="width")(x)
    cut = math.floor(part * n / 2)
    kernel = [
        (2 * cut + 1) / n if t == 0 else math.sin(math.pi * (2 * cut + 1) * t / n) / math.sin(math.pi * t / n) / n
        for t in range(n)
    ]
    expected = [sum(kernel[(i - j) % n] * float(x[0, 0, 0, j]) for j in range(n)) for i in range(n)]
    torch.testing.assert_close(y[0, 0, 0], torch.tensor(expected, dtype=x.dtype))


def test_an_edge_overshoots_by_wilbraham_and_gibbs_constant() -> None:
    """The integral of sin(t) / t to pi, over pi, less a half: 8.949 % of the step, whatever the part."""
    x = torch.zeros(1, 1, 1, 4096, dtype=torch.float64)
    x[..., 1024:3072] = 1
    for part in (1 / 32, 1 / 64):
        y = GibbsRinging(part=(part, part), axis="width")(x)
        assert abs(y.max().item() - 1.08949) < 3e-3
        assert abs(y.min().item() + 0.08949) < 3e-3
        # Where the ringing rises through the plateau its slope is steep, whereas at a crest two pixels may tie.
        ripple = y[0, 0, 0, 1024:2024] - 1
        before = ((ripple[:-1] <= 0) & (ripple[1:] > 0)).nonzero().flatten()
        rises = before + ripple[before] / (ripple[before] - ripple[before + 1])
        periods = rises[1:].diff()  # in pixels; beside the edge itself it is a little shorter
        assert len(periods) > 5
        torch.testing.assert_close(periods, torch.full_like(periods, 2 / part), rtol=0.01, atol=0)


def test_full_matrix_changes_nothing() -> None:
    for size in SIZES:
        x = images(2, 1, size)
        torch.testing.assert_close(GibbsRinging(part=(1.0, 1.0))(x), x)


@pytest.mark.parametrize("axis", ["random", "height", "width", "both"])
def test_parts_and_axes_are_drawn(axis: str) -> None:
    params = GibbsRinging(part=(0.4, 0.8), axis=axis).forward_parameters((4000, 1, 8, 8))
    cut = {name: params[name] < 1 for name in ("height", "width")}
    share = {"random": (0.5, 0.5), "height": (1, 0), "width": (0, 1), "both": (1, 1)}[axis]
    for name, expected in zip(cut, share, strict=True):
        assert abs(cut[name].float().mean() - expected) < 0.03
        part = params[name][cut[name]]
        if len(part):
            assert 0.4 <= part.min() < 0.41
            assert 0.79 < part.max() <= 0.8
            assert abs(part.mean() - 0.6) < 0.01
    if axis == "random":
        assert (cut["height"] ^ cut["width"]).all()
    if axis == "both":
        assert torch.equal(params["height"], params["width"])


# KSpaceSpike


@pytest.mark.parametrize("size", [(16, 16), (15, 17), (16, 9), (2, 12)])
def test_spikes_equal_the_way_through_k_space(size: tuple[int, int]) -> None:
    """The spike and its conjugate set in the transform of the image, against the closed form."""
    height, width = size
    generator = torch.Generator().manual_seed(0)
    bins = torch.stack(
        [
            torch.randint(-(height // 2), height // 2 + 1, (5, 3), generator=generator),
            torch.randint(-(width // 2), width // 2 + 1, (5, 3), generator=generator),
        ],
        dim=2,
    )
    amplitude = torch.rand(5, 3, dtype=torch.float64, generator=generator)
    phase = 6 * torch.rand(5, 3, dtype=torch.float64, generator=generator)
    x = images(5, 2, size) * 100 + 30
    space = torch.fft.fft2(x)
    for b in range(5):
        for c in range(2):
            for k in range(3):
                u, v = bins[b, k].tolist()
                half = amplitude[b, k] * x[b, c].std(correction=0) * height * width / 2
                spike = torch.polar(half, phase[b, k])
                space[b, c, u, v] += spike  # negative indices count from the end, as frequencies do
                space[b, c, -u, -v] += spike.conj()
    slow = torch.fft.ifft2(space)
    assert slow.imag.abs().max() < 1e-10
    torch.testing.assert_close(add_spikes(x, bins, amplitude, phase), slow.real)


def test_high_frequencies_are_exact_in_single_precision() -> None:
    x = images(1, 1, (1, 4096), torch.float32)
    bins, amplitude = torch.tensor([[[0, 2047]]]), torch.tensor([[1.0]])
    wave = add_spikes(x, bins, amplitude, torch.zeros(1, 1)) - x
    expected = torch.cos(2 * math.pi * 2047 * torch.arange(4096).double() / 4096) * x.double().std(correction=0)
    torch.testing.assert_close(wave[0, 0, 0].double(), expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("radius", [(0.1, 0.9), (0.01, 0.01), (1.0, 1.0), (0.5, 0.6)])
def test_spikes_lie_in_their_ring_and_never_at_the_centre(size: tuple[int, int], radius: tuple[float, float]) -> None:
    x = images(200, 1, size)
    augment = KSpaceSpike(radius=radius, amplitude=(0.1, 0.5))
    params = augment.forward_parameters(x.shape)
    u, v = params["bins"][..., 0].double(), params["bins"][..., 1].double()
    assert (u.abs() <= size[0] / 2).all()
    assert (v.abs() <= size[1] / 2).all()
    assert ((u != 0) | (v != 0)).all()
    r = ((u / (size[0] / 2)) ** 2 + (v / (size[1] / 2)) ** 2).sqrt()
    low = max(radius[0], 2 / min(size))
    slack = 0.71 * 2 / min(size)  # of rounding to whole bins
    assert r.min() >= low - slack
    assert r.max() <= max(radius[1], low) + slack
    y = augment(x, params=params)
    torch.testing.assert_close(y.mean((2, 3)), x.mean((2, 3)))


def test_spikes_are_even_over_k_space() -> None:
    params = KSpaceSpike(radius=(0.2, 0.8), spikes=2).forward_parameters((6000, 1, 200, 400))
    u, v = (params["bins"][..., i].double() / n for i, n in ((0, 100), (1, 200)))
    r2 = u**2 + v**2
    assert abs((r2 < 0.34).double().mean() - 0.5) < 0.02  # half the area between the radii
    assert (u >= 0).all()  # the other half are conjugates
    assert abs((v > 0).double().mean() - 0.5) < 0.02
    assert params["amplitude"].shape == params["phase"].shape == (6000, 2)
    assert 0.1 <= params["amplitude"].min() < params["amplitude"].max() <= 0.5
    assert 0 <= params["phase"].min() < 0.01
    assert 6.27 < params["phase"].max() < 2 * math.pi


def test_amplitude_is_in_standard_deviations() -> None:
    x = images(6, 1, (32, 32)) * 3000
    y = KSpaceSpike(amplitude=(0.5, 0.5), radius=(0.3, 0.8))(x)
    ratio = (y - x).std(dim=(2, 3), correction=0) / x.std(dim=(2, 3), correction=0)
    torch.testing.assert_close(ratio, torch.full_like(ratio, 0.5 / 2**0.5))


def test_gradients_of_spikes_are_the_identitys() -> None:
    x = images(2, 2).requires_grad_()
    (y,) = torch.autograd.grad(KSpaceSpike(spikes=2)(x).sum(), x)
    assert torch.equal(y, torch.ones_like(x))


# BiasField


@pytest.mark.parametrize("order", [1, 2, 3, 5])
@pytest.mark.parametrize("size", [(7, 9), (16, 16), (1, 12)])
def test_field_by_numpys_legendre_polynomials(order: int, size: tuple[int, int]) -> None:
    generator = np.random.default_rng(order)
    matrix = np.array(
        [[generator.normal() if 0 < i + j <= order else 0.0 for j in range(order + 1)] for i in range(order + 1)]
    )
    flat = [matrix[i, j] for i in range(order + 1) for j in range(order + 1 - i) if i + j > 0]
    y, x = ((2 * np.arange(n) + 1) / n - 1 for n in size)
    log = np.polynomial.legendre.leggrid2d(y, x, matrix)
    expected = np.exp(log - log.mean())
    field = bias_field(size, torch.tensor([flat], dtype=torch.float64))
    np.testing.assert_allclose(field[0, 0].numpy(), expected, rtol=1e-12)


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 64), st.integers(2, 64), st.integers(1, 5), st.integers(0, 2**31))
def test_fields_are_positive_of_geometric_mean_one(height: int, width: int, order: int, seed: int) -> None:
    augment = BiasField(order=order, strength=(0.3, 0.3), generator=torch.Generator().manual_seed(seed))
    coefficients = augment.forward_parameters((3, 1, height, width))["coefficients"].double()
    field = bias_field((height, width), coefficients)
    assert (field > 0).all()
    torch.testing.assert_close(field.log().mean((1, 2, 3)), torch.zeros(3, dtype=torch.float64), rtol=0, atol=1e-12)


@pytest.mark.parametrize("order", [1, 3, 4])
def test_strength_is_the_deviation_of_the_logarithm(order: int) -> None:
    params = BiasField(strength=(0.2, 0.2), order=order).forward_parameters((50, 1, 8, 8))
    log = bias_field((256, 256), params["coefficients"].double()).log()
    torch.testing.assert_close(log.std(dim=(1, 2, 3)), torch.full((50,), 0.2, dtype=torch.float64), rtol=2e-3, atol=0)
    assert params["coefficients"].shape == (50, (order + 1) * (order + 2) // 2 - 1)
    assert abs(params["coefficients"].mean()) < 0.05


def test_strengths_are_drawn_evenly() -> None:
    params = BiasField(strength=(0.1, 0.3)).forward_parameters((3000, 1, 8, 8))
    deviation = bias_field((64, 64), params["coefficients"]).log().std(dim=(1, 2, 3))
    assert 0.099 < deviation.min() < 0.102
    assert 0.298 < deviation.max() < 0.301
    assert abs(deviation.mean() - 0.2) < 0.004


def test_a_field_does_not_depend_on_the_resolution() -> None:
    coefficients = BiasField().forward_parameters((4, 1, 8, 8))["coefficients"].double()
    coarse, fine = bias_field((20, 30), coefficients).log(), bias_field((180, 270), coefficients).log()
    torch.testing.assert_close(fine[:, :, 4::9, 4::9], coarse, rtol=0, atol=2e-3)


def test_air_stays_dark_and_tissue_is_multiplied() -> None:
    for air in (0.0, -1.7, 300.0):
        tissue = torch.zeros(2, 1, 16, 16, dtype=torch.float64)
        tissue[:, :, 4:12, 4:12] = torch.rand(2, 1, 8, 8, dtype=torch.float64) + 0.5
        field = bias_field((16, 16), BiasField().forward_parameters((2, 1, 16, 16))["coefficients"].double())
        y = apply_bias_field(tissue + air, field)
        torch.testing.assert_close(y, tissue * field + air)
        assert (y[tissue == 0] == air).all()


def test_gradients_of_the_field_are_the_field() -> None:
    x, augment = images(2, 2).requires_grad_(), BiasField()
    params = augment.forward_parameters(x.shape)
    (grad,) = torch.autograd.grad(augment(x, params=params).sum(), x)
    torch.testing.assert_close(grad, bias_field((24, 32), params["coefficients"].double()).expand(2, 2, 24, 32))


# bad arguments


@pytest.mark.parametrize(
    ("make", "setting", "error", "match"),
    [
        (GibbsRinging, {"part": (0.0, 0.5)}, ValueError, r"part\[0\] must be a finite number in \(0, 1\]"),
        (GibbsRinging, {"part": (0.5, 1.2)}, ValueError, r"part\[1\] must be"),
        (GibbsRinging, {"part": (0.8, 0.5)}, ValueError, r"part must be a pair \(least, greatest\)"),
        (GibbsRinging, {"part": 0.5}, ValueError, r"part must be a pair \(least, greatest\), got 0.5"),
        (
            GibbsRinging,
            {"axis": "rows"},
            ValueError,
            "axis must be one of 'random', 'height', 'width', 'both'",
        ),
        (KSpaceSpike, {"spikes": 0}, ValueError, "spikes must be at least 1, got 0"),
        (KSpaceSpike, {"spikes": 1.0}, TypeError, "spikes must be an integer"),
        (KSpaceSpike, {"amplitude": (-0.1, 0.5)}, ValueError, r"amplitude\[0\] must be"),
        (KSpaceSpike, {"radius": (0.0, 0.5)}, ValueError, r"radius\[0\] must be"),
        (KSpaceSpike, {"radius": (0.1, 2)}, ValueError, r"radius\[1\] must be"),
        (BiasField, {"strength": (0.1, math.inf)}, ValueError, r"strength\[1\] must be"),
        (BiasField, {"strength": ("a", 1)}, TypeError, r"strength\[0\] must be a number"),
        (BiasField, {"order": 0}, ValueError, "order must be at least 1"),
    ],
)
def test_bad_settings_raise(make: type, setting: dict, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        make(**setting)


def test_bad_inputs_raise() -> None:
    one, x = torch.ones(2), images(2)
    with pytest.raises(TypeError, match="height must be a floating point tensor"):
        acquired_matrix((8, 8), one.long(), one)
    with pytest.raises(ValueError, match="height and width must have one length, got 2 and 1"):
        acquired_matrix((8, 8), one, one[:1])
    with pytest.raises(ValueError, match=r"size must be \(H, W\)"):
        acquired_matrix((8, 8, 8), one, one)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="images must be at least 2 pixels a side, got 1 x 9"):
        KSpaceSpike()(images(1, 1, (1, 9)))
    bins, size = torch.ones(2, 3, 2, dtype=torch.int64), torch.ones(2, 3)
    with pytest.raises(TypeError, match="bins must hold integers"):
        add_spikes(x, bins.float(), size, size)
    with pytest.raises(ValueError, match=r"bins must have shape \(2, n, 2\), got \(1, 3, 2\)"):
        add_spikes(x, bins[:1], size[:1], size[:1])
    with pytest.raises(ValueError, match=r"phase must have shape \(2, 3\), got \(2, 2\)"):
        add_spikes(x, bins, size, size[:, :2])
    with pytest.raises(ValueError, match=r"coefficients must have 2, 5, 9, 14 ... columns, got shape \(2, 3\)"):
        bias_field((8, 8), torch.ones(2, 3))
    with pytest.raises(ValueError, match="coefficients must have 2, 5"):
        bias_field((8, 8), torch.ones(2, 0))
    with pytest.raises(ValueError, match=r"field must have shape \(2, 1, 24, 32\)"):
        apply_bias_field(x, torch.ones(2, 1, 24, 24))
    with pytest.raises(TypeError, match="x must be a floating point tensor"):
        apply_bias_field(x.long(), torch.ones(2, 1, 24, 32))


def test_no_spike_and_no_image() -> None:
    x = images(2)
    none = torch.ones(2, 0)
    keep = acquired_matrix((24, 32), none[0], none[0])
    assert torch.equal(add_spikes(x, torch.ones(2, 0, 2, dtype=torch.int64), none, none), x)
    assert torch.equal(apply_spectral_mask(x[:0], keep), x[:0])


# independent libraries


@pytest.mark.peers
def test_bias_field_is_monais_about_black_but_for_its_normalisation() -> None:
    monai = pytest.importorskip("monai.transforms")
    theirs = monai.RandBiasField(degree=3, coeff_range=(-0.3, 0.3), prob=1.0)
    theirs.set_random_state(0)
    x = torch.rand(1, 1, 33, 47, dtype=torch.float64)
    x[..., 0, 0] = 0
    y = theirs(x[0].float()).as_tensor()
    field = (y.double() / x[0].float().double())[0]
    log = field.log()
    # MONAI's grid ends at the outer pixels' centres, ours at their borders, and its terms are those of i >= j, up to
    # order 2 * degree: fit its field with our polynomials.
    ours = torch.stack([bias_field((33, 47), row[None])[0, 0].log() for row in torch.eye(27, dtype=torch.float64)])
    basis = torch.cat([ours.flatten(1), torch.ones(1, 33 * 47, dtype=torch.float64)]).T
    inside = torch.ones(33 * 47, dtype=torch.bool)
    inside[0] = False
    solution = torch.linalg.lstsq(basis[inside], log.flatten()[inside, None]).solution
    assert (basis[inside] @ solution - log.flatten()[inside, None]).abs().max() < 1e-4
    mine = apply_bias_field(x, bias_field((33, 47), solution[:27].T)) * solution[27].exp()
    torch.testing.assert_close(mine[0], y.double(), rtol=1e-4, atol=1e-6)


@pytest.mark.peers
def test_a_spike_lies_where_monai_puts_it() -> None:
    monai = pytest.importorskip("monai.transforms")
    x = images(1, 1, (32, 32)) + 5
    u, v = 5, 9
    theirs = monai.KSpaceSpikeNoise(loc=(16 + u, 16 + v), k_intensity=9.0)(x[0]).as_tensor()
    mine = add_spikes(x, torch.tensor([[[u, v]]]), torch.tensor([[1.0]]), torch.zeros(1, 1)) - x
    # MONAI sets one bin without its conjugate and keeps the real part: the same wave, in its own strength and phase.
    peak = torch.fft.rfft2(theirs[0] - x[0, 0]).abs().flatten().argmax()
    assert peak == torch.fft.rfft2(mine[0, 0]).abs().flatten().argmax() == u * 17 + v
