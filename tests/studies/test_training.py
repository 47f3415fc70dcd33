"""The resumable fit: batches, stopping, and a killed run that ends like an unbroken one."""

from __future__ import annotations

import signal
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("lightning")

import lightning as L
import torch
from sslmed.studies.training import Fit, fit
from torch import nn
from torch.utils.data import TensorDataset

from sslmed.studies import training
from sslmed.studies.runs import read_csv
from sslmed.studies.seeding import EvenBatches, OrderByEpoch, derived_seed


class Toy(L.LightningModule):
    """A linear model with noise from the global generator, and a validation loss that turns worse on command."""

    def __init__(self, *, die_after: int | None = None, worse_from: int = 1000) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
        self.die_after, self.worse_from, self.epochs_run = die_after, worse_from, 0

    def training_step(self, batch, _):
        x, y = batch
        loss = ((self.net(x + 0.1 * torch.randn_like(x)) - y) ** 2).mean()
        self.log("train_loss", loss, on_step=False, on_epoch=True, batch_size=len(x))
        return loss

    def validation_step(self, batch, _):
        penalty = max(0, self.current_epoch - self.worse_from)
        self.log("val_loss", torch.tensor(1.0 / (1 + self.current_epoch) + 10 * penalty), batch_size=1)

    def on_train_epoch_start(self):
        self.epochs_run += 1
        if self.die_after is not None and self.current_epoch > self.die_after:
            raise RuntimeError("killed")

    def configure_optimizers(self):
        optimizer = torch.optim.Adam(self.parameters(), 0.01)
        return {"optimizer": optimizer, "lr_scheduler": torch.optim.lr_scheduler.StepLR(optimizer, 2)}


def data(n: int = 21) -> TensorDataset:
    generator = torch.Generator().manual_seed(1)
    return TensorDataset(torch.rand(n, 4, generator=generator), torch.rand(n, 1, generator=generator))


def weights(path: Path) -> dict[str, torch.Tensor]:
    return torch.load(path, weights_only=True)["state_dict"]


@pytest.mark.parametrize(("count", "batch_size"), [(21, 4), (17, 16), (16, 16), (3, 16), (33, 16)])
def test_even_batches_use_every_case_once_and_differ_by_one_at_most(count: int, batch_size: int) -> None:
    batches = list(EvenBatches(OrderByEpoch(count, 0), batch_size))
    assert sorted(i for batch in batches for i in batch) == list(range(count))
    sizes = [len(batch) for batch in batches]
    assert max(sizes) <= batch_size
    assert max(sizes) - min(sizes) <= 1
    assert len(batches) == len(EvenBatches(OrderByEpoch(count, 0), batch_size))


def test_the_order_depends_on_seed_and_epoch_alone() -> None:
    order = OrderByEpoch(50, 3)
    first = list(order)
    assert first == list(order)
    order.set_epoch(1)
    assert list(order) != first
    assert list(OrderByEpoch(50, 4)) != first


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
    whole = fit(Toy(), data(), settings, folder=tmp_path / "whole", seed=5, title="whole", val=data(4))
    with pytest.raises(RuntimeError, match="killed"):
        fit(
            Toy(die_after=2),
            data(),
            settings,
            folder=tmp_path / "broken",
            seed=5,
            title="broken",
            val=data(4),
        )
    torch.manual_seed(7)  # another process begins with another global state
    resumed = Toy()
    ends = fit(resumed, data(), settings, folder=tmp_path / "broken", seed=5, title="broken", val=data(4))
    assert resumed.epochs_run == 3
    for name, value in weights(whole).items():
        assert torch.equal(value, weights(ends)[name]), name
    assert (tmp_path / "whole" / "curves.csv").read_text() == (tmp_path / "broken" / "curves.csv").read_text()


