"""Checkpoints of other libraries, built as these libraries build them."""

from __future__ import annotations

import argparse
import copy
import importlib
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import resnet18, resnet34

from sslmed.models import FeatureEncoder, MatchReport, ResNetEncoder, load_encoder


@pytest.fixture(scope="module")
def online() -> nn.Module:
    return resnet18()


@pytest.fixture(scope="module")
def momentum() -> nn.Module:
    return resnet18()


def encoder() -> ResNetEncoder:
    return ResNetEncoder("resnet18", in_channels=3)


def is_loaded(model: nn.Module, source: nn.Module) -> bool:
    """Whether the encoder has the weights of a torchvision ResNet."""
    expected = source.state_dict()
    return all(torch.equal(v, expected[k]) for k, v in model.state_dict().items())


def prefixed(prefix: str, module: nn.Module) -> dict[str, Tensor]:
    return {prefix + k: v for k, v in module.state_dict().items()}


def without_fc(network: nn.Module) -> nn.Module:
    network = copy.deepcopy(network)
    network.fc = nn.Identity()
    return network


def sequential(network: nn.Module) -> nn.Module:
    return nn.Sequential(*list(network.children())[:-1])


def pair(**networks: nn.Module) -> nn.Module:
    return nn.ModuleDict(networks)


class MoCo(nn.Module):
    """The parts of the official class."""

    def __init__(self, online: nn.Module, momentum: nn.Module) -> None:
        super().__init__()
        self.encoder_q, self.encoder_k = copy.deepcopy(online), copy.deepcopy(momentum)
        for network in (self.encoder_q, self.encoder_k):
            network.fc = nn.Sequential(nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 128))
        self.register_buffer("queue", torch.randn(128, 64))
        self.register_buffer("queue_ptr", torch.zeros(1, dtype=torch.long))


def of_moco(online: nn.Module, momentum: nn.Module) -> dict[str, Any]:
    model = nn.DataParallel(MoCo(online, momentum))
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    return {"epoch": 3, "arch": "resnet18", "state_dict": model.state_dict(), "optimizer": optimizer.state_dict()}


def of_moco_v3(online: nn.Module, momentum: nn.Module) -> dict[str, Any]:
    model = pair(base_encoder=online, momentum_encoder=momentum, predictor=nn.Linear(8, 8))
    return {"epoch": 3, "state_dict": prefixed("module.", model)}


def of_dino(online: nn.Module, momentum: nn.Module) -> dict[str, Any]:
    head = nn.Sequential(nn.Linear(512, 64), nn.GELU(), nn.Linear(64, 32))
    student, teacher = (pair(backbone=without_fc(n), head=head) for n in (online, momentum))
    return {
        "student": prefixed("module.", student),
        "teacher": prefixed("module.", teacher),
        "epoch": 3,
        "args": argparse.Namespace(arch="resnet18", lr=0.1),
        "dino_loss": {"center": torch.zeros(1, 32)},
    }


def of_dino_without_batch_norm(online: nn.Module, momentum: nn.Module) -> dict[str, Any]:
    checkpoint = of_dino(online, momentum)  # then its teacher is not wrapped
    return checkpoint | {"teacher": {k.removeprefix("module."): v for k, v in checkpoint["teacher"].items()}}


def of_lightly(online: nn.Module, momentum: nn.Module) -> dict[str, Any]:
    model = pair(
        backbone=sequential(online),
        projection_head=nn.Sequential(nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 128)),
        backbone_momentum=sequential(momentum),
        projection_head_momentum=nn.Sequential(nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 128)),
    )
    return {"epoch": 3, "pytorch-lightning_version": "2.6.6", "state_dict": model.state_dict()}


def of_lightly_dino(online: nn.Module, momentum: nn.Module) -> dict[str, Any]:
    return {"state_dict": pair(student_backbone=sequential(online), teacher_backbone=sequential(momentum)).state_dict()}


def of_lightly_benchmarks(online: nn.Module, momentum: nn.Module) -> dict[str, Any]:
    return {"state_dict": pair(backbone=without_fc(momentum), query_backbone=without_fc(online)).state_dict()}


