"""Comparison of methods over test cases: paired test, correction for many tests, intervals, and the two spreads.

Every function takes tensors or sequences of numbers, one for each case, and computes in float64 on the CPU. A value
that is not finite is refused: a NaN that drops out, or an infinite distance, would decide the result unseen.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from .. import _checks
from ._values import Values, finite, numbers, rounding

_EXACT_CASES = 50  # beyond, the normal approximation of the signed-rank statistic is close
_BLOCK = 2**20  # values resampled at once, to bound the memory


class Comparison(NamedTuple):
    """Result of `paired`.

    Attributes:
        difference: mean of a - b.
        p_value: two-sided, of the Wilcoxon signed-rank test.
        ci_low: lower end of the bootstrap interval of the mean difference.
        ci_high: its upper end.
    """

    difference: float
    p_value: float
    ci_low: float
    ci_high: float


class Spread(NamedTuple):
    """Result of `spread`.

    Attributes:
        mean: mean over the seeds of the mean over the cases.
        sd_seeds: SD of the seeds' means; None for one seed.
        sd_cases: SD over the cases of a seed, averaged over the seeds; None for one case.
    """

    mean: float
    sd_seeds: float | None
    sd_cases: float | None


def paired(
    a: Values,
    b: Values,
    *,
    confidence: float = 0.95,
    resamples: int = 10_000,
    generator: torch.Generator | None = None,
) -> Comparison:
    """Compare two methods on the same test cases.

    The p-value is that of the Wilcoxon signed-rank test, two-sided. Equal cases take part as Pratt wrote: they are
    ranked, then left out of the sum, so that many ties speak for equality. Up to 50 unequal cases it is exact, with
    tied ranks too; beyond, it is the normal approximation without continuity correction. Differences that only the
    rounding of `a` and `b` tells from 0 or from each other count as equal: a few parts in 10^16 of the values in
    float64, in 10^7 in float32; so pass float32 values as a tensor or array, not as a list. The interval is that of
    `bootstrap`, over cases.

    Both speak about other cases drawn like these, for the two trained networks at hand. Whether the method would win
    again with another seed they cannot say: see `spread`. Cases must be independent; average the images of one patient
    first.

    Args:
        a: (N,) values of one method, a case each, N at least 2.
        b: (N,) values of the other on the same cases in the same order.
        confidence: of the interval, in (0, 1).
        resamples: of the bootstrap.
        generator: as in `bootstrap`.

    Returns:
        Comparison(difference, p_value, ci_low, ci_high); the difference is mean(a - b). Equal methods have p = 1 and
        the interval [0, 0].

    Raises:
        TypeError: values that are no numbers.
        ValueError: lengths that differ, fewer than two cases, values that are not finite, or a setting out of range.

    Reference:
        Wilcoxon, "Individual comparisons by ranking methods", Biometrics Bulletin 1945; Pratt, "Remarks on zeros and
        ties in the Wilcoxon signed rank procedures", JASA 1959.

    Example:
        >>> result = paired([0.9, 0.8, 0.7, 0.9, 0.6, 0.8], [0.8, 0.6, 0.4, 0.5, 0.1, 0.2])
        >>> round(result.difference, 3), result.p_value
        (0.35, 0.03125)
        >>> paired([0.9, 0.8], [0.9, 0.8])
        Comparison(difference=0.0, p_value=1.0, ci_low=0.0, ci_high=0.0)
    """
    first, second = finite("a", a, least=2), finite("b", b, least=2)
    _checks.same_shape("a", first, "b", second)
    difference = first - second
    error = 2 * max(rounding(a, first), rounding(b, second)) * (first.abs() + second.abs())
    difference = torch.where(difference.abs() <= error, 0.0, difference)
    low, high = bootstrap(difference, confidence=confidence, resamples=resamples, generator=generator)
    return Comparison(float(difference.mean()), _signed_rank(difference, error), low, high)


def holm(p_values: Values) -> torch.Tensor:
    """Adjust p-values for the number of tests, after Holm: valid for any dependence, never weaker than Bonferroni.

    Args:
        p_values: (M,) in [0, 1], of all the comparisons that were made, not of those that were kept.

    Returns:
        (M,) float64 in the order of the input; reject at level alpha where it is at most alpha.

    Raises:
        TypeError: values that are no numbers.
        ValueError: no p-value, or one outside [0, 1].

    Reference:
        Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 1979.

    Example:
        >>> holm([0.01, 0.04, 0.03])
        tensor([0.0300, 0.0600, 0.0600], dtype=torch.float64)
    """
    p = numbers("p_values", p_values, least=1)
    if not bool(((p >= 0) & (p <= 1)).all()):
        raise ValueError(f"p_values must lie in [0, 1], got {p.tolist()}")
    ordered, order = p.sort()
    factors = torch.arange(len(p), 0, -1, dtype=torch.float64, device="cpu")
    adjusted = (ordered * factors).cummax(0).values.clamp(max=1)
    return torch.empty_like(p).index_copy(0, order, adjusted)


def bootstrap(
    values: Values,
    *,
    confidence: float = 0.95,
    resamples: int = 10_000,
    generator: torch.Generator | None = None,
) -> tuple[float, float]:
    """Confidence interval of a mean over cases, by the bootstrap.

    The percentiles are Hesterberg's expanded ones: set further out by what Student's t and n - 1 ask for, 22 % at ten
    cases and 2 % at a hundred. No interval knows the rare failures that a small test set happens to lack.

    Args:
        values: (N,) a value for each case, N at least 2.
        confidence: in (0, 1).
        resamples: how many times N cases are drawn with replacement, at least 100.
        generator: a CPU generator to draw from. None draws from one of its own with a fixed seed: the same values
            always give the same interval, and the global generator stays untouched.

    Returns:
        (low, high). Equal values give an interval of no width.

    Raises:
        TypeError: values that are no numbers.
        ValueError: fewer than two cases, values that are not finite, or a setting out of range.

    Reference:
        Hesterberg, "What teachers should know about the bootstrap", The American Statistician 2015.

    Example:
        >>> low, high = bootstrap([0.9, 0.8, 0.85, 0.2, 0.95, 0.7, 0.9, 0.8, 0.75, 0.9])
        >>> f"{low:.1f} to {high:.1f}"
        '0.6 to 0.9'
    """
    x = finite("values", values, least=2)
    _checks.number("confidence", confidence, low=0, high=1, low_open=True, high_open=True)
    _checks.integer("resamples", resamples, low=100)
    if generator is None:
        generator = torch.Generator().manual_seed(0)
    if bool((x == x[0]).all()):
        return float(x[0]), float(x[0])
    from scipy.special import stdtrit

    n = len(x)
    # Student's quantile and n - 1 carried over to the percentiles, which alone come out too narrow for few cases.
    reach = math.sqrt(n / (n - 1)) * float(stdtrit(n - 1, (1 + confidence) / 2))
    ends = torch.special.ndtr(torch.tensor([-reach, reach], dtype=torch.float64, device="cpu"))
    low, high = _resampled_means(x, resamples, generator).quantile(ends).tolist()
    return low, high


def spread(values: torch.Tensor | Sequence[Values]) -> Spread:
    """Mean over seeds and cases, with the two spreads that must not be mixed.

    The SD over the cases says how differently hard the cases are; more seeds do not shrink it. The SD over the seeds
    says how much the result depends on the luck of split, start and order; only it tells whether a method would win
    again.

    Args:
        values: (S, N) a row for each seed, a column for each case; or a sequence of S rows, which may differ in length
            where each seed has its own split.

    Returns:
        Spread(mean, sd_seeds, sd_cases), each SD with n - 1.

    Raises:
        TypeError: values that are no numbers.
        ValueError: no seed, a seed without cases, or values that are not finite.

    Example:
        >>> spread([[0.0, 0.375, 0.75], [0.125, 0.5, 0.875], [0.25, 0.625, 1.0]])
        Spread(mean=0.5, sd_seeds=0.125, sd_cases=0.375)
    """
    if isinstance(values, torch.Tensor):
        _checks.shaped("values", values, "(S, N)", ndim=2)
    rows = [finite(f"values[{k}]", row, least=1) for k, row in enumerate(values)]
    if not rows:
        raise ValueError("values must hold at least one seed, got none")
    means = torch.stack([row.mean() for row in rows])
    deviations = [row.std() for row in rows if len(row) > 1]
    return Spread(
        mean=float(means.mean()),
        sd_seeds=float(means.std()) if len(rows) > 1 else None,
        sd_cases=float(torch.stack(deviations).mean()) if len(deviations) == len(rows) else None,
    )


def _signed_rank(difference: torch.Tensor, error: torch.Tensor) -> float:
    """Two-sided p-value of the signed-rank test of (N,) differences and their errors, with Pratt's zeros."""
    size, order = difference.abs().sort()
    error = torch.where(size == 0, 0.0, error[order])
    ahead = size.diff() > error[1:] + error[:-1]
    group = torch.cat([ahead.new_zeros(1), ahead]).cumsum(0)
    count = group.bincount()
    rank = torch.empty_like(size).index_copy_(0, order, (count.cumsum(0) - (count.double() - 1) / 2)[group])
    unequal = difference != 0
    rank, positive = rank[unequal], difference[unequal] > 0
    if not len(rank):
        return 1.0
    excess = abs(float(rank[positive].sum() - rank.sum() / 2))
    if len(rank) > _EXACT_CASES:
        # Each rank has a random sign: the variance of their sum counts ties and zeros by itself.
        return math.erfc(excess / math.sqrt(float((rank**2).sum()) / 4) / math.sqrt(2))
    # Twice the ranks are integers. Their random sum grows rank by rank: half the chance stays, half moves on.
    steps = (2 * rank).long().tolist()
    chance = np.ones(1)
    for step in steps:
        chance = (np.pad(chance, (0, step)) + np.pad(chance, (step, 0))) / 2
    distance = np.abs(2 * np.arange(len(chance)) - sum(steps))
    return min(1.0, float(chance[distance >= round(4 * excess)].sum()))


def _resampled_means(x: torch.Tensor, resamples: int, generator: torch.Generator) -> torch.Tensor:
    """Means of `resamples` draws of len(x) values with replacement."""
    rows = max(1, _BLOCK // len(x))
    parts = []
    for start in range(0, resamples, rows):
        size = (min(rows, resamples - start), len(x))
        index = torch.randint(len(x), size, generator=generator, device="cpu")
        parts.append(x[index].mean(1))
    return torch.cat(parts)
