"""Schedules of learning rates, against the numbers that the papers' formulas give."""

from __future__ import annotations

import pytest

pytest.importorskip("lightning")

from sslmed.studies.optimisers import poly_lr


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