def of_solo_learn(online: nn.Module, momentum: nn.Module) -> dict[str, Any]:
    model = pair(
        backbone=without_fc(online),
        classifier=nn.Linear(512, 10),
        momentum_backbone=without_fc(momentum),
        projector=nn.Sequential(nn.Linear(512, 64), nn.BatchNorm1d(64)),
    )
    return {"state_dict": model.state_dict(), "hyper_parameters": {"method": "byol"}}


def of_solo_learn_before(online: nn.Module, momentum: nn.Module) -> dict[str, Any]:
    return {"state_dict": pair(encoder=without_fc(online), momentum_encoder=without_fc(momentum)).state_dict()}


def of_timm(online: nn.Module, momentum: nn.Module) -> dict[str, Any]:
    return {"arch": "resnet18", "state_dict": online.state_dict(), "state_dict_ema": momentum.state_dict()}


def of_lightning_averages(online: nn.Module, momentum: nn.Module) -> dict[str, Any]:
    return {"state_dict": prefixed("net.", momentum), "current_model_state": prefixed("net.", online)}


@pytest.mark.parametrize(
    ("make", "prefix", "part"),
    [
        (of_moco, "state_dict.module.encoder_q.", "encoder_k"),
        (of_moco_v3, "state_dict.module.base_encoder.", "momentum_encoder"),
        (of_dino, "student.module.backbone.", "teacher"),
        (of_dino_without_batch_norm, "student.module.backbone.", "teacher"),
        (of_lightly, "state_dict.backbone.", "backbone_momentum"),
        (of_lightly_dino, "state_dict.student_backbone.", "teacher_backbone"),
        (of_lightly_benchmarks, "state_dict.query_backbone.", "backbone"),
        (of_solo_learn, "state_dict.backbone.", "momentum_backbone"),
        (of_solo_learn_before, "state_dict.encoder.", "momentum_encoder"),
        (of_timm, "state_dict.", "state_dict_ema"),
        (of_lightning_averages, "current_model_state.net.", "state_dict"),
    ],
)
def test_the_online_network_is_loaded_and_its_average_on_request(
    make: Callable[[nn.Module, nn.Module], dict[str, Any]],
    prefix: str,
    part: str,
    online: nn.Module,
    momentum: nn.Module,
) -> None:
    model, checkpoint = encoder(), make(online, momentum)
    report = load_encoder(model, checkpoint, minimum=1.0)
    assert is_loaded(model, online)
    assert report.prefix == prefix
    assert len(report.others) == 1
    chosen = load_encoder(model, checkpoint, part=part, minimum=1.0)
    assert is_loaded(model, momentum)
    assert (chosen.prefix,) == report.others
    assert chosen.others == ()
    assert f"not loaded, though it fits equally well: {report.others[0]}" in str(report)


def test_heads_and_queues_are_reported_by_the_checkpoints_names(online: nn.Module, momentum: nn.Module) -> None:
    report = load_encoder(encoder(), of_moco(online, momentum))
    assert {"state_dict.module.queue", "state_dict.module.encoder_q.fc.0.weight"} <= set(report.unexpected)
    assert "state_dict.module.encoder_k.conv1.weight" in report.unexpected
    report = load_encoder(encoder(), of_lightly(online, momentum))
    assert "state_dict.backbone_momentum.4.0.conv1.weight" in report.unexpected
    assert not any(name.startswith("state_dict.backbone.") for name in report.unexpected)


def test_a_sequence_of_children_needs_the_same_network(online: nn.Module) -> None:
    model = encoder()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    deeper = prefixed("backbone.", sequential(resnet34()))
    with pytest.raises(
        ValueError, match=r"another architecture: the encoder lacks 80 .* as backbone\.4\.2\.conv1\.weight"
    ):
        load_encoder(model, deeper)
    shifted = prefixed("backbone.", nn.Sequential(nn.Identity(), sequential(online)[:-1]))
    shifted = {k.replace("backbone.1.", "backbone."): v for k, v in shifted.items()}
    moved = {f"backbone.{int(k.split('.')[1]) + 1}.{k.split('.', 2)[2]}": v for k, v in shifted.items()}
    with pytest.raises(ValueError, match=r"only \d+% of the encoder's tensors match"):
        load_encoder(model, moved)
    headless = {k: v for k, v in shifted.items() if k != "backbone.0.weight"}
    with pytest.raises(ValueError, match=r"first convolution .* state\['backbone\.conv1\.weight'\] = its weight"):
        load_encoder(model, {"state_dict": headless})
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    headless["backbone.conv1.weight"] = model.conv1.weight.detach()  # as the message says
    assert load_encoder(model, {"state_dict": headless}).fraction == 1


