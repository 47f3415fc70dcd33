"""The blur of the views: kornia's filter, a whole Gaussian, and only where it was drawn."""

from __future__ import annotations

import kornia.augmentation as K
import pytest
import torch

from sslmed.augment._blur import Blur


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def test_equals_kornias_augmentation_of_the_same_sigma() -> None:
    x = torch.randn(6, 3, 40, 36)
    ours, theirs = Blur(sigma=(0.3, 1.7), p=0.5), K.RandomGaussianBlur(13, (0.3, 1.7), p=0.5)
    params = ours.forward_parameters(x.shape)
    assert 0 < params["batch_prob"].sum() < 6
    torch.testing.assert_close(ours(x, params=params), theirs(x, params=dict(params)), rtol=0, atol=1e-6)


def test_is_the_whole_gaussian() -> None:
    x = torch.zeros(1, 1, 41, 41)
    x[..., 20, 20] = 1
    away = torch.arange(41.0) - 20
    line = torch.exp(-away.square() / (2 * 1.5**2))
    expected = torch.outer(line, line) / line.sum() ** 2
    torch.testing.assert_close(Blur(sigma=(1.5, 1.5), p=1.0)(x)[0, 0], expected, rtol=0, atol=5e-4)


def test_sigma_is_drawn_uniformly_for_each_image() -> None:
    sigma = Blur(sigma=(0.5, 2.5)).forward_parameters((20000, 1, 8, 8))["sigma"]
    assert sigma.min() >= 0.5
    assert sigma.max() <= 2.5
    counts = torch.histc(sigma, bins=10, min=0.5, max=2.5)
    assert ((counts - 2000).abs() < 200).all()


def test_brightness_is_kept_on_any_range() -> None:
    flat = torch.full((3, 1, 20, 20), -3000.0)
    torch.testing.assert_close(Blur(sigma=(0.1, 2.0), p=1.0)(flat), flat)


def test_bad_arguments_raise() -> None:
    with pytest.raises(ValueError, match=r"sigma must be a finite number in \(0, inf\], got 0"):
        Blur(sigma=(0, 1))
    with pytest.raises(ValueError, match="sigma must not decrease"):
        Blur(sigma=(2, 1))
    with pytest.raises(ValueError, match="images must be larger than the blur's reach of 6 pixels"):
        Blur(sigma=(0.1, 2.0), p=1.0)(torch.rand(1, 1, 6, 30))
