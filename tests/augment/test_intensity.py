"""GrayJitter: torchvision's factors without its clamp, safe on one channel and on any range."""

from __future__ import annotations

from types import ModuleType

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sslmed._compat import torchvision
from sslmed.augment import GrayJitter
from sslmed.augment.functional import gray_jitter


@pytest.fixture
def colour() -> ModuleType:
    """torchvision's functions, the definition of the factors."""
    return torchvision("transforms.v2.functional")


@pytest.mark.parametrize("channels", [1, 3])
def test_factors_are_torchvisions_where_it_does_not_clamp(channels: int, colour: ModuleType) -> None:
    x = 0.4 + 0.2 * torch.rand(4, channels, 16, 16)
    brightness, contrast = torch.tensor([0.8, 0.9, 1.1, 1.2]), torch.tensor([0.6, 1.3, 0.7, 1.2])
    y = gray_jitter(x, brightness, contrast)
    for i in range(4):
        expected = colour.adjust_brightness(colour.adjust_contrast(x[i], contrast[i].item()), brightness[i].item())
        torch.testing.assert_close(y[i], expected, rtol=0, atol=2e-6)


def test_values_are_not_clamped() -> None:
    x = torch.tensor([[[[0.0, 1.0]]]])
    y = gray_jitter(x, torch.tensor([1.4]), torch.tensor([1.4]))
    torch.testing.assert_close(y, torch.tensor([[[[-0.28, 1.68]]]]))


@settings(max_examples=30, deadline=None)
@given(st.floats(-5e4, 5e4), st.floats(1e-3, 5e4), st.floats(0.6, 1.4), st.floats(0.5, 2.0), st.integers(0, 999))
def test_laws(offset: float, scale: float, contrast: float, gamma: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = offset + scale * torch.rand(2, 1, 6, 6, dtype=torch.float64, generator=generator)
    one, c, g = torch.ones(2), torch.full((2,), contrast), torch.full((2,), gamma)
    torch.testing.assert_close(gray_jitter(x, one, one, one), x)
    torch.testing.assert_close(gray_jitter(x, one, c).mean((2, 3)), x.mean((2, 3)))
    torch.testing.assert_close(gray_jitter(x, c, one), x * c.double().view(2, 1, 1, 1))
    y = gray_jitter(x, one, one, g)
    low, high = x.amin((2, 3)), x.amax((2, 3))
    torch.testing.assert_close(y.amin((2, 3)), low)
    torch.testing.assert_close(y.amax((2, 3)), high)
    in_order = y.flatten(1).gather(1, x.flatten(1).argsort(dim=1))
    assert (in_order.diff(dim=1) >= 0).all()
    unit = (x - low[..., None, None]) / (high - low)[..., None, None]
    expected = unit ** g.double().view(2, 1, 1, 1)
    torch.testing.assert_close((y - low[..., None, None]) / (high - low)[..., None, None], expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("x", [torch.zeros(2, 1, 4, 4), torch.full((2, 3, 4, 4), -3.5), torch.full((2, 1, 1, 1), 7.0)])
def test_constant_images_stay_constant_and_finite(x: torch.Tensor) -> None:
    y = GrayJitter(brightness=0, gamma=2.0, p=1.0)(x.requires_grad_())
    torch.testing.assert_close(y, x, rtol=1e-3, atol=1e-5)
    y.sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()


@pytest.mark.parametrize(
    "x", [torch.randn(8, 1, 32, 32) * 3, torch.rand(8, 1, 32, 32) * 65535, -torch.rand(8, 3, 32, 32)]
)
def test_any_range(x: torch.Tensor) -> None:
    y = GrayJitter(gamma=0.5, p=1.0, generator=torch.Generator().manual_seed(0))(x)
    assert y.isfinite().all()
    assert not torch.equal(y, x)


def test_color_jitters_hue_and_saturation_do_nothing_to_gray_images(colour: ModuleType) -> None:
    """Why the class leaves them out."""
    gray = torch.rand(1, 3, 16, 16)[:, :1]
    assert torch.equal(colour.adjust_hue(gray, 0.3), gray)
    assert torch.equal(colour.adjust_saturation(gray, 1.4), gray)
    rgb = gray.expand(1, 3, 16, 16)
    assert (colour.adjust_hue(rgb, 0.3) - rgb).abs().max() < 1e-6
    assert (colour.adjust_saturation(rgb, 1.4) - rgb).abs().max() <= 7e-5


def test_gray_and_equal_channels_agree() -> None:
    x = torch.rand(3, 1, 8, 8, dtype=torch.float64)
    factors = torch.tensor([0.8, 1.0, 1.3]), torch.tensor([1.2, 0.7, 0.9]), torch.tensor([0.8, 1.2, 1.0])
    y = gray_jitter(x.expand(3, 3, 8, 8), *factors)
    # torchvision's luma weights sum to 0.9999
    torch.testing.assert_close(y, gray_jitter(x, *factors).expand(3, 3, 8, 8), rtol=0, atol=1e-4)


def test_draws() -> None:
    augment = GrayJitter(brightness=0.2, contrast=0.4, gamma=1.0)
    params = augment.forward_parameters((5000, 1, 8, 8))
    for name, low, high, mean in (("brightness", 0.8, 1.2, 1.0), ("contrast", 0.6, 1.4, 1.0)):
        assert low <= params[name].min() < low + 0.01
        assert high - 0.01 < params[name].max() <= high
        assert abs(params[name].mean() - mean) < 0.02
    assert 0.5 <= params["gamma"].min() < 0.51
    assert 1.98 < params["gamma"].max() <= 2.0
    assert abs(params["gamma"].log().mean()) < 0.03
    assert abs(params["batch_prob"].mean() - 0.8) < 0.03


def test_strength_zero_is_the_identity() -> None:
    x = torch.rand(3, 1, 8, 8)
    assert torch.equal(GrayJitter(brightness=0, contrast=0, p=1.0)(x), x)


@pytest.mark.parametrize("settings", [{"brightness": 1.2}, {"contrast": -0.1}, {"gamma": -1}, {"p": 2}])
def test_bad_strengths_raise(settings: dict) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(settings))} must be a finite number"):
        GrayJitter(**settings)