def test_a_feature_encoder_takes_a_sequence_of_children(online: nn.Module, momentum: nn.Module) -> None:
    model = FeatureEncoder(resnet18())
    report = load_encoder(model, of_lightly(online, momentum), minimum=1.0)
    assert report.adapted == ("conv1.weight",)
    name = "layer4.1.conv2.weight"
    assert torch.equal(model.network.state_dict()[name], online.state_dict()[name])


def small() -> ResNetEncoder:
    return ResNetEncoder("resnet18", width=4)


def compiled_inside(model: nn.Module) -> nn.Module:
    """Some of its parts compiled, as torch.compile(part) leaves their names."""
    model = copy.deepcopy(model)
    model.layer1, model.layer2[1] = torch.compile(model.layer1), torch.compile(model.layer2[1])
    return model


WRAPPINGS: dict[str, tuple[Callable[[nn.Module], Mapping[str, Tensor]], str]] = {
    "compiled": (lambda m: torch.compile(m).state_dict(), "_orig_mod."),
    "parallel": (lambda m: nn.DataParallel(m).state_dict(), "module."),
    "compiled after": (lambda m: torch.compile(nn.DataParallel(m)).state_dict(), "_orig_mod.module."),
    "compiled before": (lambda m: nn.DataParallel(torch.compile(m)).state_dict(), "module._orig_mod."),
    "compiled parts": (lambda m: compiled_inside(m).state_dict(), ""),
    "parallel parts": (lambda m: nn.DataParallel(pair(net=compiled_inside(m))).state_dict(), "module.net."),
}


@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_wrappers_are_ignored_anywhere(wrapping: str) -> None:
    wrap, prefix = WRAPPINGS[wrapping]
    source, model = small(), small()
    report = load_encoder(model, wrap(source), minimum=1.0)
    assert is_loaded(model, source)
    assert report.prefix == prefix
    assert report.unexpected == report.others == ()


def test_a_part_called_module_keeps_its_name() -> None:
    def network() -> nn.Module:
        return nn.Sequential(nn.Conv2d(1, 2, 3), pair(module=nn.Conv2d(2, 2, 3)))

    source, model = network(), network()
    state = nn.DataParallel(source).state_dict() | {"module.module": torch.ones(1)}
    report = load_encoder(model, state, minimum=1.0)
    assert (report.prefix, report.unexpected) == ("module.", ("module.module",))
    assert is_loaded(model, source)


def test_part_is_a_name_in_a_prefix() -> None:
    state = prefixed("net.", small()) | prefixed("aux.net.", small())
    model = small()
    with pytest.raises(ValueError, match=r"2 encoders that fit equally well, under \['net\.', 'aux\.net\.'\]"):
        load_encoder(model, state)
    assert load_encoder(model, state, part="net.").prefix == "net."
    assert load_encoder(model, state, part="aux").prefix == "aux.net."
    with pytest.raises(ValueError, match=r"part must be a name in a prefix .* got 'teacher'; there are \['net\.', "):
        load_encoder(model, state, part="teacher")
    with pytest.raises(ValueError, match=r"only 0% of"):
        load_encoder(model, {"a.weight": torch.ones(2)})


def test_a_poorer_online_network_is_not_preferred() -> None:
    state = prefixed("student.", small()) | prefixed("teacher.", small())
    report = load_encoder(small(), {k: v for k, v in state.items() if "student.layer4" not in k})
    assert report.prefix == "teacher."
    assert report.others == ()


