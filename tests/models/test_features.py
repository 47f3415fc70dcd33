"""One feature vector per image, of any encoder."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from sslmed.models import ResNetEncoder, ResUNet, UNet, UNetFeatures, feature_width, pooled_features


@pytest.mark.parametrize(
    ("encoder", "width"),
    [
        (lambda: ResNetEncoder("resnet18", width=4), 32),
        (lambda: UNetFeatures(UNet(width=4), at="decoder"), 4),
        (lambda: UNetFeatures(UNet(width=4)), 64),
        (lambda: UNetFeatures(UNet(width=4), flat_size=45), 256),
        (lambda: UNetFeatures(ResUNet("resnet18", width=8), at="decoder"), 2),
        (lambda: UNetFeatures(ResUNet("resnet18", width=8)), 64),
    ],
)
def test_encoders_give_the_features_they_name_and_train_what_makes_them(
    encoder: Callable[[], nn.Module], width: int
) -> None:
    net = encoder()
    found = pooled_features(net, torch.rand(2, 1, 45, 45))
    assert found.shape == (2, feature_width(net)) == (2, width)
    found.square().sum().backward()
    for key, p in net.named_parameters():
        assert (p.grad is not None) == p.requires_grad, key


def test_pooled_features_are_means_of_the_maps() -> None:
    network, x = UNet(width=4).eval(), torch.rand(2, 1, 32, 32)
    torch.testing.assert_close(UNetFeatures(network, at="decoder")(x), network.decoder_maps(x)[-1].mean((2, 3)))
    torch.testing.assert_close(UNetFeatures(network)(x), network.encoder_maps(x)[-1].mean((2, 3)))
    residual = ResUNet("resnet18", width=8).eval()
    found = UNetFeatures(residual, at="decoder")(x)
    torch.testing.assert_close(found, residual.decoder_maps(x)[-1].mean((2, 3)))
    torch.testing.assert_close(UNetFeatures(residual)(x), residual.encoder(x)[-1].mean((2, 3)))
    flat = UNetFeatures(network, flat_size=32)(x)
    torch.testing.assert_close(flat, network.encoder_maps(x)[-1].contiguous().flatten(1))
    encoder = ResNetEncoder("resnet18", width=4).eval()
    torch.testing.assert_close(pooled_features(encoder, x), encoder(x)[-1].mean((2, 3)))
    torch.testing.assert_close(pooled_features(nn.Flatten(), x), x.flatten(1))


def test_mistakes_are_named() -> None:
    with pytest.raises(ValueError, match="at must be one of 'bottom', 'decoder', got 'middle'"):
        UNetFeatures(UNet(width=4), at="middle")
    with pytest.raises(ValueError, match="flat_size must be None for at='decoder'"):
        UNetFeatures(UNet(width=4), at="decoder", flat_size=32)
    with pytest.raises(ValueError, match="flat_size must be at least 32, got 8"):
        UNetFeatures(UNet(width=4), flat_size=8)
    with pytest.raises(ValueError, match="flat_size must be None for a ResUNet"):
        UNetFeatures(ResUNet("resnet18", width=8), flat_size=32)
    with pytest.raises(ValueError, match="Identity does not tell its number of features"):
        feature_width(nn.Identity())
    with pytest.raises(ValueError, match=r"encoder must return .* got shape \(2, 1, 1024\)"):
        pooled_features(nn.Flatten(2), torch.rand(2, 1, 32, 32))