def test_bad_inputs_raise() -> None:
    with pytest.raises(ValueError, match="x must have 1 or 3 channels"):
        GrayJitter(p=1.0)(torch.rand(2, 2, 8, 8))
    one = torch.ones(2)
    with pytest.raises(ValueError, match=r"brightness must have shape \(2,\)"):
        gray_jitter(torch.rand(2, 1, 8, 8), torch.ones(1), one)
    with pytest.raises(ValueError, match="brightness and contrast must have the same shape"):
        gray_jitter(torch.rand(2, 1, 8, 8), one, torch.ones(1))
    with pytest.raises(TypeError, match=r"contrast must be a torch\.Tensor of shape \(B,\), got float"):
        gray_jitter(torch.rand(2, 1, 8, 8), one, 1.0)
    with pytest.raises(TypeError, match=r"gamma must be a torch\.Tensor of shape \(B,\), got float"):
        gray_jitter(torch.rand(2, 1, 8, 8), one, one, 1.0)
    with pytest.raises(TypeError, match="x must be a floating point tensor"):
        gray_jitter(torch.ones(2, 1, 8, 8, dtype=torch.uint8), one, one)


def test_gradcheck() -> None:
    x = torch.rand(2, 1, 3, 3, dtype=torch.float64, requires_grad=True)
    factors = torch.tensor([0.8, 1.3]), torch.tensor([1.2, 0.7])
    assert torch.autograd.gradcheck(lambda x: gray_jitter(x, *factors), (x,))
