"""Modules that the tests of `sslmed.studies.training.fit` train, in this process or on the ranks of tests/ranks.py."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import lightning as L
import torch
from sslmed.studies.segmentation import Segmentation, soft_dice
from sslmed.studies.training import Fit, fit
from sslmed.studies.tuning import Tuning
from torch import nn
from torch.utils.data import TensorDataset

from sslmed.distributed import ddp_weight, rank, world_size
from sslmed.memory import MomentumQueue
from sslmed.studies.locks import Busy, hold
from sslmed.studies.processes import agree, anywhere
from sslmed.studies.runs import write_json


def cases(count: int, seed: int = 1) -> TensorDataset:
    generator = torch.Generator().manual_seed(seed)
    return TensorDataset(
        torch.rand(count, 1, 6, 6, generator=generator), torch.rand(count, generator=generator)
    )


class Regression(L.LightningModule):
    """A convolution, a norm and a linear layer with a mean loss, weighed as processes demand."""

    def __init__(
        self, norm: str = "group", *, die_at: int | None = None, kill_at: int | None = None, spoil: str = ""
    ) -> None:
        super().__init__()
        torch.manual_seed(0)
        layer = nn.GroupNorm(2, 4) if norm == "group" else nn.BatchNorm2d(4)
        self.net = nn.Sequential(nn.Conv2d(1, 4, 3), layer, nn.ReLU(), nn.Flatten(), nn.Linear(64, 1))
        self.die_at, self.kill_at, self.spoil = die_at, kill_at, spoil
        self.drawn: list[float] = []
        self.sizes: list[int] = []

    def training_step(self, batch: list[torch.Tensor], index: int) -> torch.Tensor:
        x, y = batch
        self.drawn.append(float(torch.rand(())))
        self.sizes.append(len(x))
        if self.kill_at == self.global_step:
            die()
        loss = ((self.net(x)[:, 0] - y) ** 2).mean()
        self.log("train_loss", loss, on_step=False, on_epoch=True, batch_size=len(x), sync_dist=True)
        if self.spoil == "loss" and (self.current_epoch, index, rank()) == (2, 1, world_size() - 1):
            loss = loss * float("nan")
        return loss * ddp_weight(len(x))

    def validation_step(self, batch: list[torch.Tensor], index: int) -> None:
        x, y = batch
        loss = ((self.net(x)[:, 0] - y) ** 2).mean()
        if self.spoil == "val_loss" and self.current_epoch == 2:
            loss = loss * float("inf")
        self.log("val_loss", loss, batch_size=len(x), sync_dist=True)

    def on_train_epoch_start(self) -> None:
        if self.current_epoch == self.die_at:
            raise RuntimeError("killed")

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        if self.spoil == "weight" and (self.current_epoch, batch_idx) == (2, 1):
            with torch.no_grad():
                self.net[-1].bias.fill_(float("inf"))

    def configure_optimizers(self) -> dict[str, Any]:
        optimizer = torch.optim.Adam(self.parameters(), 0.01)
        plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": plateau, "monitor": "val_loss"}}


def torchrun(nodes: int) -> None:
    """Its environment."""
    local = world_size() // nodes
    numbers = {
        "WORLD_SIZE": world_size(), "LOCAL_WORLD_SIZE": local, "RANK": rank(), "LOCAL_RANK": rank() % local,
        "GROUP_RANK": rank() // local, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": 1,
    }  # fmt: skip
    os.environ |= {name: str(value) for name, value in numbers.items()}


def trained(
    folder: Path, settings: Fit, count: int, options: dict[str, Any], nodes: int = 1
) -> tuple[str, float, list[float], list[int], str]:
    """What became of a fit: the file, the last val_loss, draws, sizes of the slices, and the error if any."""
    if world_size() > 1:
        torchrun(nodes)
    module, file, error = Regression(**options), "", ""
    try:
        file = fit(
            module, cases(count), settings, folder=folder, seed=3, title="toy", val=cases(7, seed=2)
        ).name
    except (FloatingPointError, ValueError) as caught:
        error = f"{type(caught).__name__}: {caught}"
    losses = module.trainer.callback_metrics if module._trainer is not None else {}
    return file, float(losses.get("val_loss", 0.0)), module.drawn, module.sizes, error


class Marked(Regression):
    """Its buffers differ between processes before the first step; `met` is what that step meets."""

    def __init__(self) -> None:
        super().__init__("batch")
        self.queue = MomentumQueue(4, 2, with_ids=True)
        self.met: dict[str, float] = {}

    def on_train_start(self) -> None:
        for buffer in self.buffers():
            buffer.fill_(rank())

    def training_step(self, batch: list[torch.Tensor], index: int) -> torch.Tensor:
        self.met = {name: float(buffer.flatten()[0]) for name, buffer in self.named_buffers()}
        return super().training_step(batch, index)


def met(folder: Path) -> dict[str, float]:
    """The first values of the buffers in the only step of a fit."""
    torchrun(1)
    module = Marked()
    fit(module, cases(8), Fit(epochs=1, batch_size=8), folder=folder, seed=3, title="toy", val=cases(7))
    return module.met


def held(folder: Path) -> str:
    try:
        with hold(folder):
            return "held"
    except Busy as error:
        return str(error)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def killed(folder: Path, settings: Fit, moment: str, count: int) -> None:
    """A fit that is killed in a step, or at the count-th file: half written, before it has its name, or after."""
    seen, real = 0, os.replace

    def replace(source: Path, target: Path) -> None:
        nonlocal seen
        seen += 1
        if seen == count and moment == "half":
            os.truncate(source, os.path.getsize(source) // 2)
        if seen == count and moment in ("half", "before"):
            die()
        real(source, target)
        if seen == count:
            die()

    if moment != "step":
        os.replace = replace
    with hold(folder):
        trained(folder, settings, 21, {"kill_at": count} if moment == "step" else {})


def finished(folder: Path, settings: Fit) -> None:
    """The fit's end, after whatever was left in the folder."""
    with hold(folder):
        trained(folder, settings, 21, {})


def validated(logits: torch.Tensor, target: torch.Tensor) -> float:
    """The validation loss of a network that gives these logits, with the multi-label Dice loss."""
    module = Segmentation(nn.Identity(), loss=soft_dice, tuning=Tuning(lr=1.0), epochs=1)
    logged: dict[str, float] = {}
    module.log = lambda name, value, **_: logged.update({name: float(value)})  # type: ignore[method-assign]
    with torch.no_grad():
        module.validation_step([logits, target[:, None]], 0)
    return logged["val_loss"]


def spoken(folder: Path, counts: list[int]) -> tuple[float, str, list[bool]]:
    """What the functions of processes.py say here; each process writes its number, and the first one's stays."""
    write_json(folder / "rank.json", rank())
    flags = [anywhere(torch.tensor(rank() in who)) for who in ((), (1,), (0, 1))]
    return float(ddp_weight(counts[rank()])), agree(f"of {rank()}"), flags
