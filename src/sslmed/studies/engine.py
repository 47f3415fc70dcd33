"""One resumable training loop on Lightning Fabric, for pretexts and tasks, in one process or in several.

Everything random follows from (seed, epoch, step, process): the order of the cases, and the global generator that
augmentations draw from. So a run that was killed resumes from its last checkpoint and ends with the same numbers.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from lightning.fabric import Fabric
from torch import Tensor, nn
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torch.utils.data import DataLoader, Dataset

from .._step import Step
from .curves import Curves, Means
from .fabric import make_fabric, prepare_for_processes, sync_buffers
from .modes import evaluation_mode
from .monitor import Monitor
from .optimisers import Optimiser
from .processes import any_rank, barrier, broadcast_rank0, rank, world_size
from .progress import FitProgress
from .runs import write_tensors
from .seeding import EvenBatches, derived_seed

LAST = "last.ckpt"
BEST = "best.ckpt"
PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")
CHECKED_EVERY = 16  # steps; reading a loss waits for the GPU


@dataclass(frozen=True)
class Fit:
    """Settings of one training.

    Attributes:
        epochs: the largest number of epochs.
        batch_size: cases of one forward pass, of all processes together: a run is the same on one machine and on
            many. The last batches of an epoch are evened out rather than dropped.
        precision: "32-true", "bf16-mixed" or "16-mixed"; the last is bfloat16 on a CPU.
        checkpoint_every: epochs between checkpoints, so the most that a killed run loses; the last epoch has one.
        patience: epochs without a better `val_loss` before stopping; None never stops early.
        patience_from: the epoch after which `patience` counts.
        accumulate: batches whose gradients are averaged before the optimiser steps. It gives a contrastive loss no more
            negatives: each batch is contrasted within itself.
        batches: batches of an epoch, which draws the cases as often as needed; None draws each case once. A few cases
            then do not make many short epochs, each with a validation.
        clip_norm: largest norm of the gradient, to which a larger one is scaled down; None for any.
    """

    epochs: int
    batch_size: int
    precision: str = "32-true"
    checkpoint_every: int = 1
    patience: int | None = None
    patience_from: int = 0
    accumulate: int = 1
    batches: int | None = None
    clip_norm: float | None = None

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "checkpoint_every", "accumulate"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.patience is not None and self.patience < 1:
            raise ValueError(f"patience must be at least 1, or None to never stop early, got {self.patience}")
        if self.patience_from < 0:
            raise ValueError(f"patience_from must be at least 0, got {self.patience_from}")
        if self.batches is not None and self.batches < 1:
            raise ValueError(f"batches must be at least 1, or None to draw each case once, got {self.batches}")
        if self.clip_norm is not None and not self.clip_norm > 0:
            raise ValueError(f"clip_norm must be above 0, or None, got {self.clip_norm}")
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, got {self.precision!r}")

    def drawn(self, count: int) -> int:
        """Cases of an epoch of a set of `count`."""
        return count if self.batches is None else self.batches * self.batch_size


class Trainable(Protocol):
    """What `fit` requires of an nn.Module, besides `validate` if validation data are given.

    `validate(batches) -> dict[str, float]` gives `val_loss` and other values of the whole validation set.
    """

    def __call__(self, *batch: Any) -> Step:
        """The loss of a batch and the terms to record."""

    def start(self, batches: Iterable[Any]) -> None:
        """Prepare for the first step, given all batches once; not called where a checkpoint is loaded."""

    def after_step(self) -> None:
        """Called after each step of the optimiser."""

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The trained parameters, in groups as `Optimiser.build` takes them."""


