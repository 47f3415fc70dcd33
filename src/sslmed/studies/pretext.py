"""Pretext learning: a method of `sslmed.methods` in a resumable fit, and the network that it leaves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ..methods import Method
from ..models import ResNetEncoder
from .optimisers import Optimiser
from .processes import agree, barrier
from .runs import write_tensors
from .training import Fit, fit


class Pretext(L.LightningModule):
    """A method and its optimiser, for Lightning's Trainer.

    Args:
        method: the method.
        optimiser: its optimiser and schedule.
    """

    def __init__(self, method: Method, optimiser: Optimiser) -> None:
        super().__init__()
        self.method, self.optimiser = method, optimiser
        self.batches: DataLoader[Any] | None = None

    def on_train_start(self) -> None:
        """Fill a memory bank; a resumed run has it in its checkpoint."""
        if self.global_step == 0 and self.batches is not None:
            self.method.start(self.batches)

    def training_step(self, batch: list[Tensor], _: int) -> Tensor:
        """One step of the method."""
        images, index = batch
        step = self.method(images, index)
        self.log_dict(step.terms, on_step=False, on_epoch=True, batch_size=len(images), sync_dist=True)
        return step.loss

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Moving averages follow each step of the optimiser, of which accumulation makes fewer than batches."""
        super().optimizer_step(*args, **kwargs)
        self.method.after_step()

    def configure_optimizers(self) -> dict[str, Any]:
        """The method's parameters in the settings' optimiser."""
        return self.optimiser.build(self.method.parameter_groups())


def pretrain(
    module: Pretext,
    data: Dataset[Any],
    settings: Fit,
    *,
    folder: Path,
    seed: int,
    title: str,
    workers: int = 0,
) -> Path:
    """Train a pretext, and save the state of the network that it leaves.

    Args:
        module: the pretext.
        data: pairs (image, position).
        settings: of the fit.
        folder: for checkpoints, curves and weights.
        seed: of the fit.
        title: for the progress.
        workers: processes that load images.

    Returns:
        Path of encoder.pt, or of network.pt where a whole segmentation network was trained, which
        `sslmed.models.load_encoder` or `load_state_dict` reads. If it is there already, nothing is trained.
    """
    network = module.method.trained
    weights = folder / ("encoder.pt" if isinstance(network, ResNetEncoder) else "network.pt")
    if agree(weights.exists()):
        print(f"    {title}: done before", flush=True)
        return weights
    module.batches = DataLoader(data, batch_size=settings.batch_size, num_workers=workers)
    checkpoint = fit(module, data, settings, folder=folder, seed=seed, title=title, workers=workers)
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)["state_dict"]
    prefix = next(name for name, part in module.named_modules() if part is network) + "."
    write_tensors(weights, {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)})
    print(f"    {weights.name} holds {type(network).__name__}({network.extra_repr()})", flush=True)
    barrier()
    return weights
