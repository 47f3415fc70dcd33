"""Splits: whole groups, exact sizes, nested fractions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sslmed.data.splits import group_split, label_fraction

FRACTIONS = (0.7, 0.1, 0.2)


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 6), min_size=40, max_size=80),
    classes=st.integers(1, 3),
    seed=st.integers(0, 2**31),
)
def test_parts_are_whole_groups_of_the_right_size(sizes: list[int], classes: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    groups = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    labels = rng.integers(0, classes, len(sizes))[groups]
    parts = group_split(groups, FRACTIONS, labels=labels, seed=seed)
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(groups)))
    for fraction, part in zip(FRACTIONS, parts, strict=True):
        assert part.tolist() == sorted(part.tolist())
        assert abs(len(part) - fraction * len(groups)) < max(sizes)
    held = [set(groups[part].tolist()) for part in parts]
    assert not (held[0] & held[1] | held[0] & held[2] | held[1] & held[2])


@pytest.mark.parametrize("count", [10, 37, 100, 999])
def test_single_cases_give_exact_sizes(count: int) -> None:
    parts = group_split(range(count), FRACTIONS, seed=3)
    for fraction, part in zip(FRACTIONS, parts, strict=True):
        assert abs(len(part) - fraction * count) < 1


def test_classes_keep_their_proportions() -> None:
    labels = ["benign"] * 437 + ["malignant"] * 210 + ["normal"] * 133
    for seed in range(5):
        for fraction, part in zip(FRACTIONS, group_split(range(780), FRACTIONS, labels=labels, seed=seed), strict=True):
            for name in ("benign", "malignant", "normal"):
                got = sum(labels[i] == name for i in part)
                assert abs(got - fraction * labels.count(name)) <= 2
            assert abs(len(part) - fraction * 780) < 1


def test_seeds_decide() -> None:
    groups = [f"patient {k // 2}" for k in range(60)]
    first, again, other = (group_split(groups, (0.5, 0.5), seed=s)[0].tolist() for s in (0, 0, 1))
    assert first == again != other


def test_large_groups_go_everywhere() -> None:
    groups = np.concatenate([np.repeat(np.arange(20), 5), np.arange(20, 120)])
    in_test = [int((group_split(groups, (0.8, 0.2), seed=s)[1] < 100).sum()) for s in range(20)]
    assert 10 < np.mean(in_test) < 30  # 20 of the 100 cases in large groups would be proportional


def test_tensors_and_mixed_names_serve_as_groups() -> None:
    expected = group_split([0, 0, 1, 2, 2, 3], (0.5, 0.5), seed=0)
    for groups in (
        torch.tensor([0, 0, 1, 2, 2, 3]),
        np.array([0, 0, 1, 2, 2, 3]),
        ["a", "a", 1, (2,), (2,), None],
    ):
        for a, b in zip(expected, group_split(groups, (0.5, 0.5), seed=0), strict=True):
            assert a.tolist() == b.tolist()


def test_bad_splits() -> None:
    with pytest.raises(ValueError, match=r"fractions\[1\] = 0\.1 of 4 cases in 4 groups leaves no case"):
        group_split(range(4), FRACTIONS, seed=0)
    with pytest.raises(ValueError, match=r"must sum to 1, got \(0\.7, 0\.2\), which sum to 0\.9"):
        group_split(range(40), (0.7, 0.2), seed=0)
    with pytest.raises(ValueError, match=r"fractions\[1\] must be a finite number"):
        group_split(range(40), (0.7, float("nan")), seed=0)
    with pytest.raises(ValueError, match="labels must name a class for each of the 40 cases, got 3"):
        group_split(range(40), (0.5, 0.5), labels=[1, 2, 3], seed=0)
    for other in ("p1", " P1", "P1 ", "\uff301"):
        with pytest.raises(ValueError, match=r"groups 'P1' and '.*' differ in case, spaces or Unicode form only"):
            group_split(["P1", other, "P2", "P3"], (0.5, 0.5), seed=0)
    assert len(group_split(["P1", "P01", "P 1", 1, "1"], (0.5, 0.5), seed=0)) == 2
    with pytest.raises(ValueError, match="seed must be at least 0"):
        group_split(range(40), (0.5, 0.5), seed=-1)


@settings(max_examples=40, deadline=None)
@given(n=st.integers(10, 200), seed=st.integers(0, 1000), grouped=st.booleans())
def test_smaller_fractions_lie_inside_larger_ones(n: int, seed: int, grouped: bool) -> None:
    index = np.random.default_rng(seed).permutation(1000)[:n]
    groups = [k // 3 for k in range(n)] if grouped else None
    previous: set[int] = set()
    for fraction in (0.2, 0.3, 0.5, 0.9, 1.0):
        chosen = label_fraction(index, fraction, groups=groups, labels=index % 3, seed=seed)
        assert previous <= set(chosen.tolist())
        assert abs(len(chosen) - fraction * n) <= (1.5 if grouped else 0.5)
        previous = set(chosen.tolist())
        if groups is not None:
            inside = {groups[k] for k in range(n) if index[k] in previous}
            assert len(chosen) == sum(g in inside for g in groups)
    assert previous == set(index.tolist())


def test_fractions_keep_the_classes() -> None:
    labels = np.array([0] * 300 + [1] * 150 + [2] * 50)
    for fraction in (0.1, 0.2, 0.5):
        chosen = label_fraction(range(500), fraction, labels=labels, seed=1)
        for k, n in enumerate((300, 150, 50)):
            assert abs((labels[chosen] == k).sum() - fraction * n) <= 1


def test_seeds_of_fractions_decide() -> None:
    first, again, other = (label_fraction(range(100), 0.2, seed=s).tolist() for s in (0, 0, 1))
    assert first == again != other


def test_bad_fractions() -> None:
    with pytest.raises(ValueError, match=r"fraction 0\.01 of 20 cases leaves no case"):
        label_fraction(range(20), 0.01, seed=0)
    for fraction in (0.0, 1.2):
        with pytest.raises(ValueError, match="fraction must be a finite number"):
            label_fraction(range(20), fraction, seed=0)
    with pytest.raises(ValueError, match="index holds no case"):
        label_fraction([], 0.5, seed=0)
    for index in ([0.5, 1.5], [1, 1, 2], [[0, 1]]):
        with pytest.raises(ValueError, match="distinct integers"):
            label_fraction(index, 0.5, seed=0)
    with pytest.raises(ValueError, match="groups must name a group for each of the 20 cases, got 2"):
        label_fraction(range(20), 0.5, groups=[1, 2], seed=0)
    with pytest.raises(ValueError, match="labels must name a class for each of the 20 cases, got 2"):
        label_fraction(range(20), 0.5, labels=[1, 2], seed=0)
