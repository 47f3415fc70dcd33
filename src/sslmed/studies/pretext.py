"""Pretext learning: a method of `sslmed.methods` in a resumable training, and the network that it leaves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import Dataset

from ..methods import Method
from ..models import ResNetEncoder
from .engine import Fit, fit
from .learned import encoder_of
from .monitor import Monitor, statement
from .optimisers import Optimiser
from .processes import barrier, broadcast_rank0
from .runs import write_tensors
from .sample import Sample


def pretrain(
    method: Method,
    data: Dataset[Any],
    settings: Fit,
    *,
    optimiser: Optimiser,
    folder: Path,
    seed: int,
    title: str,
    val: Dataset[Any] | None = None,
    workers: int = 0,
    sample: Sample | None = None,
) -> Path:
    """Train a pretext, and save the state of the network that it leaves.

    Args:
        method: the method.
        data: pairs (image, position).
        settings: of the training.
        optimiser: the optimiser and its schedule.
        folder: for checkpoints, curves and weights.
        seed: of the training.
        title: for the progress.
        val: pairs whose loss controls a "plateau" schedule; None for the training loss.
        workers: processes that load images.
        sample: images to measure the network on before, during and after the training, for at most 3 % of its time; a
            single image is not enough, and nothing is measured.

    Returns:
        Path of encoder.pt, or of network.pt where a whole segmentation network was trained, which
        `sslmed.models.load_encoder` or `load_state_dict` reads. If it is there already, nothing is trained.
    """
    network = method.trained
    weights = folder / ("encoder.pt" if isinstance(network, ResNetEncoder) else "network.pt")
    if broadcast_rank0(weights.exists()):
        print(f"    {title}: done before", flush=True)
        return weights
    # Leaves the weights of the last epoch in the method.
    fit(
        method,
        data,
        settings,
        optimiser=optimiser,
        folder=folder,
        seed=seed,
        title=title,
        val=val,
        workers=workers,
        monitor=None if sample is None or len(sample) < 2 else Monitor(encoder_of(method), sample, folder),
    )
    write_tensors(weights, network.state_dict())
    print(f"    {weights.name} holds {type(network).__name__}({network.extra_repr()})", flush=True)
    barrier()
    if sample is not None and (learned := statement(folder)):
        print(f"    {learned}", flush=True)
    return weights


def load_all_but_last(network: nn.Module, weights: Path) -> None:
    """Load a whole pretrained U-Net, but for its last layer `out`: that belongs to the task, and keeps its own start.

    So all methods of a seed share the random start of the last layer.

    Args:
        network: the network to fine-tune; its last layer may have other outputs than the pretrained one's.
        weights: network.pt of a pretext.
    """
    own = {name: value for name, value in network.state_dict().items() if name.startswith("out.")}
    network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True) | own)
