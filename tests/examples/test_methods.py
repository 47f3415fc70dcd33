"""Pretext methods: their losses by hand, what learns and what stays, resuming, and two processes."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("lightning")

import lightning as L
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from pipeline.backbones import FlatUNet, PooledEncoder, PooledUNet
from pipeline.methods import byol, moco
from pipeline.methods.moco import MoCo
from pipeline.optimisers import Optimiser
from pipeline.pretext import pretrain
from pipeline.runs import read_csv
from pipeline.training import Fit, fit
from pretexts import DIM, METHODS, Flip, KnownMask, images, method, steps
from ranks import Ranks
from sslmed.augment import MultiView, RandomPatchMask
from sslmed.models import ResNetEncoder, UNet, load_encoder

FOLLOWED = ("moco", "byol")
STILL = MultiView(nn.Identity(), Flip())


@pytest.fixture(scope="module")
def ranks() -> Iterator[Ranks]:
    pool = Ranks(2)
    yield pool
    pool.close()


def step(module: L.LightningModule, data: TensorDataset) -> tuple[Tensor, dict[str, float]]:
    """The loss of one training step on all the data, and what it logs."""
    logged: dict[str, float] = {}

    def log_dict(terms: dict[str, Any], **_: Any) -> None:
        logged.update({key: float(torch.as_tensor(value).detach()) for key, value in terms.items()})

    module.log_dict = log_dict  # type: ignore[method-assign]
    module.log = lambda name, value, **_: log_dict({name: value})  # type: ignore[method-assign]
    loss = module.training_step(list(data.tensors), 0)
    del module.log_dict, module.log
    return loss, logged


def state(path: Path) -> dict[str, Tensor]:
    return torch.load(path, weights_only=True)["state_dict"]


def cosine(a: Tensor, b: Tensor) -> float:
    return float(a @ b / (a.norm() * b.norm()))


def moved(before: nn.Module, after: nn.Module) -> set[str]:
    """Names of what differs."""
    old, new = before.state_dict(), after.state_dict()
    return {name for name, value in old.items() if not torch.equal(value, new[name])}


@pytest.mark.parametrize("name", METHODS)
def test_one_step_reaches_all_that_learns_and_nothing_else(name: str) -> None:
    module = method(name)
    loss, logged = step(module, images(8))
    loss.backward()
    assert loss.isfinite()
    assert logged["loss"] == pytest.approx(float(loss.detach()))
    assert set(logged) >= ({"loss"} if name == "masked" else {"loss", "feature_sd"})
    for key, p in module.named_parameters():
        assert (p.grad is not None) == p.requires_grad, key
    learning = {key.split(".")[0] for key, p in module.named_parameters() if p.requires_grad}
    assert (
        learning
        == {
            "simclr": {"backbone", "head"},
            "moco": {"backbone", "head"},
            "simsiam": {"backbone", "head", "predictor"},
            "byol": {"backbone", "head", "predictor"},
            "masked": {"network"},
            "regional": {"network", "head"},
        }[name]
    )


def test_simclr_by_hand() -> None:
    module, data = method("simclr", views=STILL), images(5)
    x = data.tensors[0]
    with torch.no_grad():
        z = torch.cat([module.head(module.backbone(view)) for view in STILL(x)])
    losses = []
    for i in range(10):
        terms = {j: math.exp(cosine(z[i], z[j]) / 0.5) for j in range(10) if j != i}
        losses.append(-math.log(terms[(i + 5) % 10] / sum(terms.values())))
    loss, logged = step(module, data)
    assert float(loss.detach()) == pytest.approx(sum(losses) / 10, rel=1e-4)
    unit = z[:5] / z[:5].norm(dim=1, keepdim=True)
    assert logged["feature_sd"] == pytest.approx(float(unit.std(0, correction=0).mean()), rel=1e-4)


def test_moco_by_hand_while_its_queue_fills_and_wraps() -> None:
    module, data = method("moco", views=STILL, queue_size=6), images(8)
    images_, held = data.tensors[0], []  # (id, key), the oldest first
    for index in ([0, 1, 2], [3, 4, 1], [5, 0, 3, 6]):
        batch = TensorDataset(images_[index], torch.tensor(index))
        x0, x1 = STILL(images_[index])
        with torch.no_grad():
            q = module.head(module.backbone(x0))
            k = module.key_head(module.key_backbone(x1))
        negatives = held or list(zip(index, k, strict=True))  # the first batch has its own other keys
        losses = []
        for i, own in enumerate(index):
            top = math.exp(cosine(q[i], k[i]) / 0.2)
            rest = sum(math.exp(cosine(q[i], key) / 0.2) for other, key in negatives if other != own)
            losses.append(-math.log(top / (top + rest)))
        loss, logged = step(module, batch)
        assert float(loss.detach()) == pytest.approx(sum(losses) / len(losses), rel=1e-4)
        assert logged["queue"] == len(held)
        held = [*held, *zip(index, k, strict=True)][-6:]
    assert sorted(module.queue.ids().tolist()) == sorted(other for other, _ in held)


def test_simsiam_by_hand() -> None:
    module, data = method("simsiam", views=STILL), images(6)
    with torch.no_grad():
        z0, z1 = (module.head(module.backbone(view)) for view in STILL(data.tensors[0]))
        p0, p1 = module.predictor(z0), module.predictor(z1)
    rows = [-(cosine(p0[i], z1[i]) + cosine(p1[i], z0[i])) / 2 for i in range(6)]
    assert float(step(module, data)[0].detach()) == pytest.approx(sum(rows) / 6, rel=1e-4)


def test_byol_by_hand() -> None:
    module, data = method("byol", views=STILL), images(6)
    torch.nn.init.normal_(module.target_head.mlp[-1].weight)
    x0, x1 = STILL(data.tensors[0])
    with torch.no_grad():
        p0, p1 = (module.predictor(module.head(module.backbone(x))) for x in (x0, x1))
        t0, t1 = (module.target_head(module.target_backbone(x)) for x in (x0, x1))
    rows = [2 - cosine(p0[i], t1[i]) - cosine(p1[i], t0[i]) for i in range(6)]
    assert float(step(module, data)[0].detach()) == pytest.approx(sum(rows) / 6, rel=1e-4)


def test_masked_regression_by_hand() -> None:
    mask = KnownMask(4)
    module, data = method("masked", mask=mask), images(4)
    x = data.tensors[0]
    where = mask.forward_parameters(x.shape)["mask"]
    with torch.no_grad():
        filled = module.network(x * ~where)
    expected = (filled - x)[where].abs().mean()
    loss, _ = step(module, data)
    assert float(loss.detach()) == pytest.approx(float(expected), rel=1e-4)


def test_masked_regression_of_patches() -> None:
    loss, _ = step(method("masked", mask=RandomPatchMask(ratio=0.5, patch=8)), images(4))
    assert loss.isfinite()


def test_regional_by_hand() -> None:
    module, data = method("regional", views=STILL), images(3)
    with torch.no_grad():
        maps = [module.embed(view) for view in STILL(data.tensors[0])]
    assert maps[0].shape == (3, DIM, 8, 8)
    losses = []
    for b in range(3):
        quarters = [[m[b, :, r : r + 4, c : c + 4].reshape(-1) for r in (0, 4) for c in (0, 4)] for m in maps]
        for here, there in (quarters, quarters[::-1]):
            for i in range(4):
                top = math.exp(cosine(here[i], there[i]) / 0.2)
                rest = sum(
                    math.exp(cosine(here[i], r[j]) / 0.2) for r in quarters for j in range(4) if j != i
                )
                losses.append(-math.log(top / (top + rest)))
    assert float(step(module, data)[0].detach()) == pytest.approx(sum(losses) / len(losses), rel=1e-4)


@pytest.mark.parametrize("name", METHODS)
def test_learns_without_collapse(name: str, tmp_path: Path) -> None:
    settings = Fit(epochs=12, batch_size=8)
    fit(method(name, queue_size=16), images(24), settings, folder=tmp_path, seed=1, title=name)
    rows = read_csv(tmp_path / "curves.csv")
    # The first epoch of MoCo has hardly any negatives, that of the others is the hardest.
    first, last = (float(rows[k]["loss"]) for k in (1, -1))
    assert last < (first + 0.1 if name == "moco" else first)
    if name != "masked":
        assert float(rows[-1]["feature_sd"]) > 0.3 / math.sqrt(DIM)


@pytest.mark.parametrize("name", FOLLOWED)
@pytest.mark.parametrize("momentum", [0.0, 1.0])
def test_copies_move_by_momentum_alone(name: str, momentum: float, tmp_path: Path) -> None:
    module = method(name, momentum=momentum)
    before = copy.deepcopy(module)
    fit(module, images(8), Fit(epochs=2, batch_size=4), folder=tmp_path, seed=1, title=name)
    prefix = "key_" if name == "moco" else "target_"
    parts = {part: (getattr(module, prefix + part), getattr(module, part)) for part in ("backbone", "head")}
    for part, (followed, online) in parts.items():
        names = dict(online.named_parameters())
        assert not moved(followed, online) & set(names) if momentum == 0.0 else moved(followed, online)
        if momentum == 1.0:
            assert not moved(getattr(before, prefix + part), followed) & set(names)
        statistics = [key for key in moved(followed, online) if "running" in key]
        assert statistics  # each gathers its own, of other views


@pytest.mark.parametrize("name", FOLLOWED)
def test_copies_follow_the_optimisers_steps_and_not_the_batches(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[float] = []
    monkeypatch.setattr(
        {"moco": moco, "byol": byol}[name], "update_ema", lambda *_, decay, buffers: calls.append(decay)
    )
    settings = Fit(epochs=2, batch_size=4, accumulate=2)  # 12 images: three batches, two steps an epoch
    fit(method(name), images(12), settings, folder=tmp_path, seed=1, title=name)
    assert calls == [0.9] * 2 * 4


@pytest.mark.parametrize("blocks", [1, 3])
def test_regional_moves_the_blocks_it_trains_and_not_even_the_statistics_of_others(
    blocks: int, tmp_path: Path
) -> None:
    module = method("regional", blocks=blocks)
    before = copy.deepcopy(module.network)
    fit(module, images(8), Fit(epochs=2, batch_size=4), folder=tmp_path, seed=1, title="regional")
    changed = moved(before, module.network)
    assert {name.split(".")[0] for name in changed} == {"up"}
    assert {int(name.split(".")[1]) for name in changed} == set(range(blocks))
    learned = {name for name, p in module.network.named_parameters() if p.requires_grad}
    assert learned <= changed
    assert not module.network.down.training
    assert module.head.training


def test_regional_refuses_blocks_out_of_range() -> None:
    with pytest.raises(ValueError, match=r"blocks must lie in 1\.\.4, got 5"):
        method("regional", blocks=5)


@pytest.mark.parametrize("name", METHODS)
def test_a_killed_pretext_ends_like_an_unbroken_one(name: str, tmp_path: Path) -> None:
    settings = Fit(epochs=4, batch_size=4, precision="bf16-mixed", accumulate=2)
    optimiser = Optimiser("adam", lr=3e-3, schedule="cosine", epochs=4)
    data = images(9)  # three batches of 3, two steps an epoch; the queue is in the middle of a wrap

    def begun(folder: str, *, die: bool = False) -> Path:
        module = method(name, optimiser=optimiser)

        def kill() -> None:
            if module.current_epoch == 2:
                raise RuntimeError("killed")

        if die:
            module.on_train_epoch_start = kill  # type: ignore[method-assign]
        return fit(module, data, settings, folder=tmp_path / folder, seed=5, title=name)

    whole = begun("whole")
    with pytest.raises(RuntimeError, match="killed"):
        begun("broken", die=True)
    torch.manual_seed(7)  # another process begins with another global state
    resumed = begun("broken")
    a, b = state(whole), state(resumed)
    assert a.keys() == b.keys()
    for key, value in a.items():
        assert torch.equal(value, b[key]), key
        assert value.dtype != torch.bfloat16, key
    assert (tmp_path / "whole" / "curves.csv").read_text() == (tmp_path / "broken" / "curves.csv").read_text()


@pytest.mark.parametrize("name", ["byol", "regional"])
def test_pretrain_saves_the_network_alone(name: str, tmp_path: Path) -> None:
    module = method(name)
    path = pretrain(module, images(8), Fit(epochs=1, batch_size=4), folder=tmp_path, seed=1, title=name)
    saved = torch.load(path, weights_only=True)
    if name == "byol":
        assert path.name == "encoder.pt"
        encoder = ResNetEncoder("resnet18", width=4)
        assert load_encoder(encoder, path, minimum=1.0).fraction == 1.0
        assert not moved(module.backbone.network, encoder)
    else:
        assert path.name == "network.pt"
        network = UNet(width=4)
        network.load_state_dict(saved)
        assert not moved(module.network, network)


def test_simsiams_predictor_keeps_its_rate(tmp_path: Path) -> None:
    module = method("simsiam", optimiser=Optimiser("sgd", lr=0.1, schedule="cosine", epochs=4))
    fit(module, images(8), Fit(epochs=2, batch_size=8), folder=tmp_path, seed=1, title="simsiam")
    encoder, predictor = module.optimizers().param_groups  # type: ignore[union-attr]
    assert (encoder["lr"], predictor["lr"]) == (pytest.approx(0.05), 0.1)
    assert {id(p) for p in predictor["params"]} == {id(p) for p in module.predictor.parameters()}


def test_mocos_queue_takes_any_head() -> None:
    backbone = PooledEncoder(ResNetEncoder("resnet18", width=4))
    module = MoCo(
        backbone, views=STILL, head=nn.Identity(), queue_size=5, temperature=0.2, momentum=0.9,
        optimiser=Optimiser("adam", lr=1e-3),
    )  # fmt: skip
    assert module.queue.keys.shape == (5, backbone.features)


@pytest.mark.parametrize(
    ("schedule", "rates"),
    [("constant", [1.0] * 5), ("cosine", [1.0, (1 + math.sqrt(0.5)) / 2, 0.5, (1 - math.sqrt(0.5)) / 2, 0.0]),
     ("plateau", [1.0, 1.0, 1.0, 0.5, 0.5])],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["adam", "sgd"])
def test_schedules_move_one_group_and_not_the_other(kind: str, schedule: str, rates: list[float]) -> None:
    a, b, idle = (nn.Parameter(torch.ones(2)) for _ in range(3))
    idle.requires_grad_(False)
    settings = Optimiser(kind, lr=0.3, weight_decay=0.01, schedule=schedule, epochs=4, patience=1)
    built = settings.build([a, idle], fixed=[b])
    optimizer = built["optimizer"]
    assert [group["params"] for group in optimizer.param_groups] == [[a], [b]]
    assert {group["weight_decay"] for group in optimizer.param_groups} == {0.01}
    found = []
    for _ in range(5):
        found.append(optimizer.param_groups[0]["lr"] / 0.3)
        assert optimizer.param_groups[1]["lr"] == 0.3
        optimizer.step()
        if schedule == "cosine":
            built["lr_scheduler"].step()
        elif schedule == "plateau":
            built["lr_scheduler"]["scheduler"].step(1.0)
    assert found == pytest.approx(rates)


def test_a_schedule_without_a_fixed_group_or_with_nothing_else() -> None:
    p = nn.Parameter(torch.ones(2))
    for parameters, fixed, last in (([p], [], 0.0), ([], [p], 0.3)):
        built = Optimiser("sgd", lr=0.3, schedule="cosine", epochs=1).build(parameters, fixed=fixed)
        built["optimizer"].step()
        built["lr_scheduler"].step()
        assert built["optimizer"].param_groups[0]["lr"] == pytest.approx(last)


def test_optimisers_refuse_what_they_do_not_know() -> None:
    with pytest.raises(ValueError, match="name must be one of adam, sgd, got 'lars'"):
        Optimiser("lars", lr=1.0)
    with pytest.raises(ValueError, match="schedule must be one of constant, cosine, plateau, got 'step'"):
        Optimiser("sgd", lr=1.0, schedule="step")
    with pytest.raises(ValueError, match="epochs must be given for a cosine, got None"):
        Optimiser("sgd", lr=1.0, schedule="cosine")


@pytest.mark.parametrize(
    ("backbone", "features"),
    [(lambda: PooledEncoder(ResNetEncoder("resnet18", width=4)), 32),
     (lambda: PooledUNet(UNet(width=4)), 4),
     (lambda: PooledUNet(UNet(width=4), at="bottom"), 64),
     (lambda: FlatUNet(UNet(width=4), size=45), 256)],
)  # fmt: skip
def test_backbones_give_the_features_they_name_and_train_what_makes_them(
    backbone: Any, features: int
) -> None:
    net = backbone()
    given = net(torch.rand(2, 1, 45, 45))
    assert given.shape == (2, net.features) == (2, features)
    given.square().sum().backward()
    for key, p in net.named_parameters():
        assert (p.grad is not None) == p.requires_grad, key


def test_pooled_features_are_means_of_the_maps() -> None:
    network, x = UNet(width=4).eval(), torch.rand(2, 1, 32, 32)
    torch.testing.assert_close(PooledUNet(network)(x), network.decoder_maps(x)[-1].mean((2, 3)))
    torch.testing.assert_close(PooledUNet(network, at="bottom")(x), network.encoder_maps(x)[-1].mean((2, 3)))
    torch.testing.assert_close(
        FlatUNet(network, size=32)(x), network.encoder_maps(x)[-1].contiguous().flatten(1)
    )
    with pytest.raises(ValueError, match="at must be decoder or bottom, got 'middle'"):
        PooledUNet(network, at="middle")


@pytest.mark.ddp
@pytest.mark.parametrize("count", [21, 24])  # batches of 7, uneven for two, and of 8
@pytest.mark.parametrize("name", METHODS)
def test_two_processes_learn_what_one_does(name: str, count: int, tmp_path: Path, ranks: Ranks) -> None:
    steps(name, tmp_path / "one", count)
    ranks.run(2, steps, name, tmp_path / "two", count)
    rows = [read_csv(tmp_path / folder / "curves.csv") for folder in ("one", "two")]
    assert len(rows[0]) == len(rows[1]) == 2
    for row, other in zip(*rows, strict=True):
        assert row.keys() == other.keys()
        for key in row:
            assert float(row[key]) == pytest.approx(float(other[key]), abs=1e-5), key
    one, two = (state(tmp_path / folder / "last.ckpt") for folder in ("one", "two"))
    assert one.keys() == two.keys()
    begin = method(name, plain=True).state_dict()
    assert any(not torch.allclose(one[key], begin[key], atol=1e-3) for key in begin)
    for key, value in one.items():
        torch.testing.assert_close(value, two[key], rtol=0, atol=1e-5, msg=key)
