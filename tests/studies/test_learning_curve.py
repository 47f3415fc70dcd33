"""The learning curve, and how cautiously it is extrapolated: against curves whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("lightning")

from sslmed.studies.learning_curve import EXPONENTS, Test, outlook

FOLDS, PATIENTS = 4, 40


def curve(
    amounts: tuple[int, ...],
    exponent: float,
    *,
    rise: float = 0.2,
    noise: float = 0.0,
    hard: float = 0.0,
    seed: int = 0,
) -> tuple[dict[int, list[Test]], float]:
    """Tests in folds of a curve that rises as a - b n ** -c, and its true gain from the last amount to twice that."""
    rng = np.random.default_rng(seed)
    b = rise / (amounts[0] ** -exponent - amounts[-1] ** -exponent)
    of_patients, tests = rng.normal(0, hard, PATIENTS), {}
    for n in amounts:
        level = 0.6 + b * (amounts[0] ** -exponent - n**-exponent)
        tests[n] = [
            {
                f"p{p}": [float(level + luck + of_patients[p] + rng.normal(0, hard / 3))]
                for p in range(fold, PATIENTS, FOLDS)
            }
            for fold, luck in enumerate(rng.normal(0, noise, FOLDS))
        ]
    return tests, b * (amounts[-1] ** -exponent - (2 * amounts[-1]) ** -exponent)


@pytest.mark.parametrize("exponent", EXPONENTS)
def test_without_noise_the_law_is_found(exponent: float) -> None:
    tests, truth = curve((20, 40, 80), exponent)
    found = outlook(tests, more=80, resamples=100)
    assert found.gain is not None
    assert found.low is not None
    assert found.high is not None
    assert found.gain == pytest.approx(truth, abs=1e-9)
    assert found.low <= truth + 1e-9
    assert truth <= found.high + 1e-9


def test_the_intervals_cover_the_truth() -> None:
    covered, above, points = 0, 0, 0
    for k in range(60):
        exponent = (0.3, 0.5, 1.0)[k % 3]
        tests, truth = curve((20, 40, 80), exponent, noise=0.015, hard=0.2, seed=k)
        found = outlook(tests, more=80, resamples=200)
        assert found.low is not None
        assert found.high is not None
        covered += found.low <= truth <= found.high
        above += found.high < 0.12  # an interval that says something
        points += all(p.low < p.mean < p.high for p in found.points)
    assert covered >= 56
    assert above >= 50
    assert points == 60


def test_the_points_are_the_means_over_images_and_their_intervals_cover_the_truth() -> None:
    covered = 0
    for k in range(60):
        tests, _ = curve((20, 40), 0.5, noise=0.015, hard=0.2, seed=k)
        points = outlook(tests, resamples=200).points
        everything = [value for one in tests[20] for values in one.values() for value in values]
        assert points[0].mean == pytest.approx(np.mean(everything))
        covered += points[0].low <= 0.6 <= points[0].high
    assert covered >= 55


def test_a_flat_curve_has_no_outlook() -> None:
    refused = 0
    for k in range(40):
        tests, _ = curve((20, 40, 80), 0.5, rise=0.0, noise=0.02, hard=0.2, seed=k)
        refused += outlook(tests, resamples=200).why_not == "the curve does not rise beyond its noise"
    assert refused >= 37


def test_a_curve_that_has_stopped_rising_promises_nothing() -> None:
    tests, _ = curve((20, 40, 80), 0.5)
    tests[80] = tests[40]
    found = outlook(tests, more=80, resamples=100)
    assert found.gain == found.low == 0


def test_nothing_is_answered_beyond_twice_the_largest_amount() -> None:
    tests, _ = curve((20, 40, 80), 0.5)
    found, there = outlook(tests, more=500, resamples=100), outlook(tests, more=80, resamples=100)
    assert (found.asked, found.more) == (500, 80)
    assert (found.gain, found.low, found.high) == (there.gain, there.low, there.high)


def test_a_score_of_more_than_1_is_not_promised() -> None:
    found = outlook({n: [{"a": [d], "b": [d]}] * 2 for n, d in ((10, 0.5), (20, 0.8), (40, 0.99))}, more=40)
    assert found.high is not None
    assert 0 < found.high <= 0.01 + 1e-9


def test_too_few_amounts_or_trainings_give_the_reason() -> None:
    two, _ = curve((20, 40), 0.5)
    assert outlook(two, resamples=100).why_not == "a curve needs 3 amounts of labels, and there are 2"
    one = {n: ran[:1] for n, ran in curve((20, 40, 80), 0.5)[0].items()}
    assert outlook(one, resamples=100).why_not.startswith("one training of each amount")


def test_unequal_tests_are_refused() -> None:
    tests, _ = curve((20, 40, 80), 0.5)
    with pytest.raises(ValueError, match="as many trainings for each amount"):
        outlook(tests | {80: tests[80][:2]})
    with pytest.raises(ValueError, match="other patients for each amount"):
        outlook({10: [{"a": [0.5]}], 20: [{"b": [0.5]}]})
    with pytest.raises(ValueError, match="finite scores"):
        outlook({10: [{"a": [0.5]}], 20: [{"a": [float("nan")]}]})
    with pytest.raises(ValueError, match="more must be at least 1, got 0"):
        outlook(tests, more=0)
