"""Pretexts in a fit: what is saved, schedules, resuming, and two processes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("lightning")

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR, ReduceLROnPlateau

from pretexts import METHODS, images, method, steps, validation_loss
from ranks import Ranks
from sslmed.models import ResNetEncoder, UNet, load_encoder
from sslmed.studies.engine import Fit, fit, weights_of
from sslmed.studies.optimisers import Optimiser
from sslmed.studies.pretext import pretrain
from sslmed.studies.runs import read_csv

FOLLOWED = ("moco", "byol")
ADAM = Optimiser("adam", lr=3e-3)
EXTRA = {"plateau": {"patience": 1}, "poly": {"end": 0.03, "power": 1.0}}


@pytest.fixture(scope="module")
def ranks() -> Iterator[Ranks]:
    pool = Ranks(2)
    yield pool
    pool.close()


def changed(before: nn.Module, after: nn.Module) -> set[str]:
    """Names of what differs."""
    old, new = before.state_dict(), after.state_dict()
    return {name for name, value in old.items() if not torch.equal(value, new[name])}


@pytest.mark.parametrize("name", FOLLOWED)
def test_copies_follow_the_optimisers_steps_and_not_the_batches(name: str, tmp_path: Path) -> None:
    chosen, calls = method(name), []
    chosen.after_step = lambda: calls.append(1)  # type: ignore[method-assign]
    settings = Fit(epochs=2, batch_size=4, accumulate=2)  # 12 images: three batches, two steps an epoch
    fit(chosen, images(12), settings, optimiser=ADAM, folder=tmp_path, seed=1, title=name)
    assert len(calls) == 4


@pytest.mark.parametrize("name", METHODS)
def test_a_killed_pretext_ends_like_an_unbroken_one(name: str, tmp_path: Path) -> None:
    settings = Fit(epochs=4, batch_size=4, precision="bf16-mixed", accumulate=2)
    optimiser = Optimiser("adam", lr=3e-3, schedule="cosine")
    data = images(9)  # three batches of 3, two steps an epoch; the queue is in the middle of a wrap

    def begun(folder: str, *, die: bool = False) -> Path:
        chosen, calls = method(name, count=9), []

        def kill(*_: object) -> None:
            calls.append(1)
            if die and len(calls) == 7:  # the first of the third epoch
                raise RuntimeError("killed")

        chosen.register_forward_pre_hook(kill)
        pretrain(chosen, data, settings, optimiser=optimiser, folder=tmp_path / folder, seed=5, title=name)
        return tmp_path / folder / "last.ckpt"

    whole = begun("whole")
    with pytest.raises(RuntimeError, match="killed"):
        begun("broken", die=True)
    torch.manual_seed(7)  # another process begins with another global state
    resumed = begun("broken")
    a, b = weights_of(whole), weights_of(resumed)
    assert a.keys() == b.keys()
    for key, value in a.items():
        assert torch.equal(value, b[key]), key
        assert value.dtype != torch.bfloat16, key
    assert (tmp_path / "whole" / "curves.csv").read_text() == (tmp_path / "broken" / "curves.csv").read_text()


@pytest.mark.parametrize("name", ["byol", "local"])
def test_pretrain_saves_the_network_alone(name: str, tmp_path: Path) -> None:
    chosen = method(name)
    path = pretrain(chosen, images(8), Fit(epochs=1, batch_size=4), optimiser=ADAM, folder=tmp_path, seed=1, title=name)
    saved = torch.load(path, weights_only=True)
    if name == "byol":
        assert path.name == "encoder.pt"
        encoder = ResNetEncoder("resnet18", width=4)
        assert load_encoder(encoder, path, minimum=1.0).fraction == 1.0
        assert not changed(chosen.encoder, encoder)
    else:
        assert path.name == "network.pt"
        network = UNet(width=4)
        network.load_state_dict(saved)
        assert not changed(chosen.network, network)


def test_simsiams_predictor_keeps_its_rate(tmp_path: Path) -> None:
    chosen = method("simsiam")
    sgd, settings = Optimiser("sgd", lr=0.1, schedule="cosine"), Fit(epochs=2, batch_size=8)
    fit(chosen, images(8), settings, optimiser=sgd, folder=tmp_path, seed=1, title="simsiam")
    saved = torch.load(tmp_path / "last.ckpt", weights_only=True)["optimizer"]["param_groups"]
    assert [group["lr"] for group in saved] == [pytest.approx(0.0), 0.1]
    optimizer, _ = sgd.build(chosen.parameter_groups(), epochs=2)
    predictor = optimizer.param_groups[1]["params"]
    assert {id(p) for p in predictor} == {id(p) for p in chosen.predictor.parameters()}


@pytest.mark.parametrize(
    ("schedule", "rates"),
    [
        ("constant", [1.0] * 5),
        ("poly", [1.0, 0.775, 0.55, 0.325, 0.1]),
        ("cosine", [1.0, (1 + math.sqrt(0.5)) / 2, 0.5, (1 - math.sqrt(0.5)) / 2, 0.0]),
        ("plateau", [1.0, 1.0, 1.0, 0.5, 0.5]),
    ],
)
@pytest.mark.parametrize("kind", ["adam", "sgd"])
def test_schedules_move_one_group_and_not_the_other(kind: str, schedule: str, rates: list[float]) -> None:
    a, b, idle = (nn.Parameter(torch.ones(2)) for _ in range(3))
    idle.requires_grad_(False)
    settings = Optimiser(kind, lr=0.3, weight_decay=0.01, schedule=schedule, **EXTRA.get(schedule, {}))
    optimizer, stepper = settings.build([{"params": [a, idle]}, {"params": [b], "fix_lr": True}], epochs=4)
    assert [group["params"] for group in optimizer.param_groups] == [[a], [b]]
    assert {group["weight_decay"] for group in optimizer.param_groups} == {0.01}
    found = []
    for _ in range(5):
        found.append(optimizer.param_groups[0]["lr"] / 0.3)
        assert optimizer.param_groups[1]["lr"] == 0.3
        optimizer.step()
        if isinstance(stepper, ReduceLROnPlateau):
            stepper.step(1.0)
        elif stepper is not None:
            stepper.step()
    assert found == pytest.approx(rates)


def test_a_schedule_without_a_fixed_group_or_with_nothing_else() -> None:
    p = nn.Parameter(torch.ones(2))
    for parameters, fixed, last in (([p], [], 0.0), ([], [p], 0.3)):
        optimizer, schedule = Optimiser("sgd", lr=0.3, schedule="cosine").build(
            [{"params": parameters}, {"params": fixed, "fix_lr": True}], epochs=1
        )
        assert isinstance(schedule, LambdaLR)
        optimizer.step()
        schedule.step()
        assert optimizer.param_groups[0]["lr"] == pytest.approx(last)


@pytest.mark.ddp
# Batches of 7, uneven for two, and of 8.
@pytest.mark.parametrize("count", [21, pytest.param(24, marks=pytest.mark.slow)])
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
    for folder in ("one", "two"):  # the first of two processes measures
        assert [row["epoch"] for row in read_csv(tmp_path / folder / "monitor.csv")] == ["0", "2"]
    one, two = (weights_of(tmp_path / folder / "last.ckpt") for folder in ("one", "two"))
    assert one.keys() == two.keys()
    begin = method(name, plain=True, count=count).state_dict()
    assert any(not torch.allclose(one[key], begin[key], atol=1e-3) for key in begin)
    for key, value in one.items():
        torch.testing.assert_close(value, two[key], rtol=0, atol=1e-5, msg=key)


@pytest.mark.ddp
@pytest.mark.parametrize("name", ["simclr", "simsiam", "byol", "masked", "local"])
def test_two_processes_validate_as_one_does(name: str, ranks: Ranks) -> None:
    expected = validation_loss(name, 12)
    assert ranks.run(2, validation_loss, name, 12) == [pytest.approx(expected, rel=1e-6)] * 2
