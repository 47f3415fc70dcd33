"""Which test cases a report shows: the tiers, the draw, and that it is the same for all methods."""

from __future__ import annotations

import pytest

from sslmed.tasks.shown_cases import choose, sampled, shuffled, tiers


def row(name: str, dice: float, *, empty: bool = False, label: str = "") -> dict[str, str]:
    return {"id": name, "dice": str(dice), "target_empty": str(int(empty)), "label": label}


@pytest.mark.parametrize(
    ("count", "sizes"),
    [(0, (0, 0, 0)), (1, (1, 0, 0)), (2, (1, 0, 1)), (3, (1, 1, 1)), (8, (2, 4, 2)), (50, (10, 30, 10))],
)
def test_tiers_are_a_fifth_three_fifths_and_a_fifth(count: int, sizes: tuple[int, ...]) -> None:
    ranked = [str(k) for k in range(count)]
    found = tiers(ranked)
    assert tuple(map(len, found.values())) == sizes
    assert [name for part in found.values() for name in part] == ranked


def test_a_large_test_set_is_sampled_by_its_ids_alone() -> None:
    ids = [f"case {k}" for k in range(50)]
    assert sampled(ids, 50) == list(range(50))
    chosen = {ids[k] for k in sampled(ids, 10)}
    assert len(chosen) == 10
    assert {ids[::-1][k] for k in sampled(ids[::-1], 10)} == chosen
    assert chosen != set(ids[:10])
    assert sampled(ids, 10) == sorted(sampled(ids, 10))


def test_cases_rank_by_their_mean_over_all_tests() -> None:
    # "b" is the best of one method only; "a" by the mean.
    first = [row("a", 0.8), row("b", 0.9), row("c", 0.1), row("d", 0.5), row("e", 0.4)]
    second = [row("e", 0.4), row("d", 0.5), row("c", 0.3), row("b", 0.2), row("a", 0.8)]
    shown = choose([first, second])
    assert {case.tier: case.id for case in shown} == {"best 20 %": "a", "middle 60 %": shown[2].id, "worst 20 %": "c"}
    assert [case.score for case in shown] == pytest.approx(
        [0.8, *sorted((c.score for c in shown[1:3]), reverse=True), 0.2]
    )
    assert choose([second, first]) == shown
    assert choose([first[1:], second])[0].id != "a"  # one test lacks it
    assert choose([]) == []


def test_cases_are_drawn_at_random_within_their_tier() -> None:
    rows = [row(f"case {k}", 1 - k / 100) for k in range(100)]
    shown = choose([rows])
    places = [int(case.id.split()[1]) for case in shown]
    assert [sum(low <= place < high for place in places) for low, high in ((0, 20), (20, 80), (80, 100))] == [2, 2, 2]
    assert places == sorted(places)
    assert [case.id for case in shown[:2]] == sorted(
        shuffled([f"case {k}" for k in range(20)])[:2], key=lambda n: int(n[5:])
    )
    assert places[:2] != [0, 1]


def test_empty_references_are_shown_as_a_class_and_not_in_a_tier() -> None:
    rows = [row(f"lesion {k}", 0.9 - k / 20, label=("benign", "malignant")[k % 2]) for k in range(10)]
    rows += [row(f"empty {k}", float(k % 2), empty=True, label="normal") for k in range(5)]
    shown = choose([rows])
    assert [case.label for case in shown if case.tier == "middle 60 %"].count("normal") == 1
    assert {case.label for case in shown if case.tier == "middle 60 %"} == {"benign", "malignant", "normal"}
    assert all(case.id.startswith("lesion") for case in shown if case.tier != "middle 60 %")
    assert len({case.id for case in shown}) == len(shown)
    without = choose([[r | {"label": ""} for r in rows]])
    assert all(case.id.startswith("lesion") for case in without)
