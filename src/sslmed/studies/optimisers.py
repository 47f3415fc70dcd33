"""Optimisers and learning rate schedules."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.optim.lr_scheduler import LambdaLR, ReduceLROnPlateau

NAMES = ("adam", "adamw", "sgd")
SCHEDULES = ("constant", "cosine", "poly", "plateau")


@dataclass(frozen=True)
class Optimiser:
    """Settings of an optimiser and of the schedule of its learning rate.

    Attributes:
        name: "adam", "adamw" or "sgd".
        lr: learning rate at the start.
        weight_decay: that of the optimiser.
        momentum: of SGD.
        schedule: "constant"; "cosine" or "poly", down to `end` over all epochs; "plateau", halved when the watched loss
            has not fallen for `patience` epochs: the validation loss, or the training loss where nothing is validated.
        end: learning rate at the end of "cosine" and "poly".
        power: exponent of "poly".
        patience: epochs of "plateau".
    """

    name: str
    lr: float
    weight_decay: float = 0.0
    momentum: float = 0.9
    schedule: str = "constant"
    end: float = 0.0
    power: float = 0.9
    patience: int = 10

    def __post_init__(self) -> None:
        for key, known in (("name", NAMES), ("schedule", SCHEDULES)):
            if getattr(self, key) not in known:
                raise ValueError(f"{key} must be one of {', '.join(known)}, got {getattr(self, key)!r}")
        if not 0 < self.lr < math.inf:
            raise ValueError(f"lr must be above 0, got {self.lr}")
        if not 0 <= self.weight_decay < math.inf:
            raise ValueError(f"weight_decay must be at least 0, got {self.weight_decay}")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum must be at least 0 and below 1, got {self.momentum}")
        if not 0 <= self.end <= self.lr:
            raise ValueError(f"end must be from 0 to the lr {self.lr}, got {self.end}")
        if not 0 < self.power < math.inf:
            raise ValueError(f"power must be above 0, got {self.power}")
        if self.patience < 0:
            raise ValueError(f"patience must be at least 0, got {self.patience}")

    def build(
        self, groups: Sequence[Mapping[str, Any]], *, epochs: int
    ) -> tuple[torch.optim.Optimizer, LambdaLR | ReduceLROnPlateau | None]:
        """The optimiser and its schedule, which steps once an epoch; None for a constant rate.

        Args:
            groups: as `sslmed.methods.Method.parameter_groups` returns them; the rate of a group with `lr_factor` is
                so many times as high, and a group with `fix_lr` keeps the rate of the start.
            epochs: length of the schedule.
        """
        trained, fixed = list[dict[str, Any]](), list[bool]()
        for group in groups:
            some = [p for p in group["params"] if p.requires_grad]
            if some:
                trained.append({"params": some, "lr": self.lr * group.get("lr_factor", 1.0)})
                fixed.append(group.get("fix_lr", False))
        optimizer: torch.optim.Optimizer
        # On a CPU one pass over the weights takes a third of the time; on a GPU torch's usual choice can be clipped.
        fused = None if torch.cuda.is_available() else True
        if self.name == "sgd":
            optimizer = torch.optim.SGD(
                trained, self.lr, momentum=self.momentum, weight_decay=self.weight_decay, fused=fused
            )
        else:
            kind = torch.optim.Adam if self.name == "adam" else torch.optim.AdamW
            optimizer = kind(trained, self.lr, weight_decay=self.weight_decay, fused=fused)
        if self.schedule == "constant":
            return optimizer, None
        if self.schedule == "plateau":
            least = [group["lr"] if keeps else 0.0 for group, keeps in zip(trained, fixed, strict=True)]
            return optimizer, ReduceLROnPlateau(optimizer, factor=0.5, patience=self.patience, min_lr=least)

        def factor(epoch: int) -> float:
            done = min(epoch, epochs) / epochs
            if self.schedule == "poly":
                return poly_lr(epoch, start=self.lr, end=self.end, epochs=epochs, power=self.power) / self.lr
            end = self.end / self.lr
            return end + (1 - end) * (1 + math.cos(math.pi * done)) / 2

        factors: list[Callable[[int], float]] = [_constant if keeps else factor for keeps in fixed]
        return optimizer, LambdaLR(optimizer, factors)


def poly_lr(epoch: int, *, start: float, end: float, epochs: int, power: float) -> float:
    """Learning rate of an epoch: (start - end) (1 - epoch / epochs)^power + end (Ellis et al., section IV-B)."""
    return (start - end) * (1 - min(epoch, epochs) / epochs) ** power + end


def _constant(_: int) -> float:
    return 1.0
