"""Every metric of sslmed.metrics.stateful, with cases that it can score."""

from __future__ import annotations

import inspect
from functools import partial
from typing import Any

import torch
from torch import Tensor

from sslmed.metrics import classification, dice, per_class, stateful

NAMES = sorted(set(stateful.__all__) - {"PerCase", "WholeSet"})
NEEDED = {"classes": 3, "tolerance_mm": 1.0}


def make(name: str) -> Any:
    """The metric with the settings that it needs; "per class" is one of label maps."""
    if name == "per class":
        return stateful.PerCase(partial(per_class, dice), classes=3)
    kind = getattr(stateful, name)
    return kind(**{key: NEEDED[key] for key in NEEDED.keys() & needed(kind)})


def needed(kind: Any) -> set[str]:
    parameters = inspect.signature(kind).parameters.values()
    return {x.name for x in parameters if x.default is x.empty}


def cases(name: str, count: int = 8, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Predictions and targets; the masks of some cases are empty."""
    generator = torch.Generator().manual_seed(seed)

    def labels(*shape: int) -> Tensor:
        return torch.randint(3, shape, generator=generator)

    if name == "per class":
        return labels(count, 4, 5), labels(count, 4, 5)
    if make(name).metric.__module__ != classification.__name__:
        pred, target = (torch.rand(count, 6, 7, generator=generator) < 0.3 for _ in range(2))
        pred[::3] = target[::2] = False
        return pred, target
    target = torch.arange(count) % 3
    if name in ("ROCAUC", "AveragePrecision"):
        return (torch.rand(count, 3, generator=generator) * 5).round(), target  # with ties
    return torch.where(torch.rand(count, generator=generator) < 0.5, target, labels(count)), target


def expected(name: str, pred: Tensor, target: Tensor) -> Tensor:
    """What the function says of all cases at once."""
    metric = make(name)
    value = metric.metric(pred, target, **metric.settings)
    if name == "PixelCounts":
        return value.sum(0)
    return value.nanmean(0) if isinstance(metric, stateful.PerCase) else value
