"""One resumable training loop on Lightning Fabric, for pretexts and tasks, in one process or in several.

Everything random follows from (seed, epoch, step, process): the order of the cases, and the global generator that
augmentations draw from. So a run that was killed resumes from its last checkpoint and ends with the same numbers.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from lightning.fabric import Fabric
from lightning.fabric.plugins import MixedPrecision, Precision
from lightning.fabric.plugins.environments import LightningEnvironment, TorchElasticEnvironment
from lightning.fabric.strategies import DDPStrategy
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn.parallel import DistributedDataParallel
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torch.utils.data import DataLoader, Dataset

from .._step import Step
from ..memory import MomentumQueue
from .curves import Curves, Means
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
        epochs: at most so many.
        batch_size: cases of one forward pass, of all processes together: a run is the same on one machine and on
            many. The last batches of an epoch are evened out rather than dropped.
        precision: "32-true", "bf16-mixed" or "16-mixed"; the last is bfloat16 on a CPU.
        checkpoint_every: epochs between checkpoints, so what a killed run loses at most; the last epoch has one.
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
        for name in ("epochs", "batch_size", "checkpoint_every", "accumulate"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, got {self.precision!r}")


class Trainable(Protocol):
    """What `fit` asks of an nn.Module, beside `validate` where validation data are given.

    `validate(batches) -> dict[str, float]` gives `val_loss` and other values of the whole validation set.
    """

    def __call__(self, *batch: Any) -> Step:
        """The loss of a batch and the terms to record."""

    def start(self, batches: Iterable[Any]) -> None:
        """Prepare for the first step, given all batches once; not called where a checkpoint is loaded."""

    def after_step(self) -> None:
        """Called after each step of the optimiser."""

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The trained parameters; a group with `fix_lr` True keeps its learning rate."""


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
) -> Path:
    """Train `module`, resuming from the last checkpoint in `folder` if there is one.

    Under torchrun each process takes its slice of every batch, and all of them validate on the whole of `val`, so that
    `val_loss`, and what is decided by it, is that of one process. A module that weighs means over its own cases by
    `sslmed.distributed.ddp_weight` then trains as in one process, but for batch normalisation and the views that each
    process draws. Every parameter that needs a gradient must get one; freeze the others.

    Returns:
        The checkpoint to use: the one of the best `val_loss` where `val` is given, else the last. The module is
        returned to the CPU with the weights of the last epoch.

    Raises:
        ValueError: a batch has fewer cases than there are processes, or a setting needs validation data.
        FloatingPointError: the loss, the validation loss or a weight became NaN or infinite; the last checkpoint is
            from before.
        OSError: the disk is full; what was there is as it was.
    """
    if settings.patience is not None and val is None:
        raise ValueError(f"patience={settings.patience} needs validation data")
    batches = EvenBatches(len(train), settings.batch_size, seed=seed, rank=rank(), world=world_size())  # type: ignore[arg-type]
    fabric = Fabric(**_machines(), plugins=_plugins(settings.precision))
    fabric.launch()
    assert isinstance(module, nn.Module)
    _prepare_for_processes(module)
    optimizer, schedule = optimiser.build(module.parameter_groups(), epochs=settings.epochs)
    network, stepper = fabric.setup(module, optimizer)
    loading: dict[str, Any] = {"num_workers": workers, "persistent_workers": workers > 0}
    loader = _on_device(fabric, DataLoader(train, batch_sampler=batches, **loading))
    val_loader = None if val is None else _on_device(fabric, DataLoader(val, settings.batch_size, **loading))

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

    with FitProgress(title, settings.epochs, first, steps=len(batches)) as progress, curves:
        for epoch in range(first, settings.epochs):
            if stopping.due:  # the run was killed after its last epoch
                break
            check = FiniteCheck(title, epoch, settings.epochs)
            batches.epoch = epoch
            means = Means(fabric.device)
            for step, batch in enumerate(loader):
                torch.manual_seed(derived_seed(seed, "step", epoch, step, *((rank(),) if rank() else ())))
                begin = step - step % settings.accumulate
                together = min(settings.accumulate, len(batches) - begin)  # the last sum may have fewer
                complete = step == begin + together - 1
                with fabric.no_backward_sync(network, enabled=not complete):
                    loss, terms = network(*batch)
                    fabric.backward(loss / together)
                means.add(terms, len(batch[0]))
                if complete:
                    stepper.step()
                    stepper.zero_grad()
                    module.after_step()
                check.loss(loss, now=(step + 1) % CHECKED_EVERY == 0 or step + 1 == len(batches))
                progress.step()
            row = {"epoch": epoch, **means.of_all_processes()}
            check.weights(module)
            if val_loader is not None:
                validated = _validate(fabric, module, val_loader)
                check.val_loss(validated["val_loss"], fabric.device)
                row = {"epoch": epoch} | validated | row | {"lr": optimizer.param_groups[0]["lr"]}
                stopping.update(epoch, validated["val_loss"])
                if validated["val_loss"] < best:
                    best = validated["val_loss"]
                    write_tensors(folder / BEST, {"epoch": epoch, "state_dict": module.state_dict()})
            if isinstance(schedule, ReduceLROnPlateau):
                schedule.step(row["loss" if val is None else "val_loss"])
            elif schedule is not None:
                schedule.step()
            curves.add(row)
            if (epoch + 1) % settings.checkpoint_every == 0 or epoch + 1 == settings.epochs or stopping.due:
                state = {
                    "epoch": epoch, "state_dict": module.state_dict(), "optimizer": optimizer.state_dict(),
                    "schedule": None if schedule is None else schedule.state_dict(),
                    "scaler": fabric.strategy.precision.state_dict(), "rows": curves.rows, "best": best,
                    "stopping": [stopping.best, stopping.waited],
                }  # fmt: skip
                write_tensors(last, state)
            progress.epoch(epoch, row, ends=stopping.due)
    module.to("cpu")
    barrier()  # curves.csv is one process's, and all read it next
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


