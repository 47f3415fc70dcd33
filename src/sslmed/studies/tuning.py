"""How fine-tuning learns: Adam and the schedules of the four papers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class Tuning:
    """Adam with one of three schedules.

    Attributes:
        lr: learning rate at the start.
        weight_decay: Adam's.
        schedule: "constant"; "poly", down to `end`; "plateau", halved when `val_loss` has not fallen for `patience`
            epochs.
        end: learning rate at the end of "poly".
        power: exponent of "poly".
        patience: epochs of "plateau".
    """

    lr: float
    weight_decay: float = 0.0
    schedule: str = "constant"
    end: float = 0.0
    power: float = 0.9
    patience: int = 10

    def build(self, parameters: Iterable[torch.nn.Parameter], *, epochs: int) -> dict[str, Any]:
        """Optimiser and schedule as Lightning's `configure_optimizers` returns them."""
        optimizer = torch.optim.Adam(parameters, lr=self.lr, weight_decay=self.weight_decay)
        if self.schedule == "constant":
            return {"optimizer": optimizer}
        if self.schedule == "plateau":
            plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(
                optimizer, factor=0.5, patience=self.patience
            )
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": plateau, "monitor": "val_loss"}}
        if self.schedule != "poly":
            raise ValueError(f"schedule must be constant, poly or plateau, got {self.schedule!r}")

        def factor(epoch: int) -> float:
            return poly_lr(epoch, start=self.lr, end=self.end, epochs=epochs, power=self.power) / self.lr

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": schedule}


def poly_lr(epoch: int, *, start: float, end: float, epochs: int, power: float) -> float:
    """Learning rate of an epoch: (start - end) (1 - epoch / epochs)^power + end (Ellis et al., section IV-B)."""
    return (start - end) * (1 - min(epoch, epochs) / epochs) ** power + end
