"""One resumable Lightning fit, for pretext and downstream alike.

Everything random follows from (seed, epoch, step): the order of the cases, and the global generator that augmentations
draw from. So a run that was killed goes on from its last checkpoint and ends with the same numbers.
"""

from __future__ import annotations

import io
import logging
import sys
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.plugins.io import TorchCheckpointIO
from torch.utils.data import DataLoader, Dataset

from pipeline.runs import write_bytes, write_csv
from pipeline.seeding import EvenBatches, OrderByEpoch, SeedSteps

LAST = "last.ckpt"
BEST = "best.ckpt"


@dataclass(frozen=True)
class Fit:
    """Settings of one fit.

    Attributes:
        epochs: at most so many.
        batch_size: cases a step; the last steps of an epoch are evened out rather than dropped.
        precision: Lightning's precision, as "32-true" or "bf16-mixed".
        checkpoint_every: epochs between checkpoints, so what a killed run loses at most.
        patience: epochs without a better `val_loss` before stopping; None never stops early.
        patience_from: the epoch after which `patience` counts.
    """

    epochs: int
    batch_size: int
    precision: str = "32-true"
    checkpoint_every: int = 1
    patience: int | None = None
    patience_from: int = 0

    def __post_init__(self) -> None:
        if self.epochs % self.checkpoint_every:
            raise ValueError(
                f"epochs must be a multiple of checkpoint_every, got {self.epochs} and {self.checkpoint_every}"
            )


def fit(
    module: L.LightningModule,
    train: Dataset[Any],
    settings: Fit,
    *,
    folder: Path,
    seed: int,
    title: str,
    val: Dataset[Any] | None = None,
) -> Path:
    """Train `module`, going on from the last checkpoint in `folder` if there is one.

    Returns:
        The checkpoint to use: the one of the best `val_loss` where `val` is given, else the last.
    """
    _quiet()
    history = History(folder / "curves.csv", title=title, epochs=settings.epochs)
    callbacks: list[Callback] = [SeedSteps(seed), history]
    if settings.patience is not None:
        callbacks.append(LateEarlyStopping(settings.patience, settings.patience_from))
    if val is not None:
        callbacks.append(PortableCheckpoint(folder, "best", monitor="val_loss", enable_version_counter=False))
    callbacks.append(
        PortableCheckpoint(
            folder, "last", every_n_epochs=settings.checkpoint_every, enable_version_counter=False,
            save_on_train_epoch_end=True,
        )
    )  # fmt: skip
    trainer = L.Trainer(
        accelerator="auto",
        devices=1,
        precision=settings.precision,
        max_epochs=settings.epochs,
        callbacks=callbacks,
        plugins=[WholeFiles()],
        logger=TensorBoardLogger(folder, name="", version="tensorboard"),
        log_every_n_steps=1_000_000,  # curves are by epoch
        num_sanity_val_steps=0,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    loaders = [_loader(train, settings.batch_size, seed)]
    if val is not None:
        loaders.append(DataLoader(val, batch_size=settings.batch_size))
    last = folder / LAST
    trainer.fit(module, *loaders, ckpt_path=last if last.exists() else None)
    return folder / (BEST if val is not None else LAST)


def _loader(data: Dataset[Any], batch_size: int, seed: int) -> DataLoader[Any]:
    order = OrderByEpoch(len(data), seed)  # type: ignore[arg-type]
    return DataLoader(data, batch_sampler=EvenBatches(order, batch_size))


class PortableCheckpoint(ModelCheckpoint):
    """A ModelCheckpoint that keeps file names without their folder, so that a run may be moved and then resumed.

    Lightning's own forgets the best score when the folder has another path, and carries that path in every checkpoint.
    """

    _PATHS = ("best_model_path", "kth_best_model_path", "last_model_path")

    def state_dict(self) -> dict[str, Any]:
        """Lightning's hook."""
        state = super().state_dict()
        state |= {key: Path(state[key]).name for key in self._PATHS}
        state["best_k_models"] = {Path(file).name: score for file, score in state["best_k_models"].items()}
        return state | {"dirpath": ""}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Lightning's hook."""

        def here(file: str) -> str:
            return str(Path(str(self.dirpath), file)) if file else file

        state = state_dict | {key: here(state_dict[key]) for key in self._PATHS} | {"dirpath": self.dirpath}
        state["best_k_models"] = {here(file): score for file, score in state_dict["best_k_models"].items()}
        super().load_state_dict(state)


class WholeFiles(TorchCheckpointIO):
    """Checkpoints that are whole or absent: Lightning's go by the system's temporary folder, often another disk."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Lightning's hook."""
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        write_bytes(Path(path), buffer.getvalue())


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
    """Keep one row of metrics an epoch in the checkpoint, write them as curves.csv, and print progress."""

    def __init__(self, path: Path, *, title: str, epochs: int) -> None:
        self.path, self.title, self.epochs = path, title, epochs
        self.rows: list[dict[str, float]] = []
        self._began = time.monotonic()

    def state_dict(self) -> dict[str, Any]:
        """Lightning's hook."""
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Lightning's hook."""
        self.rows = state_dict["rows"]

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Lightning's hook."""
        self._began = time.monotonic()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Lightning's hook; validation has run by now."""
        numbers = {key: float(value) for key, value in trainer.callback_metrics.items()}
        self.rows.append({"epoch": trainer.current_epoch, **numbers})
        write_csv(self.path, self.rows, columns=list(self.rows[0]))
        epoch = trainer.current_epoch + 1
        if epoch == 1 or epoch == self.epochs or epoch % max(1, self.epochs // 5) == 0:
            seconds = time.monotonic() - self._began
            words = "  ".join(f"{key} {value:.4f}" for key, value in numbers.items() if key != "lr")
            print(
                f"    {self.title}: epoch {epoch}/{self.epochs}  {words}  ({seconds:.1f} s/epoch)", flush=True
            )
            sys.stdout.flush()


def _quiet() -> None:
    """Silence what Lightning says of choices made here on purpose; other warnings stay."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    for message in (
        ".*does not have many workers.*",  # the images are in memory: workers would only copy them
        ".*exists and is not empty.*",  # the folder is meant to be resumed
        ".*number of training batches.*",
        ".*LeafSpec.*",  # Lightning on its own use of torch
    ):
        warnings.filterwarnings("ignore", message=message)
