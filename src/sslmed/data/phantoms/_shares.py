"""Labels of synthetic sets: every run of successive items has the classes' shares."""

from __future__ import annotations

import bisect
import math
from collections.abc import Mapping
from itertools import accumulate
from types import MappingProxyType

_GOLDEN = 0.6180339887498949

BREAST_SHARES: Mapping[str, float] = MappingProxyType(
    {"benign": 437 / 780, "malignant": 210 / 780, "normal": 133 / 780}
)


def labels_by_share(shares: Mapping[str, float], count: int, seed: int) -> list[int]:
    """Return `count` labels; label i depends on `seed` and i alone.

    Multiples of the golden ratio fill [0, 1) evenly, so any run of items holds class k in proportion to its share.
    """
    bounds = list(accumulate(shares.values()))[:-1]
    start = 0.5 + seed * math.sqrt(2)
    return [bisect.bisect_right(bounds, (start + i * _GOLDEN) % 1.0) for i in range(count)]
