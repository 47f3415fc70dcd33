from __future__ import annotations

import pytest
import torch

from sslmed.models import ResNetEncoder, ResUNet, UNet

NETS = {
    "unet": lambda **k: UNet(**k),
    "resnet18": lambda **k: ResUNet("resnet18", **k),
    "resnet50": lambda **k: ResUNet("resnet50", **k),
}


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("size", [(32, 32), (33, 47), (64, 96), (63, 200), (37, 38)])
def test_logits_have_the_images_size(name, size):
    net = NETS[name](in_channels=2, classes=3, width=4)
    assert net(torch.rand(2, 2, *size)).shape == (2, 3, *size)


@pytest.mark.parametrize("name", NETS)
def test_every_parameter_gets_a_gradient(name):
    net = NETS[name](width=4)
    net(torch.rand(2, 1, 64, 64)).square().mean().backward()
    for key, p in net.named_parameters():
        assert p.grad is not None, key
        assert p.grad.isfinite().all(), key
        assert p.grad.abs().sum() > 0, key


@pytest.mark.parametrize("name", NETS)
def test_learns_to_copy_a_mask(name):
    torch.manual_seed(0)
    net = NETS[name](width=16)
    x = torch.zeros(4, 1, 32, 32)
    for k in range(4):
        x[k, :, 4 * k : 4 * k + 12, 6:20] = 1.0
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    for _ in range(40):
        loss = torch.nn.functional.binary_cross_entropy_with_logits(net(x), x)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert ((net(x) > 0) == x.bool()).float().mean() > 0.97


@pytest.mark.parametrize("name", NETS)
def test_works_in_channels_last_and_bfloat16(name, device):
    net = NETS[name](width=8).to(device, memory_format=torch.channels_last)
    x = torch.rand(2, 1, 48, 48, device=device).contiguous(memory_format=torch.channels_last)
    reference = net.eval()(x)
    with torch.autocast(device.type, dtype=torch.bfloat16):
        logits = net(x)
    # Single pixels may be far off, by how a processor sums in bfloat16; the map as a whole may not.
    assert (logits.float() - reference).norm() < 0.25 * reference.norm()


def test_decoder_widths():
    convs = [block.block[3].out_channels for block in ResUNet(width=64).up]
    assert convs == [256, 128, 64, 32, 16]
    assert [block.block[3].out_channels for block in ResUNet(width=32).up] == [128, 64, 32, 16, 8]
    assert [block[0].out_channels for block in UNet(width=8).down] == [8, 16, 32, 64, 128]


@pytest.mark.parametrize(("name", "blocks"), [("unet", 4), ("resnet18", 5), ("resnet50", 5)])
def test_the_logits_come_from_the_finest_decoder_map(name, blocks):
    net = NETS[name](width=4).eval()
    x = torch.rand(2, 1, 45, 50)
    maps = net.decoder_maps(x)
    assert len(maps) == blocks == len(net.up)
    torch.testing.assert_close(net.out(maps[-1]), net(x))
    for k in range(1, blocks + 1):
        few = net.decoder_maps(x, blocks=k)
        assert len(few) == k
        torch.testing.assert_close(few, maps[:k])


