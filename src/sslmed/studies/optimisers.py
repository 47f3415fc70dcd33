"""How pretexts learn: Adam or SGD, at a constant rate, down a cosine, or halved on a plateau."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class Optimiser:
    """Settings of an optimiser.

    Attributes:
        name: "adam", "adamw" or "sgd".
        lr: learning rate at the start.
        weight_decay: that of the optimiser.
        momentum: of SGD.
        schedule: "constant"; "cosine", down to 0 over `epochs`; "plateau", halved when the training loss has not fallen
            for `patience` epochs.
        epochs: length of the cosine, which needs it.
        patience: epochs of the plateau.
    """

    name: str
    lr: float
    weight_decay: float = 0.0
    momentum: float = 0.9
    schedule: str = "constant"
    epochs: int | None = None
    patience: int = 10

    def __post_init__(self) -> None:
        for key, known in (
            ("name", ("adam", "adamw", "sgd")),
            ("schedule", ("constant", "cosine", "plateau")),
        ):
            if getattr(self, key) not in known:
                raise ValueError(f"{key} must be one of {', '.join(known)}, got {getattr(self, key)!r}")
        if self.schedule == "cosine" and not self.epochs:
            raise ValueError(f"epochs must be given for a cosine, got {self.epochs}")

    def build(self, groups: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Optimiser and schedule as Lightning's `configure_optimizers` returns them.

        Args:
            groups: as `sslmed.methods.Method.parameter_groups` returns them; a group with `fix_lr` keeps the rate of
                the start.
        """
        chosen = [
            ([p for p in group["params"] if p.requires_grad], group.get("fix_lr", False)) for group in groups
        ]
        chosen = [(some, keeps) for some, keeps in chosen if some]
        trained = [{"params": some} for some, _ in chosen]
        optimizer: torch.optim.Optimizer
        if self.name != "sgd":
            kind = torch.optim.Adam if self.name == "adam" else torch.optim.AdamW
            optimizer = kind(trained, self.lr, weight_decay=self.weight_decay)
        else:
            optimizer = torch.optim.SGD(
                trained, self.lr, momentum=self.momentum, weight_decay=self.weight_decay
            )
        if self.schedule == "constant":
            return {"optimizer": optimizer}
        if self.schedule == "plateau":
            plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(
                optimizer, factor=0.5, patience=self.patience,
                min_lr=[self.lr if keeps else 0.0 for _, keeps in chosen],
            )  # fmt: skip
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": plateau, "monitor": "loss"}}
        factors: list[Callable[[int], float]] = [_constant if keeps else self._cosine for _, keeps in chosen]
        return {
            "optimizer": optimizer,
            "lr_scheduler": torch.optim.lr_scheduler.LambdaLR(optimizer, factors),
        }

    def _cosine(self, epoch: int) -> float:
        epochs = self.epochs or 1
        return (1 + math.cos(math.pi * min(epoch, epochs) / epochs)) / 2


def _constant(_: int) -> float:
    return 1.0
