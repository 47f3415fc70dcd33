"""Paired test, Holm, bootstrap and spreads against enumeration, scipy, literal loops and simulation."""

from __future__ import annotations

import itertools
import math
import statistics

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sslmed.metrics import compare
from sslmed.metrics.compare import Comparison, bootstrap, holm, paired, spread


def enumerated(difference: list[float]) -> float:
    """Exact p-value of the signed-rank test with Pratt's zeros: every choice of signs, written out."""
    sizes = [abs(d) for d in difference]
    ranks = [sum(s < size for s in sizes) + (sizes.count(size) + 1) / 2 for size in sizes]
    used = [(rank, d > 0) for rank, d in zip(ranks, difference, strict=True) if d]
    middle = sum(rank for rank, _ in used) / 2
    seen = abs(sum(rank for rank, up in used if up) - middle)
    choices = list(itertools.product([False, True], repeat=len(used)))
    extreme = [
        abs(sum(rank for (rank, _), up in zip(used, signs, strict=True) if up) - middle) >= seen - 1e-9
        for signs in choices
    ]
    return sum(extreme) / len(choices)


def draws(count: int, seed: int, *, step: float | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """Paired values of two methods; with a step, ties and equal cases."""
    generator = torch.Generator().manual_seed(seed)
    a, b = torch.rand(2, count, generator=generator, dtype=torch.float64)
    a = (a + b + 0.1) / 2
    return (a, b) if step is None else ((a / step).round(), (b / step).round())


@given(st.lists(st.integers(-4, 4), min_size=2, max_size=9))
@settings(deadline=None)
def test_the_p_value_is_exact_with_ties_and_zeros(difference: list[int]) -> None:
    values = [float(d) for d in difference]
    result = paired(values, [0.0] * len(values), resamples=100)
    assert result.p_value == pytest.approx(enumerated(values), abs=1e-12)
    assert result.difference == pytest.approx(statistics.fmean(values))
    swapped = paired([0.0] * len(values), values, resamples=100)
    assert swapped.p_value == result.p_value
    assert swapped.difference == pytest.approx(-result.difference)


@pytest.mark.parametrize("count", [2, 7, 25, 50, 51, 400])
def test_without_ties_it_is_scipys_signed_rank_test(count: int) -> None:
    from scipy.stats import wilcoxon

    a, b = draws(count, seed=count)
    method = "exact" if count <= 50 else "approx"
    expected = wilcoxon(a.numpy(), b.numpy(), method=method).pvalue
    assert paired(a, b, resamples=100).p_value == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("step", [0.02, 0.1, 0.4])
def test_with_ties_it_is_scipys_approximation(step: float) -> None:
    from scipy.stats import wilcoxon

    a, b = draws(300, seed=3, step=step)
    assert (a == b).any()
    expected = wilcoxon(a.numpy(), b.numpy(), zero_method="pratt", correction=False, method="approx").pvalue
    assert paired(a, b, resamples=100).p_value == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("step", [None, 0.1])
def test_exact_and_approximate_meet(step: float | None, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = draws(50, seed=0, step=step)
    for shift in torch.linspace(0, 0.3, 7).tolist():
        values = [paired(a - shift, b, resamples=100).p_value]
        with monkeypatch.context() as patch:
            patch.setattr(compare, "_EXACT_CASES", 0)
            values.append(paired(a - shift, b, resamples=100).p_value)
        assert values[0] == pytest.approx(values[1], abs=0.01)


RESCALED = {
    "a third": lambda x: x / 3,
    "seven": lambda x: x * 7,
    "a thousandth": lambda x: x * 1e-3,
    "a million": lambda x: x * 1e6,
    "tiny": lambda x: x * 1e-300 / 3,
    "huge": lambda x: x / 3 * 1e300,
    "shifted": lambda x: x / 3 + 0.1,
    "shifted to 0": lambda x: x / 3 - 1,
    "shifted far": lambda x: x / 7 + 1e6,
    "whole and far": lambda x: x + 2**40,
    "float32": lambda x: (x / 3).float(),
    "float32, shifted": lambda x: (x / 3).float() + 0.1,
    "float32, whole and far": lambda x: x.float() + 2**20,
    "float16": lambda x: (x / 3).half(),
    "list": lambda x: (x / 7).tolist(),
    "numpy's float32": lambda x: x.numpy().astype(np.float32) / 3,
    "integers": lambda x: x.long(),
}


@pytest.mark.parametrize("how", RESCALED)
@pytest.mark.parametrize("count", [10, 45, 200])
def test_the_p_value_does_not_depend_on_the_unit(how: str, count: int) -> None:
    for seed in range(5):
        generator = torch.Generator().manual_seed(seed)
        a, b = torch.randint(0, 6, (2, count), generator=generator).double()
        b = torch.where(torch.rand(count, generator=generator) < 0.2, a, b)  # zeros
        expected = paired(a, b, resamples=100).p_value
        assert paired(RESCALED[how](a), RESCALED[how](b), resamples=100).p_value == expected


def test_ties_that_rounding_broke() -> None:
    a, b = torch.tensor([[3, 0, 1, 1, 2, 0, 1, 1, 2, 0], [2, 0, 2, 2, 3, 1, 2, 2, 3, 1]]).double()
    assert paired(a, b).p_value == paired(a / 3, b / 3).p_value == 0.0390625
    tenths = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)
    sums = torch.tensor([0.3, 0.3, 0.7, 0.7], dtype=torch.float64) - torch.tensor([0.2, 0.1, 0.4, 0.3])
    assert paired(tenths, tenths + 1e-17) == Comparison(0.0, 1.0, 0.0, 0.0)
    assert paired(tenths.float(), sums.float()) == Comparison(0.0, 1.0, 0.0, 0.0)


def test_small_differences_are_no_ties() -> None:
    count = torch.arange(1, 9, dtype=torch.float64)
    for values, step in ((0.9 + 1e-12 * count, 1e-13), ((0.9 + 1e-4 * count).float(), 1e-5)):
        assert paired(values + step * count, values).p_value == 2 / 2**8


def test_equal_methods() -> None:
    values = torch.rand(30)
    assert paired(values, values) == Comparison(0.0, 1.0, 0.0, 0.0)
    shifted = paired(values.double() + 0.25, values.double())
    assert shifted.difference == pytest.approx(0.25)
    assert (shifted.ci_low, shifted.ci_high) == pytest.approx((0.25, 0.25))
    assert shifted.p_value == pytest.approx(2**-29)


def test_the_interval_is_of_the_paired_differences() -> None:
    a, b = draws(40, seed=5)
    result = paired(a, b, confidence=0.9, resamples=500)
    assert (result.ci_low, result.ci_high) == bootstrap(a - b, confidence=0.9, resamples=500)
    assert result.ci_low < result.difference < result.ci_high


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_is_the_step_down_procedure(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    order = sorted(range(len(p_values)), key=lambda k: p_values[k])
    expected, largest = [0.0] * len(p_values), 0.0
    for position, k in enumerate(order):
        largest = max(largest, (len(p_values) - position) * p_values[k])
        expected[k] = min(1.0, largest)
    assert adjusted.tolist() == pytest.approx(expected)
    assert torch.equal(holm(torch.tensor(p_values, dtype=torch.float64)), adjusted)


def test_holm_rejects_what_the_procedure_rejects() -> None:
    p_values, alpha = [0.01, 0.013, 0.014, 0.04], 0.05
    rejected = []
    for position, p in enumerate(p_values):
        if p > alpha / (len(p_values) - position):
            break
        rejected.append(position)
    assert [k for k, p in enumerate(holm(p_values).tolist()) if p <= alpha] == rejected == [0, 1, 2, 3]
    assert holm([0.01, 0.013, 0.03, 0.04]).tolist() == pytest.approx([0.04, 0.04, 0.06, 0.06])


@pytest.mark.parametrize("count", [10, 40])
@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_the_interval_covers_the_mean_as_often_as_it_says(count: int, confidence: float) -> None:
    generator = torch.Generator().manual_seed(count)
    trials = 400
    hits = 0
    for _ in range(trials):
        values = torch.rand(count, generator=generator) + torch.rand(count, generator=generator)
        low, high = bootstrap(values, confidence=confidence, resamples=400, generator=generator)
        hits += low <= 1 <= high
    noise = 3 * math.sqrt(confidence * (1 - confidence) / trials)
    assert hits / trials == pytest.approx(confidence, abs=noise + 0.01)


def test_the_interval_of_many_cases_is_the_normal_one() -> None:
    values = torch.randn(4000, generator=torch.Generator().manual_seed(0)).exp()
    low, high = bootstrap(values, resamples=2000)
    reach = 1.96 * float(values.std()) / math.sqrt(len(values))
    assert low == pytest.approx(float(values.mean()) - reach, abs=0.1 * reach)
    assert high == pytest.approx(float(values.mean()) + reach, abs=0.1 * reach)


def test_the_interval_is_reproducible_and_leaves_the_global_generator() -> None:
    values = torch.rand(20, generator=torch.Generator().manual_seed(0))
    state = torch.get_rng_state()
    assert bootstrap(values) == bootstrap(values.tolist()) == bootstrap(values.numpy())
    assert torch.equal(torch.get_rng_state(), state)
    first, again, other = (bootstrap(values, generator=torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert first == again != other
    assert first == pytest.approx(other, abs=0.01)
    narrow, wide = bootstrap(values, confidence=0.5), bootstrap(values, confidence=0.99)
    assert wide[0] < narrow[0] < narrow[1] < wide[1]


def test_blocks_do_not_change_the_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    values = torch.rand(30, generator=torch.Generator().manual_seed(0))
    whole = bootstrap(values, resamples=1000)
    monkeypatch.setattr(compare, "_BLOCK", 30 * 7)
    assert bootstrap(values, resamples=1000) == whole
    monkeypatch.setattr(compare, "_BLOCK", 1)
    assert bootstrap(values, resamples=1000) == whole


def test_spreads() -> None:
    rows = [[0.5, 0.7, 0.9], [0.6, 0.6, 0.6], [0.2, 0.4, 0.9]]
    means = [statistics.fmean(row) for row in rows]
    expected = (
        statistics.fmean(means),
        statistics.stdev(means),
        statistics.fmean(statistics.stdev(row) for row in rows),
    )
    assert spread(torch.tensor(rows, dtype=torch.float64)) == pytest.approx(expected)
    assert spread(rows) == pytest.approx(expected)
    assert spread([torch.tensor(row, dtype=torch.float64) for row in rows]) == pytest.approx(expected)
    ragged = spread([[0.5, 0.7, 0.9], [0.6, 0.8]])
    assert ragged.mean == pytest.approx(0.7)
    assert ragged.sd_seeds == pytest.approx(0)
    assert ragged.sd_cases == pytest.approx((0.2 + statistics.stdev([0.6, 0.8])) / 2)
    assert spread([[0.5, 0.7]])[1:] == (None, pytest.approx(statistics.stdev([0.5, 0.7])))
    assert spread([[0.5], [0.7]]).sd_cases is None


def test_more_cases_do_not_shrink_either_spread_as_a_mean_would() -> None:
    generator = torch.Generator().manual_seed(0)
    seeds = torch.randn(200, 1, generator=generator) * 0.02
    cases = torch.randn(1, 2000, generator=generator) * 0.2
    result = spread(0.8 + seeds + cases)
    assert result.sd_seeds == pytest.approx(0.02, rel=0.15)
    assert result.sd_cases == pytest.approx(0.2, rel=0.05)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: paired([0.1, 0.2], [0.1, 0.3, 0.2]), ValueError, r"a and b must have the same shape"),
        (lambda: paired([0.1], [0.2]), ValueError, "a must hold at least 2 values, got 1"),
        (lambda: paired([0.1, math.nan], [0.2, 0.3]), ValueError, "a must be finite, got 1 of 2 values"),
        (lambda: paired([0.1, 0.2], [0.2, math.inf]), ValueError, "b must be finite, got 1 of 2 values"),
        (lambda: paired(["0.1", "0.2"], [0.1, 0.2]), TypeError, "a must be numbers, got"),  # type: ignore[list-item]
        (lambda: paired([[0.1], [0.2]], [0.1, 0.2]), ValueError, r"a must have shape \(N,\), got \(2, 1\)"),  # type: ignore[list-item]
        (lambda: paired([0.1, 0.2], [0.1, 0.2], confidence=1.0), ValueError, "confidence must be"),
        (lambda: bootstrap([0.1, 0.2], resamples=10), ValueError, "resamples must be at least 100"),
        (lambda: bootstrap(torch.zeros(2, dtype=torch.cfloat)), TypeError, "values must be numbers"),
        (lambda: holm([]), ValueError, "p_values must hold at least 1"),
        (lambda: holm([0.5, 1.2]), ValueError, r"p_values must lie in \[0, 1\], got"),
        (lambda: holm([0.5, math.nan]), ValueError, r"p_values must lie in \[0, 1\]"),
        (lambda: spread([]), ValueError, "values must hold at least one seed"),
        (lambda: spread([[0.5], []]), ValueError, r"values\[1\] must hold at least 1"),
        (lambda: spread(torch.rand(3)), ValueError, r"values must have shape \(S, N\)"),
        (lambda: spread([[0.5, math.nan]]), ValueError, r"values\[0\] must be finite"),
    ],
)
def test_bad_input(call, error: type[Exception], message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(error, match=message):
        call()


def test_values_on_any_device_and_of_any_type(device: torch.device) -> None:
    a, b = torch.tensor([1, 0, 1, 1], device=device), torch.tensor([True, False, False, False], device=device)
    assert paired(a, b).difference == 0.5
    assert paired(a.float().requires_grad_(), np.array([1.0, 0, 0, 0])).p_value == paired(a, b).p_value
