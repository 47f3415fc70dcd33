"""How pretexts learn: Adam or SGD, at a constant rate, down a cosine, or halved on a plateau."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class Optimiser:
    """Settings of an optimiser.

    Attributes:
        name: "adam" or "sgd".
        lr: learning rate at the start.
        weight_decay: that of the optimiser.
        momentum: of SGD.
        schedule: "constant"; "cosine", down to 0 over `epochs`; "plateau", halved when the training loss has not fallen
            for `patience` epochs.
        epochs: length of the cosine.
        patience: epochs of the plateau.
    """

    name: str
    lr: float
    weight_decay: float = 0.0
    momentum: float = 0.9
    schedule: str = "constant"
    epochs: int = 1
    patience: int = 10

    def __post_init__(self) -> None:
        for key, known in (("name", ("adam", "sgd")), ("schedule", ("constant", "cosine", "plateau"))):
            if getattr(self, key) not in known:
                raise ValueError(f"{key} must be one of {', '.join(known)}, got {getattr(self, key)!r}")

    def build(
        self,
        scheduled: Iterable[torch.nn.Parameter],
        *,
        fixed: Iterable[torch.nn.Parameter] = (),
    ) -> dict[str, Any]:
        """Optimiser and schedule as Lightning's `configure_optimizers` returns them.

        Args:
            scheduled: parameters whose rate follows the schedule.
            fixed: parameters that keep the rate of the start.
        """
        groups = [{"params": [p for p in some if p.requires_grad]} for some in (scheduled, fixed)]
        groups = [group for group in groups if group["params"]]
        optimizer: torch.optim.Optimizer
        if self.name == "adam":
            optimizer = torch.optim.Adam(groups, self.lr, weight_decay=self.weight_decay)
        else:
            optimizer = torch.optim.SGD(
                groups, self.lr, momentum=self.momentum, weight_decay=self.weight_decay
            )
        if self.schedule == "constant":
            return {"optimizer": optimizer}
        if self.schedule == "plateau":
            plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(
                optimizer, factor=0.5, patience=self.patience
            )
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": plateau, "monitor": "loss"}}

        def factor(epoch: int) -> float:
            angle = torch.pi * min(epoch, self.epochs) / self.epochs
            return (1 + float(torch.cos(torch.tensor(angle, dtype=torch.float64)))) / 2

        factors = [factor, lambda _: 1.0][: len(groups)]
        return {
            "optimizer": optimizer,
            "lr_scheduler": torch.optim.lr_scheduler.LambdaLR(optimizer, factors),
        }
