"""Pretext learning as the papers share it: views on the device, a bank filled by an encode pass, an encoder saved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor
from torch.utils.data import Dataset

from pipeline.processes import agree, barrier
from pipeline.runs import write_tensors
from pipeline.training import Fit, fit
from sslmed.memory import MemoryBank
from sslmed.models import ResNetEncoder


def pretrain(
    module: L.LightningModule, data: Dataset[Any], settings: Fit, *, folder: Path, seed: int, title: str
) -> Path:
    """Train a pretext module, and save the state of what it was trained for.

    Args:
        module: with `saved`, the name of that part: "encoder", "backbone.network"; None stands for "encoder".
        data: what the module's batches are made of.
        settings: of the fit.
        folder: for checkpoints, curves and weights.
        seed: of the fit.
        title: for the progress.

    Returns:
        Path of encoder.pt, or of network.pt where a whole segmentation network was trained, which
        `sslmed.models.load_encoder` or `load_state_dict` reads. Present already: nothing is trained.
    """
    part = str(getattr(module, "saved", "encoder"))
    network = module.get_submodule(part)
    weights = folder / ("encoder.pt" if isinstance(network, ResNetEncoder) else "network.pt")
    if agree(weights.exists()):
        print(f"    {title}: done before", flush=True)
        return weights
    checkpoint = fit(module, data, settings, folder=folder, seed=seed, title=title)
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)["state_dict"]
    prefix = part + "."
    write_tensors(weights, {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)})
    print(f"    {weights.name} holds {type(network).__name__}({network.extra_repr()})", flush=True)
    barrier()
    return weights


@torch.no_grad()
def fill_bank(bank: MemoryBank, module: L.LightningModule, data: Dataset[Any], *, batch_size: int) -> None:
    """Fill every row with `module.embed(image)` in evaluation mode, as Ellis et al. do before training.

    A network from a random start has no batch statistics yet, and in evaluation mode would give all images nearly one
    row; then a pass in training mode gathers them first.
    """
    was_training = module.training
    # By their common base: on several devices they become SyncBatchNorm.
    norms = [m for m in module.modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)]
    if any(int(norm.num_batches_tracked or 0) == 0 for norm in norms):
        module.train()
        for images, _ in torch.utils.data.DataLoader(data, batch_size=batch_size):
            module.embed(images.to(module.device))
    module.eval()
    for images, index in torch.utils.data.DataLoader(data, batch_size=batch_size):
        bank.fill(index.to(module.device), module.embed(images.to(module.device)))
    module.train(was_training)


def spread(features: Tensor) -> Tensor:
    """Collapse monitor: the standard deviation of unit rows (N, D) over the batch, mean over D; 1/sqrt(D) is ideal."""
    unit = torch.nn.functional.normalize(features.detach().float(), dim=1)
    return unit.std(0, correction=0).mean()
