"""Several processes that run one program together, as torchrun starts them; everything here works with one as well."""

from __future__ import annotations

import os
import sys
from datetime import timedelta
from typing import TypeVar

import torch
from torch import Tensor
from torch import distributed as dist

from ..distributed import rank, world_size

__all__ = ["any_rank", "barrier", "broadcast_rank0", "rank", "start", "world_size"]

T = TypeVar("T")


def start() -> None:
    """Join the processes that torchrun started, if it did; only the first of them prints from now on."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or dist.is_initialized():
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    # The first process may write tables and a report while the others wait; torchrun notices a process that dies.
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo", timeout=timedelta(hours=1))
    if rank() > 0:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - for the rest of the process


def barrier() -> None:
    """Wait for all processes."""
    if world_size() > 1:
        dist.barrier()


def broadcast_rank0(value: T) -> T:
    """The first process's value, on every process: files may appear between two checks."""
    if world_size() == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box)
    return box[0]


def any_rank(flags: Tensor) -> Tensor:
    """Which flags, bools on the device of the processes' backend, are set on any process."""
    if world_size() == 1:
        return flags
    found = flags.to(torch.uint8)
    dist.all_reduce(found, dist.ReduceOp.MAX)
    return found.bool()
