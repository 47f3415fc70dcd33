"""Callbacks that keep a fit honest: finite numbers, whole sums of gradients, one state on all, resumable schedules."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor
from torch import distributed as dist

from .processes import anywhere, world_size


class Finite(Callback):
    """Stop every process at the first loss, validation loss or weight that is NaN or infinite.

    Each check comes before the checkpoint that it would spoil, so what `last.ckpt` holds is finite.

    Args:
        title: of the fit, for the message.
        kept: name of the last checkpoint, for the message.

    Raises:
        FloatingPointError: from Lightning's hooks, on all processes.
    """

    def __init__(self, title: str, kept: str) -> None:
        self.title, self.kept = title, kept
        self.step = 0

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Lightning's hook."""
        self.step = batch_idx
        loss = outputs["loss"] if isinstance(outputs, dict) else outputs
        if isinstance(loss, Tensor):
            self._stop(trainer, ~loss.detach().isfinite().all(), "the loss is NaN or infinite")

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Lightning's hook."""
        loss = trainer.callback_metrics.get("val_loss")
        if loss is not None and not trainer.sanity_checking:
            self._stop(
                trainer, ~loss.isfinite().to(pl_module.device), "the validation loss is NaN or infinite"
            )

    def on_save_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Lightning's hook, which runs on all processes, though one of them writes."""
        wrong = [
            name for name, value in checkpoint["state_dict"].items()
            if isinstance(value, Tensor) and value.is_floating_point() and not bool(value.isfinite().all())
        ]  # fmt: skip
        where = (
            f"{wrong[0]} is NaN or infinite" if wrong else "weights of another process are NaN or infinite"
        )
        self._stop(trainer, torch.tensor(bool(wrong), device=pl_module.device), where)

    def _stop(self, trainer: L.Trainer, wrong: Tensor, what: str) -> None:
        if anywhere(wrong):
            raise FloatingPointError(
                f"{self.title}: {what} in epoch {trainer.current_epoch + 1} of {trainer.max_epochs}, step "
                f"{self.step + 1}; {self.kept}, if there is one, is from before and is kept. The same command would "
                f"come to the same end: try a lower learning rate, or float32 where this was not"
            )


class WholeSums(Callback):
    """Make the last sum of gradients of an epoch a mean, where fewer than `accumulate` batches are left for it.

    Lightning divides by `accumulate` whether or not so many came, which would let the last cases weigh less.
    """

    def __init__(self, accumulate: int) -> None:
        self.accumulate, self.come = accumulate, accumulate

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Lightning's hook."""
        self.come = batch_idx % self.accumulate + 1

    def on_before_optimizer_step(
        self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Lightning's hook; it runs after the last backward and before gradients are clipped."""
        if self.come < self.accumulate:
            for group in optimizer.param_groups:
                for parameter in group["params"]:
                    if parameter.grad is not None:
                        parameter.grad.mul_(self.accumulate / self.come)


class PlateauFirst(Callback):
    """Step ReduceLROnPlateau before the last checkpoint of an epoch is saved.

    Lightning steps it right after, so that a resumed fit would miss one step, and count a bad epoch too few.
    """

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Lightning's hook."""
        for config in trainer.lr_scheduler_configs:
            if config.reduce_on_plateau:
                config.interval = "here"  # neither "step" nor "epoch": Lightning leaves it alone

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Lightning's hook; validation has run by now."""
        for config in trainer.lr_scheduler_configs:
            if config.reduce_on_plateau:
                config.scheduler.step(trainer.callback_metrics[str(config.monitor)])


class OneState(Callback):
    """Give all processes the first one's buffers before validation: its batch statistics are those that are saved.

    DistributedDataParallel does so before each training step; validation does not go through it.
    """

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Lightning's hook."""
        if world_size() > 1:
            for buffer in pl_module.buffers():
                value = buffer.contiguous()
                dist.broadcast(value, 0)
                buffer.copy_(value)


class Board(TensorBoardLogger):
    """TensorBoard's files, done without for the rest of a fit once the disk refuses them: curves.csv is the record."""

    refused = False

    def _unless_refused(self, write: Callable[[], Any]) -> None:
        if self.refused:
            return
        try:
            write()
        except OSError as error:
            self.refused = True
            print(
                f"    TensorBoard's files stop here: {error}; curves.csv goes on", file=sys.stderr, flush=True
            )

    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        """Lightning's hook."""
        self._unless_refused(functools.partial(super().log_metrics, metrics, step))

    def save(self) -> None:
        """Lightning's hook."""
        self._unless_refused(super().save)

    def finalize(self, status: str) -> None:
        """Lightning's hook."""
        self._unless_refused(functools.partial(super().finalize, status))
