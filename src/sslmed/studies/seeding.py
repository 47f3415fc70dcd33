"""All that is random in a fit: the order of the cases and the generators each step draws from.

Both follow from (seed, epoch, step) and the number of the process alone, so a resumed fit draws what an unbroken one
would have drawn.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from torch.utils.data import Sampler


def derived_seed(*parts: object) -> int:
    """A 63-bit seed that depends on all of `parts` and on nothing else."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8], "big") >> 1


class OrderByEpoch(Sampler[int]):
    """A new permutation each epoch that depends on (seed, epoch) alone."""

    def __init__(self, count: int, seed: int) -> None:
        self.count, self.seed, self.epoch = count, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(derived_seed(self.seed, "order", self.epoch))
        yield from torch.randperm(self.count, generator=generator).tolist()


class EvenBatches(Sampler[list[int]]):
    """Batches of at most `batch_size` whose sizes differ by one at most: none is dropped, none is a lonely case.

    A last batch of one case would stop batch normalisation; dropping it would leave labelled cases out.

    Args:
        sampler: the order of the cases.
        batch_size: most cases of a batch, of all processes together.
        rank: this process; each takes its slice of the same batches, and slices differ by one case at most.
        world: number of processes.

    Raises:
        ValueError: the smallest batch has fewer cases than there are processes.
    """

    def __init__(self, sampler: OrderByEpoch, batch_size: int, *, rank: int = 0, world: int = 1) -> None:
        self.sampler = sampler  # the name under which Lightning finds set_epoch
        self.batches = -(-len(sampler) // batch_size)
        self.rank, self.world = rank, world
        least = len(sampler) // max(1, self.batches)
        if self.batches and least < world:
            raise ValueError(
                f"{len(sampler)} cases in batches of at most {batch_size} leave {least} for a batch, too few for "
                f"{world} processes; use fewer processes or a larger batch"
            )

    def __len__(self) -> int:
        return self.batches

    def __iter__(self) -> Iterator[list[int]]:
        order = list(self.sampler)
        edges = [len(order) * k // self.batches for k in range(self.batches + 1)]
        for first, last in itertools.pairwise(edges):
            size = last - first
            start, stop = (first + size * r // self.world for r in (self.rank, self.rank + 1))
            yield order[start:stop]


class SeedSteps(Callback):
    """Seed the global generators from (seed, epoch, step) before each step, on each process otherwise.

    Once an epoch would not do: data loaders draw from the global generator too, and a resumed fit makes one more.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Lightning's hook."""
        own = (trainer.global_rank,) if trainer.global_rank else ()
        torch.manual_seed(derived_seed(self.seed, "step", trainer.current_epoch, batch_idx, *own))
