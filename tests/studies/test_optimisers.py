"""Schedules of learning rates, against the numbers that the papers' formulas give."""

from __future__ import annotations

import math
from typing import Any

import pytest

pytest.importorskip("lightning")

import torch

from sslmed.studies.optimisers import Optimiser, poly_lr


@pytest.mark.parametrize(
    ("epoch", "expected"),
    [
        (0, 1e-3),
        (100, 8.1823e-4),
        (250, 5.3635e-4),
        (400, 2.3569e-4),
        (499, 4.7196e-6),
        (500, 1e-6),
        (600, 1e-6),
    ],
)
def test_the_polynomial_schedule_has_the_published_values(epoch: int, expected: float) -> None:
    assert poly_lr(epoch, start=1e-3, end=1e-6, epochs=500, power=0.9) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("schedule", ["constant", "cosine", "poly", "plateau"])
def test_groups_have_their_own_rates_under_every_schedule(schedule: str) -> None:
    slow, fast, fixed = (torch.nn.Parameter(torch.zeros(1)) for _ in range(3))
    groups = [{"params": [slow]}, {"params": [fast], "lr_factor": 10.0}, {"params": [fixed], "fix_lr": True}]
    optimizer, steps = Optimiser("adamw", lr=0.1, schedule=schedule, patience=0).build(groups, epochs=4)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.1, 1.0, 0.1])
    optimizer.step()
    if steps is not None:
        for loss in (1.0, 1.0):
            steps.step(*([loss] if schedule == "plateau" else []))
        first, second, third = (group["lr"] for group in optimizer.param_groups)
        assert first < 0.1
        assert second == pytest.approx(10 * first)
        assert third == 0.1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "lion"}, "name must be one of adam, adamw, sgd, got 'lion'"),
        ({"schedule": "linear"}, "schedule must be one of constant, cosine, poly, plateau, got 'linear'"),
        ({"lr": 0.0}, r"lr must be above 0, got 0\.0"),
        ({"lr": math.inf}, "lr must be above 0, got inf"),
        ({"weight_decay": -0.1}, "weight_decay must be at least 0, got -0.1"),
        ({"momentum": 1.0}, "momentum must be at least 0 and below 1, got 1.0"),
        ({"end": 0.2}, "end must be from 0 to the lr 0.1, got 0.2"),
        ({"end": -0.1}, "end must be from 0 to the lr 0.1, got -0.1"),
        ({"power": 0.0}, "power must be above 0, got 0.0"),
        ({"patience": -1}, "patience must be at least 0, got -1"),
        *(({name: math.nan}, f"{name} must be") for name in ("lr", "weight_decay", "momentum", "end", "power")),
    ],
)
def test_settings_out_of_range_are_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Optimiser(**{"name": "sgd", "lr": 0.1} | settings)


def test_the_ends_of_the_ranges_are_allowed() -> None:
    Optimiser("sgd", lr=0.1, weight_decay=0.0, momentum=0.0, schedule="poly", end=0.1, patience=0)
