"""Modules that the tests of `sslmed.studies.engine.fit` train, in this process or on the ranks of tests/ranks.py."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from sslmed.distributed import ddp_weight, rank, world_size
from sslmed.memory import MomentumQueue
from sslmed.methods import Step
from sslmed.studies.engine import Fit, fit
from sslmed.studies.locks import Busy, folder_lock
from sslmed.studies.optimisers import Optimiser
from sslmed.studies.processes import any_rank, broadcast_rank0
from sslmed.studies.runs import write_json
from sslmed.tasks import Segmenter, soft_dice


def cases(count: int, seed: int = 1) -> TensorDataset:
    generator = torch.Generator().manual_seed(seed)
    return TensorDataset(torch.rand(count, 1, 6, 6, generator=generator), torch.rand(count, generator=generator))


BATCHES = 3  # of an epoch of 21 cases in batches of at most 8
PLATEAU = Optimiser("adam", lr=0.01, schedule="plateau", patience=0)


class Regression(nn.Module):
    """A convolution, a norm and a linear layer with a mean loss, weighed as processes demand."""

    seen: Tensor

    def __init__(
        self, norm: str = "group", *, die_at: int | None = None, kill_at: int | None = None, spoil: str = ""
    ) -> None:
        super().__init__()
        torch.manual_seed(0)
        layer = nn.GroupNorm(2, 4) if norm == "group" else nn.BatchNorm2d(4)
        self.net = nn.Sequential(nn.Conv2d(1, 4, 3), layer, nn.ReLU(), nn.Flatten(), nn.Linear(64, 1))
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))  # batches, also of earlier runs
        self.die_at, self.kill_at, self.spoil = die_at, kill_at, spoil
        self.drawn: list[float] = []
        self.sizes: list[int] = []
        self.val_loss = 0.0

    def forward(self, x: Tensor, y: Tensor) -> Step:
        seen = int(self.seen)
        if self.die_at is not None and seen == self.die_at * BATCHES:
            raise RuntimeError("killed")
        self.drawn.append(float(torch.rand(())))
        self.sizes.append(len(x))
        if self.kill_at == seen:
            die()
        loss = ((self.net(x)[:, 0] - y) ** 2).mean()
        terms = {"train_loss": loss.detach()}
        if self.spoil == "loss" and (seen, rank()) == (2 * BATCHES + 1, world_size() - 1):
            loss = loss * float("nan")
        self.seen += 1
        return Step(loss * ddp_weight(len(x)), terms)

    def validate(self, batches: Iterable[tuple[Tensor, Tensor]]) -> dict[str, float]:
        errors = torch.cat([(self.net(x)[:, 0] - y) ** 2 for x, y in batches])
        self.val_loss = float(errors.mean())
        spoiled = self.spoil == "val_loss" and int(self.seen) == 3 * BATCHES
        return {"val_loss": float("inf") if spoiled else self.val_loss}

    def start(self, batches: Iterable[Any]) -> None:
        pass

    def after_step(self) -> None:
        if self.spoil == "weight" and int(self.seen) == 2 * BATCHES + 2:
            with torch.no_grad():
                self.net[-1].bias.fill_(float("inf"))  # type: ignore[operator]

    def parameter_groups(self) -> list[dict[str, Any]]:
        return [{"params": list(self.parameters())}]


def torchrun(nodes: int) -> None:
    """Its environment."""
    local = world_size() // nodes
    numbers = {
        "WORLD_SIZE": world_size(),
        "LOCAL_WORLD_SIZE": local,
        "RANK": rank(),
        "LOCAL_RANK": rank() % local,
        "GROUP_RANK": rank() // local,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": 1,
    }
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
            module,
            cases(count),
            settings,
            optimiser=PLATEAU,
            folder=folder,
            seed=3,
            title="toy",
            val=cases(7, seed=2),
        ).name
    except (FloatingPointError, ValueError) as caught:
        error = f"{type(caught).__name__}: {caught}"
    return file, module.val_loss, module.drawn, module.sizes, error


class Marked(Regression):
    """Its buffers differ between processes before the first step; `met` is what that step meets."""

    def __init__(self) -> None:
        super().__init__("batch")
        self.queue = MomentumQueue(4, 2, with_ids=True)
        self.met: dict[str, float] = {}

    def start(self, batches: Iterable[Any]) -> None:
        for buffer in self.buffers():
            buffer.fill_(rank())

    def forward(self, x: Tensor, y: Tensor) -> Step:
        self.met = {name: float(buffer.flatten()[0]) for name, buffer in self.named_buffers()}
        return super().forward(x, y)


def met(folder: Path) -> dict[str, float]:
    """The first values of the buffers in the only step of a fit."""
    torchrun(1)
    module = Marked()
    fit(
        module,
        cases(8),
        Fit(epochs=1, batch_size=8),
        optimiser=PLATEAU,
        folder=folder,
        seed=3,
        title="toy",
        val=cases(7),
    )
    return module.met


def held(folder: Path) -> str:
    try:
        with folder_lock(folder):
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
    with folder_lock(folder):
        trained(folder, settings, 21, {"kill_at": count} if moment == "step" else {})


def finished(folder: Path, settings: Fit) -> None:
    """The fit's end, after whatever was left in the folder."""
    with folder_lock(folder):
        trained(folder, settings, 21, {})


def validated(logits: torch.Tensor, target: torch.Tensor) -> float:
    """The validation loss of a network that gives these logits, with the multi-label Dice loss."""
    module = Segmenter(nn.Identity(), loss=soft_dice)
    with torch.no_grad():
        return module.validate([(logits, target[:, None])])["val_loss"]


def spoken(folder: Path, counts: list[int]) -> tuple[float, str, list[bool]]:
    """What the functions of processes.py say here; each process writes its number, and the first one's stays."""
    write_json(folder / "rank.json", rank())
    flags = [bool(any_rank(torch.tensor(rank() in who))) for who in ((), (1,), (0, 1))]
    return float(ddp_weight(counts[rank()])), broadcast_rank0(f"of {rank()}"), flags
