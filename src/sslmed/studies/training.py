"""One resumable Lightning fit, for pretext and downstream alike, in one process or in several.

Everything random follows from (seed, epoch, step, process): the order of the cases, and the global generator that
augmentations draw from. So a run that was killed goes on from its last checkpoint and ends with the same numbers.
"""

from __future__ import annotations

import logging
import os
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping
from lightning.pytorch.plugins.environments import LightningEnvironment, TorchElasticEnvironment
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, Dataset

from ..memory import MomentumQueue
from .checkpoints import PortableCheckpoint, WholeFiles
from .guards import Board, Finite, OneState, PlateauFirst, WholeSums
from .processes import agree, barrier, rank, world_size
from .runs import write_csv
from .seeding import EvenBatches, OrderByEpoch, SeedSteps

LAST = "last.ckpt"
BEST = "best.ckpt"


@dataclass(frozen=True)
class Fit:
    """Settings of one fit.

    Attributes:
        epochs: at most so many.
        batch_size: cases of one forward pass, of all processes together: a run is the same on one machine and on
            many. The last batches of an epoch are evened out rather than dropped.
        precision: Lightning's precision, as "32-true" or "bf16-mixed".
        checkpoint_every: epochs between checkpoints, so what a killed run loses at most.
        patience: epochs without a better `val_loss` before stopping; None never stops early.
        patience_from: the epoch after which `patience` counts.
        accumulate: batches whose gradients are averaged before the optimiser steps. A contrastive loss sees no more
            negatives by it: each batch is contrasted within itself.
    """

    epochs: int
    batch_size: int
    precision: str = "32-true"
    checkpoint_every: int = 1
    patience: int | None = None
    patience_from: int = 0
    accumulate: int = 1

    def __post_init__(self) -> None:
        if self.epochs % self.checkpoint_every:
            raise ValueError(
                f"epochs must be a multiple of checkpoint_every, got {self.epochs} and {self.checkpoint_every}"
            )
        if self.accumulate < 1:
            raise ValueError(f"accumulate must be at least 1, got {self.accumulate}")


