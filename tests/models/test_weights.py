from __future__ import annotations

import copy
import dataclasses
from pathlib import Path

import pytest
import torch
from torch import nn

from sslmed.models import MatchReport, ResNetEncoder, ResUNet, load_encoder

NAMES = ["resnet18", "resnet34", "resnet50", "resnet101", "resnet152"]


def encoder(**settings) -> ResNetEncoder:
    return ResNetEncoder("resnet18", **{"width": 4, **settings})


def snapshot(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {k: v.clone() for k, v in model.state_dict().items()}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize("prefix", ["", "module.", "encoder.", "model.encoder.", "net.backbone.", "_orig_mod."])
def test_any_prefix_is_found(prefix):
    source, target = encoder(), encoder()
    report = load_encoder(target, {prefix + k: v for k, v in source.state_dict().items()})
    assert same(target.state_dict(), source.state_dict())
    assert report.prefix == prefix
    assert report.missing == report.unexpected == report.mismatched == report.adapted == ()
    assert len(report.matched) == sum("num_batches" not in k for k in source.state_dict())
    assert report.fraction == 1.0


def test_torchvision_weights_load_into_one_channel_and_are_equivalent():
    from torchvision.models import resnet18

    theirs = resnet18(weights=None).eval()
    ours = ResNetEncoder("resnet18", in_channels=1).eval()
    report = load_encoder(ours, theirs.state_dict())
    assert report.unexpected == ("fc.weight", "fc.bias")
    assert report.adapted == ("conv1.weight",)
    assert "conv1.weight" in report.matched
    x = torch.rand(2, 1, 48, 48)
    with torch.no_grad():
        expected = theirs.relu(theirs.bn1(theirs.conv1(x.expand(-1, 3, -1, -1))))
        torch.testing.assert_close(ours(x)[0], expected, rtol=1e-5, atol=1e-5)


def test_three_channels_into_three_are_copied():
    source, target = encoder(in_channels=3), encoder(in_channels=3)
    assert load_encoder(target, source.state_dict()).adapted == ()
    assert same(target.state_dict(), source.state_dict())


@pytest.mark.parametrize("wrap", ["state_dict", "model", None])
def test_files_and_checkpoints(tmp_path, wrap):
    source, target = encoder(), encoder()
    content = source.state_dict()
    if wrap is not None:
        content = {wrap: content, "epoch": 3, "loss": torch.ones(())}
    path = tmp_path / "weights.pt"
    torch.save(content, path)
    for where in (path, str(path)):
        load_encoder(target, where)
    assert same(target.state_dict(), source.state_dict())


def test_a_segmentation_network_gets_its_encoder():
    source, net = encoder(), ResUNet("resnet18", width=4)
    decoder = {k: v.clone() for k, v in net.state_dict().items() if not k.startswith("encoder.")}
    report = load_encoder(net, source.state_dict())
    assert same(net.encoder.state_dict(), source.state_dict())
    assert all(torch.equal(v, net.state_dict()[k]) for k, v in decoder.items())
    assert report.missing == ()


def test_a_segmentation_checkpoint_gives_its_encoder():
    net, target = ResUNet("resnet18", width=4), encoder()
    report = load_encoder(target, net.state_dict())
    assert report.prefix == "encoder."
    assert len(report.unexpected) == len(net.state_dict()) - len(target.state_dict())
    assert same(target.state_dict(), net.encoder.state_dict())


def test_checkpoints_without_batch_counters_are_complete():
    source = {k: v for k, v in encoder().state_dict().items() if "num_batches" not in k}
    assert load_encoder(encoder(), source, minimum=1.0).missing == ()


def test_half_precision_weights_keep_the_models_dtype():
    source, target = encoder(in_channels=3).half(), encoder()
    load_encoder(target, source.state_dict())
    assert target.conv1.weight.dtype == torch.float32
    expected = source.conv1.weight.detach().float().sum(1, keepdim=True)
    torch.testing.assert_close(target.conv1.weight.detach(), expected, rtol=0, atol=0)


def test_a_poor_match_raises_and_changes_nothing():
    target = encoder()
    before = snapshot(target)
    renamed = {k.replace("layer", "stage"): v for k, v in encoder().state_dict().items()}
    message = r"(?s)only 5% of the encoder's tensors .* 90%; nothing was loaded.*missing: layer1"
    with pytest.raises(ValueError, match=message):
        load_encoder(target, renamed)
    assert same(before, snapshot(target))


def test_nothing_at_all_in_common_raises_even_without_a_minimum():
    with pytest.raises(ValueError, match="only 0% of the encoder's tensors"):
        load_encoder(encoder(), {"a.weight": torch.ones(2)}, minimum=0.0)


def test_another_width_is_mismatched_and_its_shapes_are_told():
    target = encoder()
    before = snapshot(target)
    message = r"(?s)mismatched: .*conv1.weight: \(8, 1, 7, 7\) in the checkpoint, \(4, 1, 7, 7\) in the model"
    with pytest.raises(ValueError, match=message):
        load_encoder(target, encoder(width=8).state_dict())
    assert same(before, snapshot(target))


def test_a_lower_minimum_loads_what_fits():
    source = {k: v for k, v in encoder().state_dict().items() if not k.startswith("layer4")}
    source["layer1.0.conv1.weight"] = torch.zeros(2, 2)
    target = encoder()
    before = snapshot(target)
    report = load_encoder(target, source, minimum=0.5)
    assert report.mismatched == ("layer1.0.conv1.weight",)
    assert report.missing
    assert all(k.startswith("layer4") for k in report.missing)
    after = target.state_dict()
    assert all(torch.equal(after[k], before[k]) for k in (*report.missing, *report.mismatched))
    assert all(torch.equal(after[k], source[k]) for k in report.matched)


def test_two_encoders_that_fit_alike_are_a_question():
    target = encoder()
    before = snapshot(target)
    both = {}
    for prefix in ("left.", "right."):
        both.update({prefix + k: v for k, v in encoder().state_dict().items()})
    with pytest.raises(ValueError, match=r"2 encoders .* under \['left\.', 'right\.'\]; choose one, as part='left\.'"):
        load_encoder(target, both)
    assert same(before, snapshot(target))
    for part in ("right", "right."):
        assert load_encoder(target, both, part=part).prefix == "right."
        assert same(target.state_dict(), {k[6:]: v for k, v in both.items() if k.startswith("right.")})


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_broken_weights_are_refused(value):
    source, target = encoder().state_dict(), encoder()
    before = snapshot(target)
    source["layer2.0.bn1.running_var"][0] = value
    with pytest.raises(ValueError, match=r"NaN or infinite values in layer2.0.bn1.running_var; nothing"):
        load_encoder(target, source)
    assert same(before, snapshot(target))


def test_values_that_are_infinite_in_the_models_dtype_are_refused():
    source, target = encoder().state_dict(), encoder().half()
    before = snapshot(target)
    source["layer2.0.bn1.running_var"][0] = 1e6
    with pytest.raises(ValueError, match=r"infinite values in layer2.0.bn1.running_var; .* torch.float16"):
        load_encoder(target, source)
    assert same(before, snapshot(target))
    wide = encoder(in_channels=3).state_dict()  # each finite in half precision, their sum not
    wide["conv1.weight"].fill_(3e4)
    with pytest.raises(ValueError, match=r"infinite values in conv1.weight"):
        load_encoder(target, {k: v.half() if v.is_floating_point() else v for k, v in wide.items()})
    assert same(before, snapshot(target))


@pytest.mark.parametrize("theirs", NAMES)
@pytest.mark.parametrize("ours", NAMES)
def test_no_resnet_takes_the_weights_of_another(states, ours, theirs):
    model, prefix = copy.deepcopy(states[ours]), "module.encoder."
    state = {prefix + k: v for k, v in states[theirs].state_dict().items()}
    state |= {prefix + "fc.weight": torch.ones(2), "projector.0.weight": torch.ones(2)}
    if ours == theirs:
        report = load_encoder(model, state, minimum=0.0)
        assert report.fraction == 1
        assert len(report.unexpected) == 2
        return
    before = snapshot(model)
    with pytest.raises(ValueError, match=r"of another architecture|only \d+% of"):
        load_encoder(model, state)
    assert same(before, snapshot(model))


@pytest.fixture(scope="module")
def states() -> dict[str, ResNetEncoder]:
    return {name: ResNetEncoder(name, width=1) for name in NAMES}


def test_a_deeper_checkpoint_names_the_surplus():
    message = r"the encoder lacks 80 tensors inside its parts, as layer1.2.conv1.weight; nothing was"
    with pytest.raises(ValueError, match=message):
        load_encoder(encoder(), ResNetEncoder("resnet34", width=4).state_dict())


class Wrapped(nn.Module):
    """An encoder whose head was replaced, beside a small projector."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(*(part for _ in "ab" for part in (nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4))))
        self.backbone.register_buffer("positions", torch.zeros(2), persistent=False)
        self.backbone.fc = nn.Identity()
        self.projector = nn.Linear(4, 2)


@pytest.mark.parametrize(
    "name", ["fc.weight", "backbone.fc.weight", "backbone.classifier.0.bias", "backbone.positions"]
)
def test_heads_and_old_buffers_are_left_out(name):
    report = load_encoder(Wrapped(), Wrapped().state_dict() | {name: torch.ones(2)})
    assert report.unexpected == (name,)


@pytest.mark.parametrize(
    "name", ["backbone.4.weight", "backbone.0.extra", "backbone.1.scale.weight", "projector.scale"]
)
def test_more_layers_are_no_head(name):
    model = Wrapped()
    before = snapshot(model)
    with pytest.raises(ValueError, match=rf"another architecture: the encoder lacks 1 .* as {name}"):
        load_encoder(model, Wrapped().state_dict() | {name: torch.ones(2)})
    assert same(before, snapshot(model))


def test_the_norm_of_a_head_is_left_out_though_the_stem_has_one():
    head = {"conv_head.weight": torch.ones(2, 2, 1, 1), "bn2.weight": torch.ones(2), "bn2.bias": torch.ones(2)}
    assert load_encoder(encoder(), encoder().state_dict() | head).unexpected == tuple(head)  # as timm's EfficientNets
    with pytest.raises(ValueError, match=r"the encoder lacks 1 .* as conv2\.weight"):
        load_encoder(encoder(), encoder().state_dict() | head | {"conv2.weight": torch.ones(2, 2, 1, 1)})


def test_an_encoder_that_ends_earlier_takes_what_is_left_for_it():
    source, target = encoder().state_dict(), encoder()
    target.layer4 = nn.Identity()
    assert load_encoder(target, source).missing == ()  # as an Identity says
    del target.layer4
    with pytest.raises(ValueError, match=r"as layer4.0.conv1.weight; .*ends earlier on purpose"):
        load_encoder(target, source)
    assert load_encoder(target, {k: v for k, v in source.items() if "layer4" not in k}).unexpected == ()


@pytest.mark.parametrize("channels", [(1, 3), (3, 2), (4, 1), (None, 1)])
def test_a_first_convolution_that_would_stay_random_is_refused(channels):
    theirs, ours = channels
    source = encoder(in_channels=theirs or 1).state_dict()
    if theirs is None:
        del source["conv1.weight"]
    target = encoder(in_channels=ours)
    before = snapshot(target)
    for minimum in (0.9, 0.0):
        with pytest.raises(ValueError, match=r"the first convolution conv1.weight would stay random"):
            load_encoder(target, source, minimum=minimum)
    assert same(before, snapshot(target))
    source["conv1.weight"] = target.conv1.weight.detach()  # meant so
    assert load_encoder(target, source).fraction == 1


def test_bad_sources(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no weights file at .*missing\.pt"):
        load_encoder(encoder(), tmp_path / "missing.pt")
    with pytest.raises(FileNotFoundError, match="no weights file at"):
        load_encoder(encoder(), tmp_path)
    (tmp_path / "text.pt").write_text("these are no weights")
    with pytest.raises(ValueError, match=r"text\.pt cannot be read as plain tensors"):
        load_encoder(encoder(), tmp_path / "text.pt")
    (tmp_path / "empty.pt").touch()
    with pytest.raises(ValueError, match=r"empty\.pt cannot be read as plain tensors"):
        load_encoder(encoder(), tmp_path / "empty.pt")
    torch.save(encoder(), tmp_path / "module.pt")
    with pytest.raises(ValueError, match=r"module\.pt cannot be read as plain tensors"):
        load_encoder(encoder(), tmp_path / "module.pt")
    torch.save([torch.ones(2)], tmp_path / "list.pt")
    with pytest.raises(TypeError, match=r"list\.pt must be a state dict, or a path to one, got list"):
        load_encoder(encoder(), tmp_path / "list.pt")
    with pytest.raises(TypeError, match="state_or_path must be a state dict, or a path to one, got Linear"):
        load_encoder(encoder(), torch.nn.Linear(2, 2))
    with pytest.raises(ValueError, match=r"state_or_path holds no tensors, its keys are \['epoch'\]"):
        load_encoder(encoder(), {"epoch": 3})


def test_bad_settings():
    with pytest.raises(ValueError, match=r"minimum must be a finite number in \[0, 1\], got 90"):
        load_encoder(encoder(), encoder().state_dict(), minimum=90)
    with pytest.raises(TypeError, match=r"model must be a torch.nn.Module, got str"):
        load_encoder("resnet18", encoder().state_dict())


def test_the_report_reads_well_and_cannot_be_changed():
    names = tuple(f"layer.{k}" for k in range(8))
    report = MatchReport(matched=("a", "b"), missing=names, unexpected=("fc.weight",), mismatched=(), prefix="module.")
    assert str(report).splitlines() == [
        "matched 2 of 10 tensors (20%)",
        "prefix cut from the checkpoint's names: module.",
        "missing: layer.0, layer.1, layer.2, layer.3, layer.4 and 3 more",
        "unexpected: fc.weight",
    ]
    with pytest.raises(dataclasses.FrozenInstanceError):
        report.matched = ()


def test_errors_name_the_file(tmp_path: Path) -> None:
    encoder = ResNetEncoder(width=8)
    wide, sick = ResNetEncoder(width=16).state_dict(), encoder.state_dict()
    sick["conv1.weight"] = sick["conv1.weight"] * float("nan")
    for name, state, message in (("wide", wide, "tensors match"), ("sick", sick, "NaN or infinite")):
        torch.save(state, tmp_path / f"{name}.pt")
        with pytest.raises(ValueError, match=message) as caught:
            load_encoder(encoder, tmp_path / f"{name}.pt")
        assert str(tmp_path / f"{name}.pt") in str(caught.value)
        with pytest.raises(ValueError, match="the checkpoint"):
            load_encoder(encoder, state)
