"""The resumable fit: batches, stopping, and a killed run that ends like an unbroken one."""

from __future__ import annotations

import signal
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("lightning")

import torch
from torch import nn
from torch.utils.data import TensorDataset

import fits
from sslmed.methods import Step
from sslmed.studies import progress
from sslmed.studies.cli import run_as_program
from sslmed.studies.engine import Fit, fit, weights_of
from sslmed.studies.optimisers import Optimiser
from sslmed.studies.runs import read_csv
from sslmed.studies.seeding import EvenBatches, derived_seed, order_of

ADAM = Optimiser("adam", lr=0.01, schedule="poly")


class Toy(nn.Module):
    """A linear model with noise from the global generator, and a validation loss that turns worse on command."""

    epoch: torch.Tensor

    def __init__(self, *, die_after: int | None = None, worse_from: int = 1000) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
        self.register_buffer("epoch", torch.zeros((), dtype=torch.int64))
        self.die_after, self.worse_from, self.epochs_run = die_after, worse_from, 0

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> Step:
        if self.die_after is not None and int(self.epoch) > self.die_after:
            raise RuntimeError("killed")
        loss = ((self.net(x + 0.1 * torch.randn_like(x)) - y) ** 2).mean()
        return Step(loss, {"train_loss": loss.detach()})

    def validate(self, batches: Iterable[Any]) -> dict[str, float]:
        epoch = int(self.epoch)
        self.epoch += 1
        self.epochs_run += 1
        assert not self.training
        return {"val_loss": 1.0 / (1 + epoch) + 10 * max(0, epoch - self.worse_from)}

    def start(self, batches: Iterable[Any]) -> None:
        pass

    def after_step(self) -> None:
        pass

    def parameter_groups(self) -> list[dict[str, Any]]:
        return [{"params": list(self.parameters())}]


def data(n: int = 21) -> TensorDataset:
    generator = torch.Generator().manual_seed(1)
    return TensorDataset(torch.rand(n, 4, generator=generator), torch.rand(n, 1, generator=generator))


def trained(toy: Toy, settings: Fit, folder: Path, *, seed: int = 0) -> Path:
    return fit(toy, data(), settings, optimiser=ADAM, folder=folder, seed=seed, title="toy", val=data(4))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        *(({name: 0}, f"{name} must be at least 1, got 0") for name in ("epochs", "batch_size", "checkpoint_every")),
        ({"accumulate": 0}, "accumulate must be at least 1, got 0"),
        ({"patience": 0}, "patience must be at least 1, or None to never stop early, got 0"),
        ({"patience_from": -1}, "patience_from must be at least 0, got -1"),
        ({"precision": "64"}, "precision must be one of 32-true, bf16-mixed, 16-mixed, got '64'"),
    ],
)
def test_settings_out_of_range_are_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Fit(**{"epochs": 1, "batch_size": 8} | settings)


@pytest.mark.parametrize(("count", "batch_size"), [(21, 4), (17, 16), (16, 16), (3, 16), (33, 16)])
def test_even_batches_use_every_case_once_and_differ_by_one_at_most(count: int, batch_size: int) -> None:
    batches = list(EvenBatches(count, batch_size, seed=0))
    assert sorted(i for batch in batches for i in batch) == list(range(count))
    sizes = [len(batch) for batch in batches]
    assert max(sizes) <= batch_size
    assert max(sizes) - min(sizes) <= 1
    assert len(batches) == len(EvenBatches(count, batch_size, seed=0))


def test_the_order_depends_on_seed_and_epoch_alone() -> None:
    first = order_of(50, 3, 0)
    assert first == order_of(50, 3, 0)
    assert order_of(50, 3, 1) != first
    assert order_of(50, 4, 0) != first
    batches = EvenBatches(50, 50, seed=3)
    assert list(batches) == [first]
    batches.epoch = 1
    assert list(batches) == [order_of(50, 3, 1)]


