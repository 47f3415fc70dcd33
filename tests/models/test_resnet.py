from __future__ import annotations

import copy

import pytest
import torch
from torch.nn.utils.fusion import fuse_conv_bn_eval

from sslmed.models import ResNetEncoder

NAMES = ["resnet18", "resnet34", "resnet50", "resnet101", "resnet152"]


def torchvision_maps(net: torch.nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    stem = net.relu(net.bn1(net.conv1(x)))
    one = net.layer1(net.maxpool(stem))
    two = net.layer2(one)
    three = net.layer3(two)
    return [stem, one, two, three, net.layer4(three)]


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_equals_torchvision_with_its_weights(name):
    from torchvision.models import get_model

    theirs = get_model(name, weights=None)
    ours = ResNetEncoder(name, in_channels=3)
    result = ours.load_state_dict(theirs.state_dict(), strict=False)
    assert result.missing_keys == []
    assert result.unexpected_keys == ["fc.weight", "fc.bias"]
    x = torch.randn(2, 3, 40, 56, generator=torch.Generator().manual_seed(0))
    for mode in (True, False):
        ours.train(mode)
        theirs.train(mode)
        with torch.no_grad():
            for a, b in zip(ours(x), torchvision_maps(theirs, x), strict=True):
                torch.testing.assert_close(a, b)


@pytest.mark.parametrize("name", NAMES)
def test_names_and_shapes_are_torchvisions(name):
    from torchvision.models import get_model

    with torch.device("meta"):
        theirs = {k: v.shape for k, v in get_model(name, weights=None).state_dict().items()}
        ours = {k: v.shape for k, v in ResNetEncoder(name, in_channels=3).state_dict().items()}
    del theirs["fc.weight"], theirs["fc.bias"]
    assert list(ours.items()) == list(theirs.items())


def test_initial_statistics_are_torchvisions():
    from torchvision.models import resnet18

    theirs = resnet18(weights=None).state_dict()
    for name, mine in ResNetEncoder("resnet18", in_channels=3).state_dict().items():
        if mine.ndim == 4:
            fan_out = mine.shape[0] * mine.shape[2] * mine.shape[3]
            assert mine.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.05)
            assert mine.std().item() == pytest.approx(theirs[name].std().item(), rel=0.08)
        else:
            assert torch.equal(mine, theirs[name])


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
@pytest.mark.parametrize("width", [64, 32, 6])
def test_channels_and_strides_describe_the_maps(name, width):
    encoder = ResNetEncoder(name, in_channels=2, width=width).eval()
    with torch.no_grad():
        maps = encoder(torch.rand(1, 2, 45, 70))
    expansion = 4 if name == "resnet50" else 1
    assert encoder.channels == (width, *(width * expansion * k for k in (1, 2, 4, 8)))
    assert tuple(m.shape[1] for m in maps) == encoder.channels
    assert [tuple(m.shape[2:]) for m in maps] == [(-(-45 // s), -(-70 // s)) for s in encoder.strides]


def test_paper_000_layer_40_shapes():
    encoder = ResNetEncoder("resnet50", in_channels=1).eval()
    with torch.no_grad():
        for size, side in ((224, 14), (37, 3), (32, 2)):
            assert encoder(torch.rand(1, 1, size, size))[3].shape == (1, 1024, side, side)


@pytest.mark.parametrize("size", [(16, 16), (12, 37), (1, 1)])
def test_patches_may_be_tiny(size):
    maps = ResNetEncoder("resnet18", width=8)(torch.rand(4, 1, *size))
    assert len(maps) == 5
    assert all(m.isfinite().all() for m in maps)


def test_keeps_channels_last_and_trains_in_bfloat16(device):
    encoder = ResNetEncoder("resnet18", width=8).to(device, memory_format=torch.channels_last)
    x = torch.rand(4, 1, 64, 64, device=device).contiguous(memory_format=torch.channels_last)
    with torch.autocast(device.type, dtype=torch.bfloat16):
        maps = encoder(x)
    assert all(m.is_contiguous(memory_format=torch.channels_last) for m in maps)
    sum(m.float().mean() for m in maps).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in encoder.parameters())


def test_compiles_in_one_graph():
    encoder = ResNetEncoder("resnet18", width=4).eval()
    compiled = torch.compile(encoder, fullgraph=True, backend="eager")
    x = torch.rand(1, 1, 32, 32)
    for a, b in zip(encoder(x), compiled(x), strict=True):
        torch.testing.assert_close(a, b)


def test_survives_a_round_trip_through_its_state():
    a, b = ResNetEncoder(width=4), ResNetEncoder(width=4)
    a(torch.rand(2, 1, 64, 64))
    b.load_state_dict(a.state_dict())
    x = torch.rand(1, 1, 32, 32)
    for left, right in zip(a.eval()(x), b.eval()(x), strict=True):
        assert torch.equal(left, right)


def test_bad_settings():
    with pytest.raises(ValueError, match=r"name must be one of 'resnet18'.*got 'resnet19'"):
        ResNetEncoder("resnet19")
    with pytest.raises(ValueError, match="in_channels must be at least 1, got 0"):
        ResNetEncoder(in_channels=0)
    with pytest.raises(TypeError, match="width must be an integer"):
        ResNetEncoder(width=32.0)


def test_bad_input():
    encoder = ResNetEncoder(width=4)
    with pytest.raises(ValueError, match=r"x must have shape \(B, 1, H, W\), got \(2, 3, 32, 32\)"):
        encoder(torch.rand(2, 3, 32, 32))
    with pytest.raises(ValueError, match=r"x must have shape \(B, 1, H, W\), got \(32, 32\)"):
        encoder(torch.rand(32, 32))
    with pytest.raises(TypeError, match=r"x must be a floating point tensor, got torch.uint8"):
        encoder(torch.zeros(2, 1, 32, 32, dtype=torch.uint8))


HEIGHTS, WIDTHS = (64, 96, 160, 256, 288, 257, 32, 64, 65, 40, 3), (32, 32, 32, 32, 32, 17, 96, 64, 33, 2, 1)


def relative_error(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a.detach().float() - b.detach()).norm() / b.detach().norm().clamp(min=1e-6))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["planar", "channels last"])
@pytest.mark.parametrize("how", ["autocast", "bfloat16 weights"])
@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_bfloat16_on_a_cpu_is_near_float32_for_images_of_any_shape(name, how, layout):
    torch.manual_seed(0)
    encoder = ResNetEncoder(name, width=32).to(memory_format=layout).eval()
    narrow = copy.deepcopy(encoder).bfloat16() if how == "bfloat16 weights" else encoder
    for size in zip(HEIGHTS, WIDTHS, strict=True):
        x = torch.rand(2, 1, *size).contiguous(memory_format=layout)
        with torch.no_grad():
            expected = encoder(x)
            with torch.autocast("cpu", torch.bfloat16, enabled=narrow is encoder):
                maps = narrow(x if narrow is encoder else x.bfloat16())
        errors = [relative_error(a, b) for a, b in zip(maps, expected, strict=True)]
        assert max(errors) < 0.1, (size, errors)


