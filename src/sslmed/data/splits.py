"""Splits that leak nothing: whole groups, exact sizes, nested label fractions, near duplicates, disjointness."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence

import numpy as np
import numpy.typing as npt

from .. import _checks
from ._copies import near_duplicates
from ._leaks import assert_disjoint
from ._names import lookalikes

__all__ = ["assert_disjoint", "group_split", "label_fraction", "near_duplicates"]

Index = npt.NDArray[np.int64]


def group_split(
    groups: Sequence[Hashable],
    fractions: Sequence[float],
    *,
    labels: Sequence[Hashable] | None = None,
    seed: int,
) -> list[Index]:
    """Split cases into parts by whole groups, at random.

    Groups are dealt at random, each to a part that has room for it, with a chance in proportion to the cases of its
    class that the part still lacks; the last few, which fit nowhere, go to the part that lacks most cases.

    Args:
        groups: group of each case: patient, clip, near duplicates.
        fractions: share of each part; they sum to 1.
        labels: class of each case; each part then gets each class in the whole's proportion, as far as groups allow.
        seed: of the shuffle; the same seed gives the same parts.

    Returns:
        One ascending int64 index array a part; together they hold each case once. A part's size differs from its
        exact share by less than the largest group, and by less than one case where each group is one case and no
        labels are given.

    Raises:
        TypeError: a fraction is no number.
        ValueError: fractions do not sum to 1, lengths differ, a part would be empty, or two groups are the same but
            for case, spaces or the Unicode form of their characters.

    Example:
        >>> train, test = group_split(["a", "a", "b", "c", "c", "d"], (0.5, 0.5), seed=0)
        >>> len(train), len(test), sorted([*train.tolist(), *test.tolist()])
        (3, 3, [0, 1, 2, 3, 4, 5])
    """
    shares = np.array([_checks.number(f"fractions[{k}]", f, low=0.0, high=1.0) for k, f in enumerate(fractions)])
    if not abs(shares.sum() - 1) <= 1e-9:
        raise ValueError(f"fractions must sum to 1, got {tuple(fractions)}, which sum to {shares.sum():g}")
    if alike := lookalikes(_listed(groups), strict=False):
        raise ValueError(
            f"groups {alike[0]!r} and {alike[1]!r} differ in case, spaces or Unicode form only; if they are one, spell "
            "them alike, else otherwise"
        )
    unit_of, table = _count(groups, labels)
    part_of = _deal(table, shares, np.random.default_rng(_checks.integer("seed", seed, low=0)))
    parts = [np.flatnonzero(part_of[unit_of] == k) for k in range(len(shares))]
    for k, part in enumerate(parts):
        if not len(part):
            raise ValueError(
                f"fractions[{k}] = {fractions[k]:g} of {len(unit_of)} cases in {len(table)} groups leaves no case"
            )
    return parts


def label_fraction(
    index: Sequence[int] | Index,
    fraction: float,
    *,
    groups: Sequence[Hashable] | None = None,
    labels: Sequence[Hashable] | None = None,
    seed: int,
) -> Index:
    """Choose the labelled part of a training split; smaller fractions lie inside larger ones.

    The cases are put in one order, which depends on the seed alone, in which each class (where `labels` are given) is
    spread evenly; a fraction is the first round(fraction * n) cases of it. With `groups`, the order is one of groups,
    and the cut falls where the number of cases comes nearest.

    Args:
        index: cases to choose from, such as a part of `group_split`.
        fraction: in (0, 1].
        groups: group of each case in `index`, for whole groups only.
        labels: class of each case in `index`, to keep the classes' proportions.
        seed: of the order.

    Returns:
        The chosen members of `index`, ascending, int64; all of them at 1.0.

    Raises:
        ValueError: fraction out of range, lengths differ, or no case would be left.

    Example:
        >>> few, more = (label_fraction(range(100, 150), f, seed=0) for f in (0.1, 0.2))
        >>> len(few), len(more), set(few) <= set(more)
        (5, 10, True)
    """
    _checks.number("fraction", fraction, low=0.0, high=1.0, low_open=True)
    cases = np.array(_listed(index))
    if not len(cases):
        raise ValueError("index holds no case to choose from")
    if cases.dtype.kind not in "iu" or cases.ndim != 1 or len(np.unique(cases)) < len(cases):
        raise ValueError(f"index must hold distinct integers in one row, got {index!r}")
    units = range(len(cases)) if groups is None else groups
    if len(units) != len(cases):
        raise ValueError(f"groups must name a group for each of the {len(cases)} cases, got {len(units)}")
    unit_of, table = _count(units, labels)
    order = _spread(table, np.random.default_rng(_checks.integer("seed", seed, low=0)))
    reached = np.concatenate([[0], table[order].sum(axis=1).cumsum()])
    # Of two equally near cuts the later: half a case rounds up.
    cut = len(order) - int(np.argmin(np.abs(reached - fraction * len(cases))[::-1]))
    if cut == 0:
        raise ValueError(f"fraction {fraction:g} of {len(cases)} cases leaves no case")
    return np.sort(cases[np.isin(unit_of, order[:cut])]).astype(np.int64)


def _listed(values: Iterable[Hashable]) -> list[Hashable]:
    # Elements of a tensor hash by identity, Python numbers by value.
    return list(values.tolist() if hasattr(values, "tolist") else values)


def _count(groups: Iterable[Hashable], labels: Iterable[Hashable] | None) -> tuple[Index, Index]:
    """Number the groups; return the number of each case, and the cases of each group and class (G, C)."""
    names = _listed(groups)
    classes = [0] * len(names) if labels is None else _listed(labels)
    if len(classes) != len(names):
        raise ValueError(f"labels must name a class for each of the {len(names)} cases, got {len(classes)}")
    numbers = {name: k for k, name in enumerate(dict.fromkeys(names))}
    columns = {name: k for k, name in enumerate(dict.fromkeys(classes))}
    table = np.zeros((len(numbers), len(columns)), dtype=np.int64)
    unit_of = np.array([numbers[name] for name in names], dtype=np.int64)
    np.add.at(table, (unit_of, np.array([columns[name] for name in classes], dtype=np.int64)), 1)
    return unit_of, table


def _deal(table: Index, shares: npt.NDArray[np.float64], rng: np.random.Generator) -> Index:
    """Give each group a part.

    Each part's number of cases ends within one group of its share: a group that overfills a part goes to the one that
    lacks most, so all the others lack less than that group's size by then.
    """
    lacking = shares[:, None] * table.sum(axis=0)
    part_of = np.empty(len(table), dtype=np.int64)
    order = rng.permutation(len(table))
    order = order[np.argsort(-table[order].sum(axis=1), kind="stable")]
    left = []
    for unit in order:
        room = (lacking >= table[unit] - 1e-9).all(axis=1)
        if not room.any():
            left.append(unit)
            continue
        weight = room * (lacking @ table[unit])
        part_of[unit] = rng.choice(len(shares), p=weight / weight.sum())
        lacking[part_of[unit]] -= table[unit]
    for unit in left:
        total = lacking.sum(axis=1)
        room = total >= table[unit].sum()
        part_of[unit] = np.argmax(np.where(room, lacking @ table[unit], -np.inf) if room.any() else total)
        lacking[part_of[unit]] -= table[unit]
    return part_of


def _spread(table: Index, rng: np.random.Generator) -> Index:
    """Order the groups at random so that every beginning holds the classes in the whole's proportion."""
    order = rng.permutation(len(table))
    main, size = table[order].argmax(axis=1), table[order].sum(axis=1)
    place = np.empty(len(table))
    for k in range(table.shape[1]):
        own = main == k
        reached = size[own].cumsum()
        place[own] = (reached - size[own] / 2) / reached[-1:]
    return order[np.argsort(place, kind="stable")]
