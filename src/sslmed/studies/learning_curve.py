"""Dice against the number of outlined images, and cautiously what more of them would bring."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import t as student

from .. import _checks

Floats = npt.NDArray[np.float64]
Test = Mapping[str, Sequence[float]]  # patient -> score of each of the images
FEWEST = 3  # amounts of labels
FARTHEST = 2.0  # times the largest amount
EXPONENTS = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0)


@dataclass(frozen=True)
class Point:
    """The mean score with some outlined images, and its 95 % interval over patients and trainings."""

    outlines: int
    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Outlook:
    """A learning curve, and the expected gain of more outlined images.

    Attributes:
        points: of the curve, the fewest outlines first.
        asked: for how many more outlines the gain was requested.
        more: for how many it is given, at most as many as there are.
        gain: expected rise of the mean score; None where it cannot be said.
        low: lower end of its 95 % interval.
        high: upper end.
        why_not: why there is no gain; "" where there is.
    """

    points: tuple[Point, ...]
    asked: int
    more: int
    gain: float | None = None
    low: float | None = None
    high: float | None = None
    why_not: str = ""


def outlook(tests: Mapping[int, Sequence[Test]], *, more: int = 50, resamples: int = 2000) -> Outlook:
    r"""Draw a learning curve, and extrapolate it by an inverse power law.

    The law is $d(n) = a - b\,n^{-c}$ with $b \ge 0$. So few points do not determine $c$: the interval is the widest
    over exponents from 0.25 to 2. It also covers which patients were tested, by the bootstrap, and the luck of each
    training, by what differs between the trainings' curves. No loss is expected; and no gain, but for the upper end of
    the interval, beyond the slope of the last two points over the logarithm of the amount.

    Args:
        tests: number of outlined images -> what its trainings reached, each patient -> score of each image, in [0, 1].
            The trainings, folds or seeds, are in the same order for each amount.
        more: outlined images to add; at most as many as the largest amount are answered for.
        resamples: draws of the bootstrap. Equal input gives an equal result.

    Returns:
        The curve, with the gain or the reason why it cannot be said: fewer than three amounts, one training of each,
        or a curve that does not rise beyond its noise.

    Raises:
        ValueError: no tests, an amount below 1, other numbers of trainings, no patient that all amounts share, or
            scores that are not finite.

    Reference:
        Figueroa et al., "Predicting sample size required for classification performance", BMC Medical Informatics and
        Decision Making 2012, for the inverse power law.

    Example:
        >>> tests = {n: [{f"p{k}": [0.8 - 2 / n + k / 100] for k in range(9)}] * 2 for n in (10, 20, 40)}
        >>> found = outlook(tests, more=40)
        >>> [round(point.mean, 2) for point in found.points], round(found.gain, 3)
        ([0.64, 0.74, 0.79], 0.025)
    """
    asked = _checks.integer("more", more, low=1)
    _checks.integer("resamples", resamples, low=100)
    amounts = np.array(sorted(tests), dtype=np.float64)
    trainings = {len(ran) for ran in tests.values()}
    if not len(amounts) or amounts[0] < 1 or len(trainings) > 1 or 0 in trainings:
        raise ValueError(f"tests must have as many trainings for each amount of at least 1, got {sorted(trainings)}")
    sums, counts = _of_patients([tests[int(n)] for n in amounts])
    if not np.isfinite(sums).all():
        raise ValueError("tests must have finite scores, got nan or infinity")
    means = np.array(
        [[np.mean(np.concatenate([*map(np.asarray, one.values())])) for one in tests[int(n)]] for n in amounts]
    )
    observed, ran = sums.sum(1) / counts.sum(1), means.shape[1]
    random = np.random.default_rng(0)
    weights = random.multinomial(sums.shape[1], np.full(sums.shape[1], 1 / sums.shape[1]), size=resamples)
    drawn = (weights @ sums.T) / (weights @ counts.T)
    points = _points(amounts, observed, drawn, means, random)
    largest = int(amounts[-1])
    found = Outlook(points, asked, min(asked, int((FARTHEST - 1) * largest)))
    if len(amounts) < FEWEST:
        return _without(found, f"a curve needs {FEWEST} amounts of labels, and there are {len(amounts)}")
    if ran < 2:
        return _without(found, "one training of each amount does not show how much trainings differ")
    free = (len(amounts) - 1) * (ran - 1)
    apart = means - means.mean(0) - means.mean(1, keepdims=True) + means.mean()
    drawn = drawn + random.standard_t(free, drawn.shape) * np.sqrt((apart**2).sum() / free / ran)
    rise = _slope(amounts, drawn, 0.5) * (amounts[-1] ** -0.5 - amounts[0] ** -0.5)
    if np.quantile(rise, 0.025) <= 0:
        return _without(found, "the curve does not rise beyond its noise")
    by_law = np.stack([_gain(amounts, drawn, found.more, c) for c in EXPONENTS])
    step = _last_step(amounts, drawn, found.more)
    best = min(EXPONENTS, key=lambda c: _misfit(amounts, observed, c))
    return Outlook(
        points,
        asked,
        found.more,
        gain=float(min(_gain(amounts, observed, found.more, best), _last_step(amounts, observed, found.more))),
        low=float(np.quantile(np.minimum(by_law.min(0), step), 0.025)),
        high=float(np.quantile(by_law.max(0), 0.975)),
    )


def _without(found: Outlook, reason: str) -> Outlook:
    return Outlook(found.points, found.asked, found.more, why_not=reason)


def _of_patients(tests: Sequence[Sequence[Test]]) -> tuple[Floats, Floats]:
    """Sum and number (K, P) of the scores of each patient that all amounts share, over all trainings."""
    patients = sorted(set.intersection(*({name for one in ran for name in one} for ran in tests)))
    if not patients:
        raise ValueError("tests must share patients, got other patients for each amount")
    scores = [[[value for one in ran for value in one.get(name, ())] for name in patients] for ran in tests]
    return (
        np.array([[sum(values) for values in row] for row in scores], dtype=np.float64),
        np.array([[len(values) for values in row] for row in scores], dtype=np.float64),
    )


def _points(
    amounts: Floats, observed: Floats, drawn: Floats, means: Floats, random: np.random.Generator
) -> tuple[Point, ...]:
    """The points, with intervals that cover patients and, where there are several, trainings."""
    ran = means.shape[1]
    around = drawn - observed
    if ran > 1:
        # The normal deviate and Student's quantile: heavy tails of few trainings widen the interval by their factor.
        factor = student.ppf(0.975, ran - 1) / 1.96
        around = around + random.standard_normal(drawn.shape) * factor * means.std(1, ddof=1) / np.sqrt(ran)
    half = np.quantile(np.abs(around), 0.95, axis=0)
    return tuple(
        Point(int(n), float(d), float(d - h), float(d + h)) for n, d, h in zip(amounts, observed, half, strict=True)
    )


def _slope(amounts: Floats, scores: Floats, exponent: float) -> Floats:
    """Least squares of the scores (..., K) on n ** -c: -b of the law, at most 0."""
    x = amounts**-exponent
    x = x - x.mean()
    return np.minimum(scores @ x / (x @ x), 0.0)


def _gain(amounts: Floats, scores: Floats, more: int, exponent: float) -> Floats:
    """The gain (...) by the law, at most up to a score of 1."""
    last = amounts[-1]
    by_law = _slope(amounts, scores, exponent) * ((last + more) ** -exponent - last**-exponent)
    return np.minimum(by_law, np.maximum(1 - scores[..., -1], 0.0))


def _last_step(amounts: Floats, scores: Floats, more: int) -> Floats:
    """The gain (...) if the curve went on as between its last two points, over the logarithm of the amount."""
    before, last = amounts[-2:]
    step = (scores[..., -1] - scores[..., -2]) * np.log((last + more) / last) / np.log(last / before)
    return np.maximum(step, 0.0)


def _misfit(amounts: Floats, observed: Floats, exponent: float) -> float:
    x = amounts**-exponent
    line = _slope(amounts, observed, exponent) * (x - x.mean()) + observed.mean()
    return float(((observed - line) ** 2).sum())