class FiniteCheck:
    """Stop every process at the first loss, validation loss or weight of an epoch that is NaN or infinite.

    Every check comes before the checkpoint that it would spoil.
    """

    def __init__(self, title: str, epoch: int, epochs: int) -> None:
        self.where, self.title, self.step = f"epoch {epoch + 1} of {epochs}", title, 0
        self._losses: list[Tensor] = []

    def loss(self, loss: Tensor, *, now: bool) -> None:
        """Note the loss of the next step; look at all that were noted if `now`."""
        self._losses.append(loss.detach())
        self.step += 1
        if now:
            wrong = ~torch.stack(self._losses).isfinite()
            if any_rank(wrong.any()):
                self.step -= len(wrong) - 1 - next(k for k in range(len(wrong)) if any_rank(wrong[k]))
                self._stop("the loss is NaN or infinite")
            self._losses.clear()

    def val_loss(self, value: float, device: torch.device) -> None:
        """Look at a validation loss."""
        if any_rank(torch.tensor(not math.isfinite(value), device=device)):
            self._stop("the validation loss is NaN or infinite")

    def weights(self, module: nn.Module) -> None:
        """Look at all that a checkpoint would hold of the module."""
        state = {name: value for name, value in module.state_dict().items() if value.is_floating_point()}
        wrong = ~torch.stack([value.isfinite().all() for value in state.values()])
        if any_rank(wrong.any()):
            names = [name for name, is_wrong in zip(state, wrong.tolist(), strict=True) if is_wrong]
            self._stop(f"{names[0] if names else 'a weight of another process'} is NaN or infinite")

    def _stop(self, what: str) -> None:
        raise FloatingPointError(
            f"{self.title}: {what} in {self.where}, step {self.step}; {LAST}, if there is one, is from before and is "
            "kept. The same command would end the same way: try a lower learning rate, or float32 where this was not"
        )


def _validate(fabric: Fabric, module: nn.Module, loader: Iterable[Any]) -> dict[str, float]:
    """The module's own values of the whole validation set, in evaluation mode."""
    if world_size() > 1:  # the first process's batch statistics are those that are saved
        for buffer in module.buffers():
            value = buffer.contiguous()
            dist.broadcast(value, 0)
            buffer.copy_(value)
    modes = [(part, part.training) for part in module.modules()]  # parts may be in evaluation mode on purpose
    module.eval()
    with torch.no_grad(), fabric.autocast():
        validate: Any = module.validate
        values: dict[str, float] = validate(loader)
    for part, training in modes:
        part.training = training
    return values


class _ViewsInFull(MixedPrecision):
    """Mixed precision that leaves the images as they are: Fabric's own rounds them before views are drawn."""

    def convert_input(self, data: Any) -> Any:
        return data


def _plugins(precision: str) -> list[Any]:
    """Fabric's plugins; no launcher but torchrun is guessed at."""
    environment = TorchElasticEnvironment() if world_size() > 1 else LightningEnvironment()
    if precision == "32-true":
        return [environment, Precision()]
    cuda = torch.cuda.is_available()  # float16 needs it
    return [environment, _ViewsInFull(precision if cuda else "bf16-mixed", "cuda" if cuda else "cpu")]


def _machines() -> dict[str, Any]:
    """Fabric's arguments about processes, which torchrun's environment tells."""
    world = world_size()
    local = int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if world > 1 else 1
    return {
        "accelerator": "cuda"
        if torch.cuda.is_available()
        else "cpu",  # "auto" takes MPS, which has no float64
        "devices": local,
        "num_nodes": world // local,
        "strategy": DDPStrategy() if world > 1 else "auto",
    }


def _prepare_for_processes(module: nn.Module) -> None:
    """Before DDP: batch norms of all processes on GPUs, and queues that DDP does not send before each step.

    A queue takes gathered keys, so that all processes hold the same.
    """
    if world_size() == 1:
        return
    queues = [
        f"{name}.{buffer}"
        for name, part in module.named_modules() if isinstance(part, MomentumQueue)
        for buffer, _ in part.named_buffers()
    ]  # fmt: skip
    DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(module, queues)
    if torch.cuda.is_available():
        nn.SyncBatchNorm.convert_sync_batchnorm(module)


def _on_device(fabric: Fabric, loader: DataLoader[Any]) -> Any:
    return fabric.setup_dataloaders(loader, use_distributed_sampler=False)
