"""Any network as an encoder: which of its maps come back, and with which weights."""

from __future__ import annotations

import copy
import importlib
import pickle
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torchvision import models as vision

from sslmed.models import FeatureEncoder, ResNetEncoder, ResUNet, feature_width, load_encoder, pooled_features

CHANNELS = {
    "resnet18": (64, 64, 128, 256, 512),
    "mobilenet_v3_small": (16, 16, 24, 48, 576),
    "shufflenet_v2_x0_5": (24, 24, 48, 96, 1024),
    "regnet_y_400mf": (32, 48, 104, 208, 440),
    "densenet121": (64, 256, 512, 1024, 1024),
    "googlenet": (64, 192, 480, 832, 1024),
}
SETTINGS = {"googlenet": {"init_weights": False}}


class Pyramid(nn.Module):
    """Maps of strides 1, 2, 2, 4 and 8, the last with its channels last; a part that none depends on."""

    def __init__(self, in_channels: int = 1, conv: Callable[..., nn.Module] = nn.Conv2d) -> None:
        super().__init__()
        self.stem = conv(in_channels, 4, 3, padding=1)
        self.down = nn.ModuleList(nn.Conv2d(4, 4, 3, stride=2, padding=1) for _ in range(3))
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = [self.stem(x)]
        maps += [self.down[0](maps[-1]), self.down[0](maps[-1]).relu()]
        maps.append(self.down[1](maps[-1]))
        return [*maps, self.down[2](maps[-1]).permute(0, 2, 3, 1)]


class Standardised(nn.Conv2d):
    """A convolution whose weight is standardised over each filter, as timm's StdConv2d."""

    def forward(self, input: Tensor) -> Tensor:
        mean, std = (f(self.weight, (1, 2, 3), keepdim=True) for f in (torch.mean, torch.std))
        return self._conv_forward(input, (self.weight - mean) / std, self.bias)


def weight_normed(*sizes: int, **settings: int) -> nn.Module:
    return nn.utils.parametrizations.weight_norm(nn.Conv2d(*sizes, **settings))


def spectrally_normed(*sizes: int, **settings: int) -> nn.Module:
    """By hooks, as torch did before its parametrizations."""
    return nn.utils.spectral_norm(nn.Conv2d(*sizes, **settings))  # type: ignore[no-untyped-call,no-any-return]