def fit(
    module: L.LightningModule,
    train: Dataset[Any],
    settings: Fit,
    *,
    folder: Path,
    seed: int,
    title: str,
    val: Dataset[Any] | None = None,
    workers: int = 0,
) -> Path:
    """Train `module`, going on from the last checkpoint in `folder` if there is one.

    Under torchrun each process takes its slice of every batch, and all of them validate on the whole of `val`, so that
    `val_loss`, and what is decided by it, is that of one process. A module that logs with `sync_dist=True` and weighs
    means over its own cases by `sslmed.distributed.ddp_weight` then trains as in one process, but for batch
    normalisation and the views that each process draws. Every parameter that needs a gradient must get one; freeze
    the others.

    Returns:
        The checkpoint to use: the one of the best `val_loss` where `val` is given, else the last.

    Raises:
        ValueError: a batch has fewer cases than there are processes.
        FloatingPointError: the loss, the validation loss or a weight became NaN or infinite; the last checkpoint is
            from before.
        OSError: the disk is full; what was there is as it was.
    """
    _quiet()
    order = OrderByEpoch(len(train), seed)  # type: ignore[arg-type]
    batches = EvenBatches(order, settings.batch_size, rank=rank(), world=world_size())
    loaders = [DataLoader(train, batch_sampler=batches, num_workers=workers, persistent_workers=workers > 0)]
    if val is not None:
        loaders.append(DataLoader(val, batch_size=settings.batch_size))
    last = folder / LAST
    trainer = L.Trainer(
        **_machines(),
        precision=settings.precision,
        max_epochs=settings.epochs,
        accumulate_grad_batches=settings.accumulate,
        callbacks=_callbacks(settings, folder, seed=seed, title=title, validates=val is not None),
        logger=Board(folder, name="", version="tensorboard"),
        log_every_n_steps=1_000_000,  # curves are by epoch
        num_sanity_val_steps=0,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    try:
        trainer.fit(module, *loaders, ckpt_path=last if agree(last.exists()) else None)
    except SystemExit:
        if trainer.interrupted:  # Lightning turns Ctrl-C into an exit with status 1, without a word
            raise KeyboardInterrupt from None
        raise
    barrier()  # curves.csv is one process's, and all read it next
    return folder / (BEST if val is not None else LAST)


def _machines() -> dict[str, Any]:
    """The Trainer's arguments about processes, which torchrun's environment tells; no other launcher is guessed at."""
    world = world_size()
    local = int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if world > 1 else 1
    return {
        "accelerator": "cuda"
        if torch.cuda.is_available()
        else "cpu",  # "auto" takes MPS, which has no float64
        "devices": local,
        "num_nodes": world // local,
        "strategy": Processes() if world > 1 else "auto",
        "sync_batchnorm": world > 1 and torch.cuda.is_available(),
        "use_distributed_sampler": False,
        "plugins": [WholeFiles(), TorchElasticEnvironment() if world > 1 else LightningEnvironment()],
    }


class Processes(DDPStrategy):
    """Lightning's DDP, where the mean over processes of whole numbers is not rounded down, and queues are not sent.

    Logged values are weighed by numbers of cases; their mean over processes, 10.5 for 21 cases in two, would become 10.
    A queue takes gathered keys, so that all processes hold the same; as a buffer it would be sent before each step.
    """

    def configure_ddp(self) -> None:
        """Lightning's hook."""
        queues = [
            f"{name}.{buffer}"
            for name, module in self.model.named_modules() if isinstance(module, MomentumQueue)
            for buffer, _ in module.named_buffers()
        ]  # fmt: skip
        DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(self.model, queues)
        super().configure_ddp()

    def reduce(self, tensor: Tensor, group: Any = None, reduce_op: Any = "mean") -> Tensor:
        """Lightning's hook."""
        return super().reduce(tensor if tensor.is_floating_point() else tensor.float(), group, reduce_op)


def _callbacks(settings: Fit, folder: Path, *, seed: int, title: str, validates: bool) -> list[Callback]:
    """In the order of their hooks: what may stop the fit comes before what writes."""
    callbacks: list[Callback] = [
        SeedSteps(seed),
        WholeSums(settings.accumulate),
        OneState(),
        PlateauFirst(),
        Finite(title, LAST),
        History(folder / "curves.csv", title=title, epochs=settings.epochs),
    ]
    if settings.patience is not None:
        callbacks.append(LateEarlyStopping(settings.patience, settings.patience_from))
    if validates:
        callbacks.append(PortableCheckpoint(folder, "best", monitor="val_loss", enable_version_counter=False))
    callbacks.append(
        PortableCheckpoint(
            folder, "last", every_n_epochs=settings.checkpoint_every, enable_version_counter=False,
            save_on_train_epoch_end=True,
        )
    )  # fmt: skip
    return callbacks


class LateEarlyStopping(EarlyStopping):
    """Early stopping on `val_loss` whose patience counts only after an epoch (Ellis et al., section IV-B)."""

    def __init__(self, patience: int, start: int) -> None:
        super().__init__("val_loss", patience=patience, mode="min")
        self.start = start

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Lightning's hook; a run that was killed after its last epoch must not train another."""
        trainer.should_stop = self.wait_count >= self.patience

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Lightning's hook."""
        if trainer.current_epoch >= self.start:
            super().on_validation_end(trainer, pl_module)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Lightning's hook."""
        if trainer.current_epoch >= self.start:
            super().on_train_epoch_end(trainer, pl_module)


class History(Callback):
    """Keep one row of metrics an epoch in the checkpoint, write them as curves.csv, and print progress.

    A line comes after the first and the last epoch, and once a minute in between.
    """

    def __init__(self, path: Path, *, title: str, epochs: int) -> None:
        self.path, self.title, self.epochs = path, title, epochs
        self.rows: list[dict[str, float]] = []
        self._began = self._said = 0.0
        self._first = 0

    def state_dict(self) -> dict[str, Any]:
        """The rows so far."""
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the rows of a resumed fit."""
        self.rows = state_dict["rows"]

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clock."""
        self._began, self._first = time.monotonic(), trainer.current_epoch

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the row of this epoch; validation has run by now."""
        numbers = {key: float(value) for key, value in trainer.callback_metrics.items()}
        self.rows.append({"epoch": trainer.current_epoch, **numbers})
        write_csv(self.path, self.rows, columns=list(self.rows[0]))
        epoch, now = trainer.current_epoch + 1, time.monotonic()
        done = epoch - self._first
        if rank() == 0 and (done == 1 or epoch == self.epochs or now - self._said >= 60):
            self._said = now
            words = "  ".join(f"{key} {value:.4f}" for key, value in numbers.items() if key != "lr")
            each = (now - self._began) / done
            left = f", {_duration(each * (self.epochs - epoch))} left" if epoch < self.epochs else ""
            print(
                f"    {self.title}: epoch {epoch}/{self.epochs}  {words}  ({each:.1f} s/epoch{left})",
                flush=True,
            )


def _duration(seconds: float) -> str:
    """Seconds as "40 s", "12 min" or "3.5 h"."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def _quiet() -> None:
    """Silence what Lightning says of choices made here on purpose; other warnings stay."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    for message in (
        ".*does not have many workers.*",  # the images are in memory: workers would only copy them
        ".*exists and is not empty.*",  # the folder is meant to be resumed
        ".*number of training batches.*",
        ".*in eval mode at the start of training.*",  # a frozen part keeps its batch statistics
        ".*LeafSpec.*",  # Lightning on its own use of torch
        r".*It is recommended to use `self.log\('lr'.*",  # the rate is the same on all processes
    ):
        warnings.filterwarnings("ignore", message=message)