def fit(
    module: Trainable,
    train: Dataset[Any],
    settings: Fit,
    *,
    optimiser: Optimiser,
    folder: Path,
    seed: int,
    title: str,
    val: Dataset[Any] | None = None,
    workers: int = 0,
    monitor: Monitor | None = None,
) -> Path:
    """Train `module`, resuming from the last checkpoint in `folder` if there is one.

    Under torchrun each process takes its slice of every batch, and all of them validate on the whole of `val`, so that
    `val_loss`, and the decisions based on it, are those of one process. A module that weighs means over its own cases
    by `sslmed.distributed.ddp_weight` then trains as in one process, except for batch normalisation and the views that
    each process draws. Every parameter that needs a gradient must get one; freeze the others.

    A `monitor` measures a part of the module before the first epoch, after the last, and after some in between. It
    changes nothing in the training.

    Returns:
        The checkpoint to use: the one of the best `val_loss` where `val` is given, else the last. The module is
        returned to the CPU with the weights of the last epoch.

    Raises:
        ValueError: a batch has fewer cases than there are processes, or a setting needs validation data.
        FloatingPointError: the loss, the validation loss or a weight became NaN or infinite; the last checkpoint is
            from an earlier epoch.
        OSError: the disk is full; earlier files are unchanged.
    """
    if not isinstance(module, nn.Module):
        raise TypeError(f"module must be an nn.Module, got {type(module).__name__}")
    if settings.patience is not None and val is None:
        raise ValueError(f"patience={settings.patience} needs validation data")
    batches = EvenBatches(
        len(train),  # type: ignore[arg-type]
        settings.batch_size,
        seed=seed,
        rank=rank(),
        world=world_size(),
        batches=settings.batches,
    )
    fabric = make_fabric(settings.precision)
    prepare_for_processes(module)
    optimizer, schedule = optimiser.build(module.parameter_groups(), epochs=settings.epochs)
    network, stepper = fabric.setup(module, optimizer)

    def loader(data: Dataset[Any], **how: Any) -> Any:
        loading = DataLoader(data, num_workers=workers, persistent_workers=workers > 0, **how)
        return fabric.setup_dataloaders(loading, use_distributed_sampler=False)

    train_loader = loader(train, batch_sampler=batches)
    val_loader = None if val is None else loader(val, batch_size=settings.batch_size)
    curves = Curves(folder)
    stopping = LateEarlyStopping(settings.patience, settings.patience_from)
    best, first, last = math.inf, 0, folder / LAST
    if broadcast_rank0(last.exists()):
        saved = torch.load(last, map_location="cpu", weights_only=True)
        if "optimizer" not in saved:
            raise ValueError(f"{last} was written by an older version of sslmed; start again in a new folder")
        module.load_state_dict(saved["state_dict"])
        optimizer.load_state_dict(saved["optimizer"])
        fabric.strategy.precision.load_state_dict(saved["scaler"])
        if schedule is not None:
            schedule.load_state_dict(saved["schedule"])
        curves.rows, best, first = saved["rows"], saved["best"], saved["epoch"] + 1
        stopping.best, stopping.waited = saved["stopping"]
    else:
        module.start(DataLoader(train, settings.batch_size, num_workers=workers))

    def watch(epochs: int) -> None:
        if monitor is not None:
            values = monitor.after(epochs, last=epochs == settings.epochs or stopping.due) or {}
            curves.show({f"monitor/{name}": value for name, value in values.items()}, epochs)

    with FitProgress(title, settings.epochs, first, steps=len(batches)) as progress, curves:
        watch(first)
        for epoch in range(first, settings.epochs):
            if stopping.due:  # the run was killed after its last epoch
                break
            batches.epoch = epoch
            means, losses = Means(fabric.device), dict[tuple[str, int], Tensor]()
            for step, batch in enumerate(train_loader):
                torch.manual_seed(derived_seed(seed, "step", epoch, step, *((rank(),) if rank() else ())))
                begin = step - step % settings.accumulate
                together = min(settings.accumulate, len(batches) - begin)  # the last sum may have fewer
                complete = step == begin + together - 1
                with fabric.no_backward_sync(network, enabled=not complete):
                    loss, terms = network(*batch)
                    fabric.backward(loss / together)
                means.add(terms, len(batch[0]))
                if complete:
                    if settings.clip_norm is not None:
                        fabric.clip_gradients(network, stepper, max_norm=settings.clip_norm, error_if_nonfinite=False)
                    stepper.step()
                    stepper.zero_grad()
                    module.after_step()
                losses["the loss", step + 1] = loss.detach()
                if (step + 1) % CHECKED_EVERY == 0 or step + 1 == len(batches):
                    _check_finite(losses, title, epoch, settings.epochs)
                    losses.clear()
                progress.step()
            weights = {(name, len(batches)): value for name, value in module.state_dict().items()}
            _check_finite(weights, title, epoch, settings.epochs)
            row = {"epoch": epoch, **means.of_all_processes()}
            if val_loader is not None:
                # Of the first process, so that all take the same decisions by it.
                validated = broadcast_rank0(_validate(fabric, module, val_loader))
                val_loss = validated["val_loss"]
                watched = {("the validation loss", len(batches)): torch.tensor(val_loss, device=fabric.device)}
                _check_finite(watched, title, epoch, settings.epochs)
                row = {"epoch": epoch} | validated | row | {"lr": optimizer.param_groups[0]["lr"]}
                stopping.update(epoch, val_loss)
                if val_loss < best:
                    best = val_loss
                    write_tensors(folder / BEST, {"epoch": epoch, "state_dict": module.state_dict()})
            if isinstance(schedule, ReduceLROnPlateau):
                schedule.step(row["loss" if val is None else "val_loss"])
            elif schedule is not None:
                schedule.step()
            curves.add(row)
            if (epoch + 1) % settings.checkpoint_every == 0 or epoch + 1 == settings.epochs or stopping.due:
                state = {
                    "epoch": epoch,
                    "state_dict": module.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "schedule": None if schedule is None else schedule.state_dict(),
                    "scaler": fabric.strategy.precision.state_dict(),
                    "rows": curves.rows,
                    "best": best,
                    "stopping": [stopping.best, stopping.waited],
                }
                write_tensors(last, state)
            watch(epoch + 1)
            progress.epoch(epoch, row, ends=stopping.due)
    module.to("cpu")
    barrier()  # the first process writes curves.csv, and all read it next
    return folder / (BEST if val is not None else LAST)


