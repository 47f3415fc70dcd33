"""The order of the cases in a training, and the seeds of everything else that is random.

Both follow from the seed and from numbers that count epochs, steps and processes, so that a resumed training draws what
an unbroken one would have drawn.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator

import torch
from torch.utils.data import Sampler


def derived_seed(*parts: object) -> int:
    """A 63-bit seed that depends on all of `parts` and on nothing else."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8], "big") >> 1


def order_of(count: int, seed: int, epoch: int) -> list[int]:
    """A permutation of `count` cases that depends on (seed, epoch) alone."""
    generator = torch.Generator().manual_seed(derived_seed(seed, "order", epoch))
    return torch.randperm(count, generator=generator).tolist()


class EvenBatches(Sampler[list[int]]):
    """Batches of at most `batch_size` whose sizes differ by at most one; no case is dropped.

    A last batch of one case would stop batch normalisation; dropping it would leave labelled cases out.

    Args:
        count: number of cases.
        batch_size: largest size of a batch, of all processes together.
        seed: of the order, which changes with the attribute `epoch`.
        rank: this process; each takes its slice of the same batches, and slices differ by at most one case.
        world: number of processes.
        batches: number of batches, which draws the cases as often as needed, or leaves some out; None draws each once.

    Raises:
        ValueError: the smallest batch has fewer cases than there are processes.
    """

    def __init__(
        self, count: int, batch_size: int, *, seed: int, rank: int = 0, world: int = 1, batches: int | None = None
    ) -> None:
        self.count: int = count
        self.seed: int = seed
        self.epoch: int = 0
        self.drawn: int = count if batches is None or not count else batches * batch_size
        self.batches: int = -(-self.drawn // batch_size)
        self.rank: int = rank
        self.world: int = world
        least = self.drawn // max(1, self.batches)
        if self.batches and least < world:
            raise ValueError(
                f"{self.drawn} cases in batches of at most {batch_size} leave {least} for a batch, too few for {world} "
                "processes; use fewer processes or a larger batch"
            )

    def __len__(self) -> int:
        return self.batches

    def __iter__(self) -> Iterator[list[int]]:
        rounds = -(-self.drawn // max(1, self.count))
        orders = (order_of(self.count, self.seed, self.epoch * rounds + k) for k in range(rounds))
        order = list(itertools.chain.from_iterable(orders))[: self.drawn]
        edges = [self.drawn * k // self.batches for k in range(self.batches + 1)]
        for first, last in itertools.pairwise(edges):
            size = last - first
            start, stop = (first + size * r // self.world for r in (self.rank, self.rank + 1))
            yield order[start:stop]
