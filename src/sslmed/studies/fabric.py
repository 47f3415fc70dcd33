"""Devices, precision and processes of a training, by Lightning Fabric."""

from __future__ import annotations

import os
from typing import Any

import torch
from lightning.fabric import Fabric
from lightning.fabric.plugins import MixedPrecision, Precision
from lightning.fabric.plugins.environments import LightningEnvironment, TorchElasticEnvironment
from lightning.fabric.strategies import DDPStrategy
from torch import distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ..memory import MomentumQueue
from .processes import world_size


def make_fabric(precision: str) -> Fabric:
    """Fabric on the GPUs, or on the CPU, of the processes that torchrun started; no other launcher is detected."""
    environment = TorchElasticEnvironment() if world_size() > 1 else LightningEnvironment()
    fabric = Fabric(**machines(), plugins=[environment, _precision(precision)])
    fabric.launch()
    return fabric


def machines() -> dict[str, Any]:
    """Fabric's arguments about processes, from torchrun's environment."""
    world = world_size()
    local = int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if world > 1 else 1
    return {
        "accelerator": _device(),
        "devices": local,
        "num_nodes": world // local,
        "strategy": DDPStrategy() if world > 1 else "auto",
    }


def prepare_for_processes(module: nn.Module) -> None:
    """Before DDP: make batch norms span all GPUs, and keep DDP from sending queues before each step.

    Queues take gathered keys, so all processes hold the same.
    """
    if world_size() == 1:
        return
    queues = [
        f"{name}.{buffer}"
        for name, part in module.named_modules()
        if isinstance(part, MomentumQueue)
        for buffer, _ in part.named_buffers()
    ]
    DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(module, queues)
    if torch.cuda.is_available():
        nn.SyncBatchNorm.convert_sync_batchnorm(module)


def sync_buffers(module: nn.Module) -> None:
    """Give all processes the first one's buffers: its batch statistics are those that are saved."""
    if world_size() > 1:
        for buffer in module.buffers():
            value = buffer.contiguous()
            dist.broadcast(value, 0)
            buffer.copy_(value)


class _ImagesAsTheyAre(MixedPrecision):
    """Mixed precision that does not convert a module's input: Fabric's own rounds images before views are drawn."""

    def convert_input(self, data: Any) -> Any:
        return data


def _precision(name: str) -> Precision:
    if name == "32-true":
        return Precision()
    return _ImagesAsTheyAre(name if _device() == "cuda" else "bf16-mixed", _device())


def _device() -> str:
    """Not "auto", which may choose MPS, where there is no float64."""
    return "cuda" if torch.cuda.is_available() else "cpu"
