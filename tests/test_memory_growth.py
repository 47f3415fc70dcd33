"""No piece that takes N rows makes a tensor of N x N: the largest one grows with N, or is a block of bounded size."""

from __future__ import annotations

import inspect
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from allocations import Largest
from sslmed import memory, metrics
from sslmed.losses import info_nce, nt_xent

SMALL, LARGE = 1024, 4096
DIM, CLASSES = 4, 3


def rows(n: int) -> Tensor:
    return torch.randn(n, DIM, generator=torch.Generator().manual_seed(n))


def labels(n: int) -> Tensor:
    return torch.arange(n) % CLASSES


def binary(n: int) -> tuple[Tensor, Tensor]:
    return rows(n)[:, 0], labels(n) == 1


def masks(n: int) -> tuple[Tensor, Tensor]:
    grid = rows(n)[:, None, :] > 0
    return grid.expand(n, 2, DIM), grid.flip(0).expand(n, 2, DIM)


def bank(n: int) -> memory.MemoryBank:
    return memory.MemoryBank(n, DIM)


def queue(n: int) -> memory.MomentumQueue:
    held = memory.MomentumQueue(n, DIM, with_ids=True)
    held.enqueue(rows(n), labels(n))
    return held


MEMORY: dict[str, Callable[[int], object]] = {
    "bank, fill": lambda n: bank(n).fill(torch.arange(n), rows(n)),
    "bank, update": lambda n: bank(n).update(torch.arange(n), rows(n)),
    "bank, rows": lambda n: bank(n)[torch.arange(n)],
    "bank, negatives of a batch": lambda n: bank(n).negatives(torch.arange(8), 5),
    "bank, all negatives of a batch": lambda n: bank(n).negatives(torch.arange(8)),
    "queue": lambda n: (queue(n).negatives(), queue(n).ids()),
    "queue, load": lambda n: queue(n).load_state_dict(queue(n).state_dict()),
}
LOSSES: dict[str, Callable[[int], object]] = {
    "nt_xent": lambda n: nt_xent(rows(n), rows(n), block_size=8),
    "info_nce": lambda n: info_nce(rows(n), rows(n), block_size=8),
    "info_nce, ids": lambda n: info_nce(rows(n), rows(n), ids=torch.arange(n) // 2, block_size=8),
    "info_nce, negatives with ids": lambda n: info_nce(
        rows(n), rows(n), rows(n), ids=labels(n), negative_ids=torch.arange(n), block_size=8
    ),
}


def metric(name: str) -> Callable[[int], object]:
    """A call of a public metric, by the names of its parameters."""
    function = getattr(metrics, name)
    names = list(inspect.signature(function).parameters)
    if names[:2] == ["pred", "target"] and "classes" in names:
        return lambda n: function(labels(n), labels(n).flip(0), classes=CLASSES)
    if names[:2] == ["pred", "target"]:
        settings = {"tolerance_mm": 1.0} if "tolerance_mm" in names else {}
        return lambda n: function(*masks(n), **settings)
    if names[:3] == ["metric", "pred", "target"]:
        return lambda n: function(metrics.dice, *(mask[:, None].expand(n, CLASSES, 2, DIM) for mask in masks(n)))
    if names[:2] == ["scores", "target"]:
        return lambda n: function(*binary(n))
    if names[:2] == ["train", "labels"]:
        return lambda n: function(rows(n), labels(n), rows(n), classes=CLASSES)
    if name == "lidar":
        return lambda n: function(rows(2 * n).unflatten(0, (n, 2)))
    if names[0] == "z0":
        return lambda n: function(rows(n), rows(n) + 1)
    if names[0] == "z":
        return lambda n: function(rows(n))
    assert name == "summarize"
    return lambda n: function({"dice": rows(n)[:, 0].double()}, counts=metrics.pixel_counts(*masks(n)))


METRICS = {name: metric(name) for name in metrics.__all__ if inspect.isfunction(getattr(metrics, name))}
COMPARE: dict[str, Callable[[int], object]] = {
    "paired": lambda n: metrics.compare.paired(*rows(n)[:, :2].T, resamples=100),
    "holm": lambda n: metrics.compare.holm(rows(n)[:, 0].sigmoid()),
    "spread": lambda n: metrics.compare.spread(rows(n).T),
}


@pytest.mark.parametrize("name", [*MEMORY, *LOSSES, *METRICS, *COMPARE])
def test_the_largest_tensor_grows_with_the_rows(name: str) -> None:
    call = {**MEMORY, **LOSSES, **METRICS, **COMPARE}[name]
    sizes = []
    for n in (SMALL, LARGE):
        with Largest() as mode:
            call(n)
        sizes.append(mode.elements)
    assert sizes[1] <= 4.1 * sizes[0]
    assert sizes[1] < LARGE**2


def test_many_images_draw_their_negatives_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sslmed.memory.bank._DRAWN", 2**16)
    with Largest() as mode:
        bank(2048).negatives(torch.arange(2048), 5)
    assert mode.elements <= 2**16
