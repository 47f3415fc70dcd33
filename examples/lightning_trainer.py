"""A method of `sslmed.methods` in Lightning's Trainer.

    python examples/lightning_trainer.py --epochs 5

Checkpoints, mixed precision, several GPUs and loggers are then the Trainer's: `Trainer(precision="bf16-mixed")`,
`trainer.fit(..., ckpt_path="last")`.
"""

from __future__ import annotations

import argparse
from typing import Any

import lightning
import torch
from torch.utils.data import DataLoader, StackDataset

from sslmed.augment import views
from sslmed.data import Phantom
from sslmed.methods import Method, MoCo
from sslmed.models import ResNetEncoder


class Pretraining(lightning.LightningModule):
    """Any method, trained by AdamW."""

    def __init__(self, method: Method) -> None:
        super().__init__()
        self.method = method

    def training_step(self, batch: Any, _: int) -> torch.Tensor:
        """The loss of a batch and its terms."""
        item, index = batch
        loss, terms = self.method(item["image"], index)
        self.log_dict(terms, on_step=False, on_epoch=True, prog_bar=True, batch_size=len(index))
        return loss

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Update moving averages after each step of the optimizer."""
        super().optimizer_step(*args, **kwargs)
        self.method.after_step()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW at a constant rate."""
        return torch.optim.AdamW(self.method.parameter_groups(), lr=1e-3)


def main() -> None:
    """Train MoCo on synthetic ultrasound; any data set of `sslmed.data` can be used."""
    parser = argparse.ArgumentParser(description="MoCo in Lightning's Trainer.")
    parser.add_argument("--epochs", type=int, default=5)
    epochs = parser.parse_args().epochs
    data = Phantom(256, size=96)
    loader = DataLoader(StackDataset(data, range(len(data))), 32, shuffle=True)
    method = MoCo(ResNetEncoder("resnet18", width=32), views=views.moco_v2(64), queue_size=192)
    lightning.Trainer(max_epochs=epochs, enable_checkpointing=False, logger=False).fit(Pretraining(method), loader)
    torch.save(method.trained.state_dict(), "encoder.pt")


if __name__ == "__main__":
    main()