@pytest.mark.parametrize(("count", "size", "number"), [(5, 4, 10), (3, 8, 2), (40, 8, 3), (1, 1, 1)])
def test_an_epoch_of_a_number_of_batches_draws_the_cases_as_often_as_needed(count: int, size: int, number: int) -> None:
    batches = EvenBatches(count, size, seed=0, batches=number)
    drawn = list(batches)
    assert [len(batch) for batch in drawn] == [size] * number
    assert len(batches) == number
    times = [sum(batch.count(case) for batch in drawn) for case in range(count)]
    assert max(times) - min(times) <= 1
    batches.epoch = 1
    assert list(batches) != drawn or count == 1


def test_a_large_gradient_is_scaled_down(tmp_path: Path) -> None:
    def moved(clip: float | None, name: str) -> float:
        module = fits.Regression()
        before = [p.detach().clone() for p in module.parameters()]
        settings = Fit(epochs=1, batch_size=21, clip_norm=clip)
        fit(
            module,
            fits.cases(21),
            settings,
            optimiser=Optimiser("sgd", lr=1.0),
            folder=tmp_path / name,
            seed=0,
            title="",
        )
        changes = [(p.detach() - old).flatten() for p, old in zip(module.parameters(), before, strict=True)]
        return float(torch.cat(changes).norm())

    free = moved(None, "free")
    assert moved(free / 2, "clipped") == pytest.approx(free / 2, rel=1e-4)
    assert moved(2 * free, "large enough") == pytest.approx(free, rel=1e-5)


def test_derived_seeds_differ_by_every_part() -> None:
    assert (
        len(
            {
                derived_seed(0, "a", 1),
                derived_seed(0, "a", 2),
                derived_seed(0, "b", 1),
                derived_seed(1, "a", 1),
            }
        )
        == 4
    )
    assert 0 <= derived_seed(0) < 2**63


def test_a_killed_fit_ends_like_an_unbroken_one(tmp_path: Path) -> None:
    settings = Fit(epochs=6, batch_size=4)
    torch.manual_seed(99)
    whole = trained(Toy(), settings, tmp_path / "whole", seed=5)
    with pytest.raises(RuntimeError, match="killed"):
        trained(Toy(die_after=2), settings, tmp_path / "broken", seed=5)
    torch.manual_seed(7)  # another process begins with another global state
    resumed = Toy()
    ends = trained(resumed, settings, tmp_path / "broken", seed=5)
    assert resumed.epochs_run == 3
    for name, value in weights_of(whole).items():
        assert torch.equal(value, weights_of(ends)[name]), name
    assert (tmp_path / "whole" / "curves.csv").read_text() == (tmp_path / "broken" / "curves.csv").read_text()


def test_early_stopping_waits_for_its_epoch_and_keeps_the_best(tmp_path: Path) -> None:
    settings = Fit(epochs=20, batch_size=8, patience=2, patience_from=6)
    best = trained(Toy(worse_from=3), settings, tmp_path)
    rows = read_csv(tmp_path / "curves.csv")
    assert len(rows) == 9  # epochs 0 to 8: the first check at 6 sets the mark, 7 and 8 are worse
    checkpoint = torch.load(best, weights_only=True)
    assert checkpoint["epoch"] == 3


def test_a_fit_killed_after_early_stopping_trains_no_further(tmp_path: Path) -> None:
    settings = Fit(epochs=20, batch_size=8, patience=2, patience_from=6)
    trained(Toy(worse_from=3), settings, tmp_path)
    before = (tmp_path / "curves.csv").read_text()
    again = Toy(worse_from=3)
    trained(again, settings, tmp_path)
    assert again.epochs_run == 0
    assert (tmp_path / "curves.csv").read_text() == before


def test_the_last_epoch_has_a_checkpoint_whatever_the_interval(tmp_path: Path) -> None:
    trained(Toy(), Fit(epochs=7, batch_size=4, checkpoint_every=3), tmp_path)
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["epoch"] == 6
    with pytest.raises(ValueError, match="checkpoint_every must be at least 1, got 0"):
        Fit(epochs=7, batch_size=1, checkpoint_every=0)