@pytest.mark.parametrize("size", [(16, 16), (8, 8), (96, 32), (40, 2)])
def test_small_and_narrow_images_train_in_bfloat16(size: tuple[int, int]) -> None:
    encoder = ResNetEncoder("resnet18", width=32)
    x = torch.rand(64 if size[0] < 40 else 8, 1, *size)
    direction = torch.randn_like(encoder(x)[-1])
    for _ in range(6):  # what it guards against reads memory left by others, so it differs from run to run
        gradients = []
        for half in (True, False):
            encoder.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled=half):
                last = encoder(x)[-1]
            (last.float() * direction).sum().backward()
            gradients.append({n: p.grad.clone() for n, p in encoder.layer4.named_parameters()})
        for name, gradient in gradients[0].items():
            error = (gradient - gradients[1][name]).norm() / gradients[1][name].norm()
            assert error < 0.6, (name, float(error))


@pytest.mark.parametrize("width", [8, 16])
def test_narrow_encoders_train_channels_last(width: int) -> None:
    torch.manual_seed(0)
    encoder, plain = ResNetEncoder("resnet18", width=width), ResNetEncoder("resnet18", width=width)
    plain.load_state_dict(encoder.state_dict())
    encoder = encoder.to(memory_format=torch.channels_last)
    x = torch.rand(8, 1, 48, 48)
    for net, images in ((encoder, x.contiguous(memory_format=torch.channels_last)), (plain, x)):
        net(images)[-1].square().mean().backward()
    for (name, p), q in zip(encoder.named_parameters(), plain.parameters(), strict=True):
        if "downsample.0" in name:
            torch.testing.assert_close(p.grad, q.grad, rtol=1e-3, atol=1e-6)


def test_batch_norms_can_be_fused_into_strided_convolutions() -> None:
    torch.manual_seed(0)
    encoder = ResNetEncoder("resnet18", width=8)
    encoder(torch.rand(4, 1, 64, 64))  # statistics
    fused = copy.deepcopy(encoder.eval())
    for stage in (fused.layer2, fused.layer3, fused.layer4):
        block = stage[0]
        block.conv1, block.bn1 = fuse_conv_bn_eval(block.conv1, block.bn1), torch.nn.Identity()
        convolution, norm = block.downsample
        block.downsample = torch.nn.Sequential(fuse_conv_bn_eval(convolution, norm))
    for size in ((64, 64), (64, 16)):
        x = torch.rand(2, 1, *size)
        for a, b in zip(fused(x), encoder(x), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