def images(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", CHANNELS)
def test_maps_are_the_last_of_each_size(name: str) -> None:
    encoder = FeatureEncoder(getattr(vision, name)(weights=None, **SETTINGS.get(name, {}))).eval()
    assert encoder.channels == CHANNELS[name]
    assert encoder.strides == (2, 4, 8, 16, 32)
    maps = encoder(images(1, 1, 96, 64))
    expected = [(1, c, 96 // s, 64 // s) for c, s in zip(encoder.channels, encoder.strides, strict=True)]
    assert [tuple(m.shape) for m in maps] == expected
    assert not any(key.startswith(("network.fc", "network.classifier")) for key in encoder.state_dict())
    assert all(p.requires_grad for p in encoder.parameters())


def test_a_resnets_maps_are_those_of_resnet_encoder() -> None:
    network = vision.resnet18(weights=None).eval()
    own = ResNetEncoder("resnet18").eval()
    load_encoder(own, network.state_dict())
    x = images(2, 1, 65, 80)
    torch.testing.assert_close(FeatureEncoder(network)(x), own(x))


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "densenet121"])
def test_gray_images_give_what_they_give_as_rgb(name: str) -> None:
    network = getattr(vision, name)(weights=None).eval()
    x = images(2, 1, 64, 64)
    rgb, gray = FeatureEncoder(network, in_channels=3), FeatureEncoder(network)
    bottom = network.features(x.expand(-1, 3, -1, -1))
    torch.testing.assert_close(rgb(x.expand(-1, 3, -1, -1))[-1], bottom)
    torch.testing.assert_close(gray(x)[-1], bottom, rtol=1e-4, atol=1e-4)
    assert next(network.parameters()).shape[1] == 3  # the network itself is left alone


def test_a_gray_stem_is_spread_over_rgb() -> None:
    network, x = Pyramid().eval(), images(2, 1, 32, 32)
    maps = FeatureEncoder(network, in_channels=3)(x.expand(-1, 3, -1, -1))
    torch.testing.assert_close(maps, FeatureEncoder(network)(x))


@pytest.mark.parametrize("conv", [Standardised, weight_normed, spectrally_normed])
@torch.no_grad()
def test_a_stem_that_changes_its_weight_is_kept(conv: Callable[..., nn.Module]) -> None:
    rgb, gray, x = Pyramid(3, conv).eval(), Pyramid(1, conv).eval(), images(2, 3, 32, 32)
    encoder = FeatureEncoder(rgb)
    maps = rgb(x[:, :1].expand(-1, 3, -1, -1))
    torch.testing.assert_close(encoder(x[:, :1]), [maps[2], maps[3], maps[4].permute(0, 3, 1, 2)])
    maps = gray(x.mean(dim=1, keepdim=True))
    torch.testing.assert_close(FeatureEncoder(gray, in_channels=3)(x), [maps[2], maps[3], maps[4].permute(0, 3, 1, 2)])
    for network, channels in ((rgb, 3), (gray, 1)):
        own = FeatureEncoder(network, in_channels=channels)
        torch.testing.assert_close(own.network.state_dict(), network.state_dict())
    assert ResUNet(encoder, width=8)(x[:, :1]).shape == (2, 1, 32, 32)
    assert load_encoder(encoder, Pyramid(3, conv).state_dict()).adapted == ()


def test_a_classifier_whose_stem_changes_its_weight() -> None:
    network = nn.Sequential(
        Standardised(3, 4, 3, stride=2, padding=1),
        nn.Conv2d(4, 6, 3, stride=2, padding=1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(6, 2),
    ).eval()
    x = images(2, 1, 32, 32)
    torch.testing.assert_close(FeatureEncoder(network)(x)[-1], network[:2](x.expand(-1, 3, -1, -1)))


@pytest.mark.parametrize("conv", [Standardised, weight_normed, spectrally_normed])
def test_weights_for_rgb_are_not_summed_where_that_would_be_wrong(conv: Callable[..., nn.Module]) -> None:
    network, state = Pyramid(1, conv), Pyramid(3, conv).state_dict()
    before = copy.deepcopy(network.state_dict())
    name = next(key for key, value in state.items() if value.ndim == 4 and value.shape[1] == 3)
    for target in (network, FeatureEncoder(network)):
        with pytest.raises(
            ValueError, match=rf"{name} has three input channels .* cannot be summed over them"
        ) as error:
            load_encoder(target, {f"net.{key}": value for key, value in state.items()}, minimum=0.0)
        assert f"state['net.{name}'] = state['net.{name}'].sum(1, keepdim=True)" in str(error.value)
    torch.testing.assert_close(network.state_dict(), before, rtol=0, atol=0)
    state[name] = state[name].sum(1, keepdim=True)  # meant so
    if conv is Standardised:
        assert load_encoder(network, state).fraction == 1.0


def test_weights_for_rgb_are_not_summed_into_a_convolution_of_groups() -> None:
    target, state = nn.Sequential(nn.Conv2d(3, 6, 3, groups=3)), nn.Sequential(nn.Conv2d(3, 6, 3)).state_dict()
    with pytest.raises(ValueError, match="cannot be summed"):
        load_encoder(target, state)


def test_of_a_list_the_last_map_of_each_size_counts() -> None:
    network, x = Pyramid(), images(2, 1, 48, 64)
    encoder, maps = FeatureEncoder(network), network(x)
    assert (encoder.channels, encoder.strides) == ((4, 4, 4), (2, 4, 8))
    torch.testing.assert_close(encoder(x), [maps[2], maps[3], maps[4].permute(0, 3, 1, 2)])
    frozen = [name for name, p in encoder.named_parameters() if not p.requires_grad]
    assert frozen == ["network.head.weight", "network.head.bias"]


@pytest.mark.parametrize("make", [vision.mobilenet_v3_small, Pyramid], ids=["classifier", "list"])
@pytest.mark.parametrize("size", [(32, 32), (45, 70)])
def test_a_unet_on_any_encoder(make: Callable[[], nn.Module], size: tuple[int, int]) -> None:
    net = ResUNet(FeatureEncoder(make()), classes=2, width=8)
    x = images(2, 1, *size)
    assert net(x).shape == (2, 2, *size)
    assert len(net.decoder_maps(x)) == len(net.up) == len(net.encoder.channels)
    assert net.decoder_maps(x)[0].shape[1] == 32
    net(x).square().mean().backward()
    for name, p in net.named_parameters():
        assert (p.grad is not None) == p.requires_grad, name
    assert pooled_features(net.encoder, x).shape == (2, feature_width(net.encoder))


def test_weights_are_loaded_by_the_networks_own_names() -> None:
    torch.manual_seed(0)
    net = ResUNet(FeatureEncoder(vision.mobilenet_v3_small()), width=8)
    other = vision.mobilenet_v3_small()
    report = load_encoder(net, {f"module.{name}": value for name, value in other.state_dict().items()})
    assert report.fraction == 1.0
    assert report.adapted == ("features.0.0.weight",)
    assert all(name.startswith("module.classifier") for name in report.unexpected)
    x = images(2, 1, 64, 64)
    torch.testing.assert_close(net.eval().encoder(x), FeatureEncoder(other.eval())(x))


@pytest.mark.parametrize("training", [True, False])
def test_the_network_stays_as_it_was(training: bool) -> None:
    network = vision.mobilenet_v3_small().train(training)
    before = copy.deepcopy(network.state_dict())
    encoder = FeatureEncoder(network)
    assert network.training == training
    assert all(m.training == training for m in encoder.network.modules())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(
        torch.equal(value, before[name]) for name, value in encoder.network.state_dict().items() if value.ndim == 1
    )


def test_blocks_keep_what_differs_between_training_and_evaluation() -> None:
    encoder, x = FeatureEncoder(vision.efficientnet_b0(stochastic_depth_prob=0.9)), images(8, 1, 64, 64)
    torch.manual_seed(0)
    first, second = encoder.train()(x), encoder(x)
    assert not torch.equal(first[-1], second[-1])
    encoder.eval()
    assert torch.equal(encoder(x)[-1], encoder(x)[-1])


def test_copies_and_compiled_encoders_do_the_same() -> None:
    encoder, x = FeatureEncoder(vision.mobilenet_v3_small()).eval(), images(2, 1, 64, 64)
    want = encoder(x)
    compiled = torch.compile(encoder, fullgraph=True, backend="eager")
    for other in (copy.deepcopy(encoder), pickle.loads(pickle.dumps(encoder)), compiled):
        torch.testing.assert_close(other(x), want)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_network_of_another_dtype(dtype: torch.dtype) -> None:
    encoder = FeatureEncoder(Pyramid().to(dtype))
    assert [m.dtype for m in encoder(images(1, 1, 32, 32).to(dtype))] == [dtype] * 3


class Looks(nn.Module):
    """A forward pass that depends on values."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return y.mean((2, 3)) if y.sum() > 0 else y.amax((2, 3))


def test_networks_that_do_not_serve() -> None:
    for network, message in (
        (
            nn.Linear(3, 3),
            "network must have a first convolution for 1 or 3 channels, for in_channels=1, got none",
        ),
        (nn.Conv2d(2, 3, 3), "got one for 2"),
        (
            nn.Sequential(nn.Conv2d(3, 4, 3)),
            "network Sequential must have feature maps .* got 0; give one",
        ),
        (Looks(), "network Looks returns no list of feature maps, and its forward pass cannot be traced"),
        (
            nn.Sequential(nn.Conv2d(1, 4, 3), nn.Linear(3, 3)),
            r"network Sequential must take images \(B, 1, 128, 128\)",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            FeatureEncoder(network)
    with pytest.raises(TypeError, match=r"network must be a torch\.nn\.Module, got str"):
        FeatureEncoder("resnet18")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"in_channels must be in 1\.\.3, got 4"):
        FeatureEncoder(Pyramid(), in_channels=4)
    with pytest.raises(ValueError, match="for in_channels=2, got one for 1"):
        FeatureEncoder(Pyramid(), in_channels=2)
    with pytest.raises(ValueError, match=r"x must have shape \(B, 1, H, W\), got \(1, 3, 32, 32\)"):
        FeatureEncoder(Pyramid())(images(1, 3, 32, 32))
    with pytest.raises(ValueError, match="width must be a multiple of 4 for the decoder, got 6"):
        ResUNet(FeatureEncoder(Pyramid()), width=6)


def of_timm(name: str, **settings: object) -> nn.Module:
    return importlib.import_module("timm").create_model(name, **settings)  # type: ignore[no-any-return]


def of_smp(name: str) -> nn.Module:
    return importlib.import_module("segmentation_models_pytorch").encoders.get_encoder(name, weights=None)  # type: ignore[no-any-return]


def of_monai(name: str) -> nn.Module:
    nets = importlib.import_module("monai.networks.nets.flexible_unet")
    make = nets.FLEXUNET_BACKBONE.register_dict[name]["type"]
    return make(model_name=name, pretrained=False, in_channels=1, spatial_dims=2)  # type: ignore[no-any-return]


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore")  # of the libraries
@pytest.mark.parametrize(
    ("library", "make", "channels"),
    [
        ("timm", lambda: of_timm("resnet18", features_only=True), (64, 64, 128, 256, 512)),
        ("timm", lambda: of_timm("resnet18"), (64, 64, 128, 256, 512)),
        ("timm", lambda: of_timm("efficientnet_lite0", features_only=True), (16, 24, 40, 112, 320)),
        ("timm", lambda: of_timm("convnext_atto", features_only=True), (40, 80, 160, 320)),
        ("segmentation_models_pytorch", lambda: of_smp("resnet18"), (64, 64, 128, 256, 512)),
        ("segmentation_models_pytorch", lambda: of_smp("efficientnet-b0"), (32, 24, 40, 112, 320)),
        ("monai", lambda: of_monai("resnet18"), (64, 64, 128, 256, 512)),
    ],
)
def test_networks_of_other_libraries(library: str, make: Callable[[], nn.Module], channels: tuple[int, ...]) -> None:
    pytest.importorskip(library)
    network = make()
    encoder = FeatureEncoder(network)
    assert encoder.channels == channels
    assert ResUNet(encoder, width=8)(images(2, 1, 64, 96)).shape == (2, 1, 64, 96)
    if library != "monai":  # whose modules have other names within
        assert load_encoder(encoder, network.state_dict()).fraction == 1.0
