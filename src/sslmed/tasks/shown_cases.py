"""Which test cases a report shows: the same for all methods, so that their predictions can be compared."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

KEPT = 400  # test cases whose predictions a cell keeps, at most
DRAWN = 2  # cases shown of each tier


@dataclass(frozen=True)
class ShownCase:
    """A test case to show.

    Attributes:
        id: of the case.
        tier: where it ranks, as "best 20 %".
        label: its class, or "".
        score: its mean over all tests.
    """

    id: str
    tier: str
    label: str
    score: float


def shuffled(ids: Iterable[str]) -> list[str]:
    """The ids in a random order that follows from the ids alone: every method and machine draws the same."""
    return sorted(ids, key=lambda name: hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest())


def sampled(ids: Sequence[str], most: int = KEPT) -> list[int]:
    """Positions of the cases whose predictions are kept: all, or a fixed random sample of a large set."""
    if len(ids) <= most:
        return list(range(len(ids)))
    chosen = set(shuffled(ids)[:most])
    return [k for k, name in enumerate(ids) if name in chosen]


def tiers(ranked: Sequence[str]) -> dict[str, list[str]]:
    """The best 20 %, middle 60 % and worst 20 % of ids that are ordered from best to worst."""
    outer = max(1, math.floor(0.2 * len(ranked) + 0.5))
    last = max(outer, len(ranked) - outer)
    return {
        "best 20 %": list(ranked[:outer]),
        "middle 60 %": list(ranked[outer:last]),
        "worst 20 %": list(ranked[last:]),
    }


def choose(tests: Sequence[Sequence[Mapping[str, str]]], metric: str = "dice", each: int = DRAWN) -> list[ShownCase]:
    """Draw test cases at random from the best 20 %, the middle 60 % and the worst 20 %, ranked over all tests.

    Cases without a structure in the reference rank high or low for that alone; they are left out of the tiers. Where
    the cases have classes, the middle shows one case of each class instead, from the middle 60 % of that class with
    empty references included.

    Args:
        tests: for each test, its rows of metrics.csv. A case that a test lacks is not chosen.
        metric: what ranks the cases, by its mean over the tests; higher is better.
        each: cases of a tier.

    Returns:
        The cases, best first. Empty without tests.
    """
    found = [{row["id"]: row for row in rows} for rows in tests]
    if not found:
        return []
    common = [name for name in found[0] if all(name in rows for rows in found)]
    common = [common[k] for k in sampled(common)]
    score = {name: float(np.mean([float(rows[name][metric]) for rows in found])) for name in common}
    ranked = sorted(common, key=lambda name: (-score[name], name))
    label = {name: found[0][name].get("label", "") for name in common}
    classes = sorted({label[name] for name in common} - {""})

    parts = tiers([name for name in ranked if not int(found[0][name]["target_empty"])])
    best, middle, worst = parts
    chosen = {tier: shuffled(parts[tier])[:each] for tier in (best, worst)}
    chosen[middle] = [] if classes else shuffled(parts[middle])[:each]
    for name in classes:
        own = [case for case in ranked if label[case] == name]
        # Of one or two cases there is no middle.
        candidates = shuffled(tiers(own)[middle] or own)
        chosen[middle] += [case for case in candidates if case not in chosen[best] + chosen[worst]][:1]
    return [
        ShownCase(name, tier, label[name], score[name])
        for tier in parts
        for name in sorted(chosen[tier], key=ranked.index)
    ]