def test_a_folder_moved_while_the_run_was_dead_ends_the_same(tmp_path: Path) -> None:
    settings = Fit(epochs=6, batch_size=4)
    whole = trained(Toy(worse_from=1), settings, tmp_path / "whole", seed=5)
    with pytest.raises(RuntimeError, match="killed"):
        trained(Toy(die_after=3, worse_from=1), settings, tmp_path / "here", seed=5)
    assert str(tmp_path).encode() not in (tmp_path / "here" / "last.ckpt").read_bytes()
    (tmp_path / "here").rename(tmp_path / "there")
    ends = trained(Toy(worse_from=1), settings, tmp_path / "there", seed=5)
    assert torch.load(ends, weights_only=True)["epoch"] == 1
    for name, value in weights_of(whole).items():
        assert torch.equal(value, weights_of(ends)[name]), name


def test_an_interrupt_is_an_interrupt_and_leaves_a_checkpoint(tmp_path: Path) -> None:
    class Interrupted(Toy):
        def forward(self, x: torch.Tensor, y: torch.Tensor) -> Step:
            if int(self.epoch) == 2:
                raise KeyboardInterrupt
            return super().forward(x, y)

    settings = Fit(epochs=4, batch_size=8)
    with pytest.raises(KeyboardInterrupt):
        trained(Interrupted(), settings, tmp_path)
    assert len(read_csv(tmp_path / "curves.csv")) == 2
    toy = Toy()
    trained(toy, settings, tmp_path)
    assert toy.epochs_run == 2


def test_ctrl_c_during_a_training_ends_with_the_promised_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    class Interrupted(Toy):
        def forward(self, x: torch.Tensor, y: torch.Tensor) -> Step:
            signal.raise_signal(signal.SIGINT)
            return super().forward(x, y)

    def work() -> int:
        trained(Interrupted(), Fit(epochs=2, batch_size=8), tmp_path)
        return 0

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores Ctrl-C
    try:
        with pytest.raises(SystemExit) as ends:
            run_as_program(lambda: work, prog="study.py")
    finally:
        signal.signal(signal.SIGINT, before)
    assert ends.value.code == 130
    promised = "study.py: interrupted; rerun the same command to resume from the last checkpoint\n"
    assert capfd.readouterr().err == promised


def test_a_checkpoint_of_an_older_version_is_refused(tmp_path: Path) -> None:
    torch.save({"epoch": 0, "state_dict": {}, "optimizer_states": []}, tmp_path / "last.ckpt")
    with pytest.raises(ValueError, match=r"last.ckpt was written by an older version of sslmed"):
        trained(Toy(), Fit(epochs=2, batch_size=8), tmp_path)


def test_settings_that_cannot_be_followed_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="precision must be one of 32-true, bf16-mixed, 16-mixed, got '64'"):
        Fit(epochs=1, batch_size=1, precision="64")
    with pytest.raises(ValueError, match="patience=2 needs validation data"):
        fit(Toy(), data(), Fit(1, 8, patience=2), optimiser=ADAM, folder=tmp_path, seed=0, title="toy")


@pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed"])
def test_mixed_precision_leaves_the_images_as_they_are(tmp_path: Path, precision: str) -> None:
    seen: list[torch.Tensor] = []

    class Seeing(Toy):
        def forward(self, x: torch.Tensor, y: torch.Tensor) -> Step:
            seen.append(x)
            assert self.net(x).dtype == torch.bfloat16  # on CPUs
            return super().forward(x, y)

    trained(Seeing(), Fit(1, 32, precision=precision), tmp_path)
    assert torch.equal(seen[0], data().tensors[0][order_of(21, 0, 0)])


def test_progress_is_a_line_at_both_ends_and_one_a_minute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    clock = SimpleNamespace(now=0.0)

    class Slow(Toy):
        def validate(self, batches: Iterable[Any]) -> dict[str, float]:
            clock.now += 25.0
            return super().validate(batches)

    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: clock.now))
    trained(Slow(), Fit(epochs=9, batch_size=8), tmp_path)
    lines = [line for line in capfd.readouterr().out.splitlines() if "epoch" in line]
    assert [line.split("epoch ")[1].split()[0] for line in lines] == ["1/9", "4/9", "7/9", "9/9"]
    assert "(25.0 s/epoch, 3 min left)" in lines[0]
    assert "(25.0 s/epoch)" in lines[-1]