def weights_of(path: Path) -> dict[str, Tensor]:
    """The module's state in a checkpoint of `fit`, on the CPU."""
    state: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
    return state


@dataclass
class LateEarlyStopping:
    """Early stopping on `val_loss` whose patience counts only after an epoch (Ellis et al., section IV-B)."""

    patience: int | None
    start: int
    best: float = math.inf
    waited: int = 0

    @property
    def due(self) -> bool:
        """Whether to stop."""
        return self.patience is not None and self.waited >= self.patience

    def update(self, epoch: int, val_loss: float) -> None:
        """Count an epoch."""
        if epoch >= self.start:
            self.waited = 0 if val_loss < self.best else self.waited + 1
            self.best = min(self.best, val_loss)


def _check_finite(values: Mapping[tuple[str, int], Tensor], title: str, epoch: int, epochs: int) -> None:
    """Stop every process at the first of (name, step): value that is NaN or infinite on any of them.

    The content of a checkpoint is checked before it is written.
    """
    floats = {key: value for key, value in values.items() if value.is_floating_point()}
    wrong = any_rank(~torch.stack([value.isfinite().all() for value in floats.values()])).tolist()
    if any(wrong):
        name, step = list(floats)[wrong.index(True)]
        raise FloatingPointError(
            f"{title}: {name} is NaN or infinite in epoch {epoch + 1} of {epochs}, step {step}; {LAST}, if there is "
            "one, is from an earlier epoch and is kept. The same command would fail at the same step: try a lower "
            "learning rate, or float32 if another precision was used"
        )


def _validate(fabric: Fabric, module: nn.Module, loader: Iterable[Any]) -> dict[str, float]:
    """The module's own values of the whole validation set, in evaluation mode."""
    sync_buffers(module)
    with evaluation_mode(module), fabric.autocast():
        validate: Any = module.validate
        values: dict[str, float] = validate(loader)
    return values