def test_the_command_line_in_a_file_of_dino_is_read(tmp_path: Path) -> None:
    source, model = small(), small()
    head = {"args": argparse.Namespace(arch="resnet18"), "epoch": 3}
    torch.save(head | {"student": prefixed("module.backbone.", source)}, tmp_path / "checkpoint.pth")
    load_encoder(model, tmp_path / "checkpoint.pth", minimum=1.0)
    assert is_loaded(model, source)
    with pytest.raises(pickle.UnpicklingError, match="argparse"):  # elsewhere nothing more is allowed than before
        torch.load(tmp_path / "checkpoint.pth", weights_only=True)
    with torch.serialization.safe_globals([argparse.Namespace]):
        load_encoder(model, tmp_path / "checkpoint.pth")
        torch.load(tmp_path / "checkpoint.pth", weights_only=True)  # and nothing less


class Setting:
    """A hyper-parameter that is an object."""


@pytest.mark.parametrize("objects", [False, True])
def test_files_of_lightning(tmp_path: Path, objects: bool) -> None:
    import lightning

    class Module(lightning.LightningModule):
        def __init__(self, setting: Any) -> None:
            super().__init__()
            self.save_hyperparameters()
            self.backbone = small()

    module, path, model = Module(Setting() if objects else 0.1), tmp_path / "last.ckpt", small()
    trainer = lightning.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, barebones=True)
    trainer.strategy.connect(module)
    trainer.save_checkpoint(path)
    if objects:
        message = r"last\.ckpt cannot be read as plain tensors .* holds \S*test_checkpoints\.Setting, .* If you trust"
        with pytest.raises(ValueError, match=message):
            load_encoder(model, path)
        return
    assert load_encoder(model, path, minimum=1.0).prefix == "state_dict.backbone."
    assert is_loaded(model, module.backbone)


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore")  # of the library
@pytest.mark.parametrize("name", ["resnet18", "convnext_atto", "efficientnet_lite0"])
def test_files_of_timm(tmp_path: Path, name: str) -> None:
    timm = pytest.importorskip("timm")
    network, average = timm.create_model(name), timm.create_model(name)
    optimizer = torch.optim.SGD(network.parameters(), 0.1)
    args = argparse.Namespace(model=name)
    saver = importlib.import_module("timm.utils").CheckpointSaver(
        network, optimizer, args=args, model_ema=average, checkpoint_dir=str(tmp_path)
    )
    saver.save_checkpoint(3)

    def check(report: MatchReport, model: FeatureEncoder, source: nn.Module) -> None:
        assert report.fraction == 1
        own, theirs = (list(m.parameters()) for m in (model.network, source))
        assert all(torch.equal(a, b) for a, b in zip(own, theirs, strict=False))  # theirs ends with a head

    for settings in ({}, {"features_only": True}):
        if settings or name == "resnet18":  # the others cannot be traced
            model = FeatureEncoder(timm.create_model(name, **settings), in_channels=3)
            report = load_encoder(model, tmp_path / "last.pth.tar")
            assert (report.prefix, report.others) == ("state_dict.", ("state_dict_ema.",))
            check(report, model, network)
            check(load_encoder(model, tmp_path / "last.pth.tar", part="state_dict_ema"), model, average)
    if name == "resnet18":
        ours = encoder()
        load_encoder(ours, tmp_path / "last.pth.tar", minimum=1.0)
        assert is_loaded(ours, network)


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore")  # of the library
def test_modules_of_lightly(online: nn.Module, momentum: nn.Module) -> None:
    pytest.importorskip("lightly")
    heads = importlib.import_module("lightly.models.modules")
    model = pair(
        backbone=sequential(online),
        projection_head=heads.MoCoProjectionHead(512, 512, 128),
        backbone_momentum=sequential(momentum),
        projection_head_momentum=heads.MoCoProjectionHead(512, 512, 128),
        criterion=importlib.import_module("lightly.loss").NTXentLoss(memory_bank_size=(64, 128)),
    )
    ours = encoder()
    report = load_encoder(ours, {"state_dict": model.state_dict()}, minimum=1.0)
    assert (report.prefix, report.others) == ("state_dict.backbone.", ("state_dict.backbone_momentum.",))
    assert is_loaded(ours, online)