def test_early_stopping_waits_for_its_epoch_and_keeps_the_best(tmp_path: Path) -> None:
    settings = Fit(epochs=20, batch_size=8, patience=2, patience_from=6)
    best = fit(Toy(worse_from=3), data(), settings, folder=tmp_path, seed=0, title="toy", val=data(4))
    rows = read_csv(tmp_path / "curves.csv")
    assert len(rows) == 9  # epochs 0 to 8: the first check at 6 sets the mark, 7 and 8 are worse
    checkpoint = torch.load(best, weights_only=True)
    assert checkpoint["epoch"] == 3


def test_a_fit_killed_after_early_stopping_trains_no_further(tmp_path: Path) -> None:
    settings = Fit(epochs=20, batch_size=8, patience=2, patience_from=6)
    fit(Toy(worse_from=3), data(), settings, folder=tmp_path, seed=0, title="toy", val=data(4))
    before = (tmp_path / "curves.csv").read_text()
    again = Toy(worse_from=3)
    fit(again, data(), settings, folder=tmp_path, seed=0, title="toy", val=data(4))
    assert again.epochs_run == 0
    assert (tmp_path / "curves.csv").read_text() == before


def test_checkpoints_must_hit_the_last_epoch() -> None:
    with pytest.raises(ValueError, match="multiple of checkpoint_every, got 7 and 2"):
        Fit(epochs=7, batch_size=1, checkpoint_every=2)


def test_a_folder_moved_while_the_run_was_dead_ends_the_same(tmp_path: Path) -> None:
    settings = Fit(epochs=6, batch_size=4)
    whole = fit(
        Toy(worse_from=1), data(), settings, folder=tmp_path / "whole", seed=5, title="whole", val=data(4)
    )
    with pytest.raises(RuntimeError, match="killed"):
        fit(
            Toy(die_after=3, worse_from=1),
            data(),
            settings,
            folder=tmp_path / "here",
            seed=5,
            title="broken",
            val=data(4),
        )
    assert str(tmp_path).encode() not in (tmp_path / "here" / "last.ckpt").read_bytes()
    (tmp_path / "here").rename(tmp_path / "there")
    ends = fit(
        Toy(worse_from=1), data(), settings, folder=tmp_path / "there", seed=5, title="moved", val=data(4)
    )
    assert torch.load(ends, weights_only=True)["epoch"] == 1
    for name, value in weights(whole).items():
        assert torch.equal(value, weights(ends)[name]), name


def test_an_interrupt_is_an_interrupt_and_leaves_a_checkpoint(tmp_path: Path) -> None:
    class Interrupted(Toy):
        def on_train_epoch_start(self):
            if self.current_epoch == 2:
                raise KeyboardInterrupt

    before = signal.getsignal(signal.SIGINT)
    try:
        with pytest.raises(KeyboardInterrupt):
            fit(
                Interrupted(),
                data(),
                Fit(epochs=4, batch_size=8),
                folder=tmp_path,
                seed=0,
                title="toy",
                val=data(8),
            )
    finally:
        signal.signal(signal.SIGINT, before)  # Lightning ignores further signals: the process is ending
    assert len(read_csv(tmp_path / "curves.csv")) == 2
    toy = Toy()
    fit(toy, data(), Fit(epochs=4, batch_size=8), folder=tmp_path, seed=0, title="toy", val=data(8))
    assert toy.epochs_run == 2


def test_progress_is_a_line_at_both_ends_and_one_a_minute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    clock = SimpleNamespace(now=0.0)

    class Slow(Toy):
        def on_train_epoch_start(self):
            clock.now += 25.0

    monkeypatch.setattr(training, "time", SimpleNamespace(monotonic=lambda: clock.now))
    fit(Slow(), data(), Fit(epochs=9, batch_size=8), folder=tmp_path, seed=0, title="toy", val=data(8))
    lines = [line for line in capfd.readouterr().out.splitlines() if "epoch" in line]
    assert [line.split("epoch ")[1].split()[0] for line in lines] == ["1/9", "4/9", "7/9", "9/9"]
    assert "(25.0 s/epoch, 3 min left)" in lines[0]
    assert "(25.0 s/epoch)" in lines[-1]