def test_shapes_of_the_inner_maps():
    x = torch.rand(2, 1, 45, 50)
    sides = [(45, 50), (22, 25), (11, 12), (5, 6), (2, 3)]
    net = UNet(width=4)
    assert [m.shape for m in net.encoder_maps(x)] == [(2, 4 * 2**k, *side) for k, side in enumerate(sides)]
    expected = [(2, 4 * 2**k, *sides[k]) for k in (3, 2, 1, 0)]
    assert [m.shape for m in net.decoder_maps(x)] == expected
    sides = [(3, 4), (6, 7), (12, 13), (23, 25), (45, 50)]
    expected = [(2, 16 // 2**k, *side) for k, side in enumerate(sides)]
    assert [m.shape for m in ResUNet(width=4).decoder_maps(x)] == expected


@pytest.mark.parametrize("name", ["unet", "resnet18"])
def test_only_the_decoder_blocks_asked_for_run(name):
    net = NETS[name](width=4)
    net.decoder_maps(torch.rand(2, 1, 32, 32), blocks=2)[-1].square().mean().backward()
    used = [all(p.grad is not None for p in up.parameters()) for up in net.up]
    counts = [int(up.block[1].num_batches_tracked) for up in net.up]
    assert used == [True, True] + [False] * (len(net.up) - 2)
    assert counts == [1, 1] + [0] * (len(net.up) - 2)
    assert net.out.weight.grad is None


def test_names_in_the_state_stay():
    names = {".".join(part for part in key.split(".")[:3] if not part.isdigit()) for key in UNet(width=4).state_dict()}
    assert names == {"down", "up.block", "out.weight", "out.bias"}
    assert {key.split(".")[0] for key in ResUNet(width=4).state_dict()} == {"encoder", "up", "out"}


@pytest.mark.parametrize(("name", "most"), [("unet", 4), ("resnet18", 5)])
def test_decoder_blocks_out_of_range(name, most):
    net, x = NETS[name](width=4), torch.rand(1, 1, 32, 32)
    with pytest.raises(ValueError, match=rf"blocks must be in 1\.\.{most}, got 0"):
        net.decoder_maps(x, blocks=0)
    with pytest.raises(ValueError, match=rf"blocks must be in 1\.\.{most}, got {most + 1}"):
        net.decoder_maps(x, blocks=most + 1)


def test_encoder_maps_check_their_image():
    with pytest.raises(ValueError, match=r"x must have shape \(B, 1, H, W\), got \(1, 3, 64, 64\)"):
        UNet(width=4).encoder_maps(torch.rand(1, 3, 64, 64))


def test_a_given_encoder_is_used_and_not_touched():
    encoder = ResNetEncoder("resnet34", in_channels=3, width=8)
    before = {k: v.clone() for k, v in encoder.state_dict().items()}
    net = ResUNet(encoder, classes=2)
    assert net.encoder is encoder
    assert all(torch.equal(before[k], v) for k, v in net.encoder.state_dict().items())
    assert net(torch.rand(1, 3, 64, 64).expand(2, -1, -1, -1)).shape == (2, 2, 64, 64)


def test_compiles_in_one_graph():
    net = ResUNet("resnet18", width=4).eval()
    compiled = torch.compile(net, fullgraph=True, backend="eager")
    x = torch.rand(1, 1, 33, 40)
    torch.testing.assert_close(net(x), compiled(x))


def test_bad_settings():
    with pytest.raises(TypeError, match="encoder must be a name, a ResNetEncoder or a FeatureEncoder, got Linear"):
        ResUNet(torch.nn.Linear(2, 2))
    with pytest.raises(ValueError, match="name must be one of"):
        ResUNet("vgg")
    with pytest.raises(ValueError, match="width must be a multiple of 4 for the decoder, got 6"):
        ResUNet(width=6)
    with pytest.raises(ValueError, match="classes must be at least 1, got 0"):
        UNet(classes=0)
    with pytest.raises(ValueError, match="in_channels=3 and width=64 contradict the given encoder"):
        ResUNet(ResNetEncoder(width=8), in_channels=3)
    with pytest.raises(ValueError, match="in_channels=1 and width=16 contradict the given encoder"):
        ResUNet(ResNetEncoder(width=8), width=16)


@pytest.mark.parametrize("name", ["unet", "resnet18"])
def test_bad_input(name):
    net = NETS[name](width=4)
    with pytest.raises(ValueError, match=r"x must be at least 32 pixels high and wide, got shape"):
        net(torch.rand(1, 1, 31, 64))
    with pytest.raises(ValueError, match=r"x must have shape \(B, 1, H, W\), got \(1, 3, 64, 64\)"):
        net(torch.rand(1, 3, 64, 64))
    with pytest.raises(TypeError, match="x must be a floating point tensor"):
        net(torch.zeros(1, 1, 64, 64, dtype=torch.uint8))
