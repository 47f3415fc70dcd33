"""How sslmed does at the points of a sweep: beside the floor, the quickest peer, and the point before."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

STEP = 1.5  # the most that the time of a pair or pixel may grow from one point of an axis of sizes to the next

Point = Mapping[str, Any]  # of a result file


@dataclass(frozen=True)
class Standing:
    """How sslmed does at a point; nan where there is no floor, no peer, or no memory was measured.

    Attributes:
        ms: of a call.
        ns: of a pair or pixel; nan where the result does not say how many there are.
        step: `ns` over that of the point before on an axis of sizes.
        floor: time over that of the floor.
        peer: time over that of the quickest peer.
        who: that peer, or "".
        peak_mib: peak memory of a call.
        memory: peak memory over that peer's, where that is at least 1 MiB.
    """

    ms: float
    ns: float
    step: float
    floor: float
    peer: float
    who: str
    peak_mib: float
    memory: float

    @property
    def slower(self) -> bool:
        """Whether a peer is quicker."""
        return self.peer > 1

    @property
    def steps(self) -> bool:
        """Whether the time jumps from the point before."""
        return self.step > STEP

    def __str__(self) -> str:
        parts = {
            "x step {:.2f}": self.step,
            "x floor {:.2f}": self.floor,
            f"x peer {{:.2f}} ({self.who})": self.peer,
            "peak {:.1f} MiB": self.peak_mib,
            "x peer's {:.2f}": self.memory,
        }
        shown = "".join(f"   {text.format(value)}" for text, value in parts.items() if not math.isnan(value))
        return shown + ("  SLOWER THAN A PEER" if self.slower else "") + ("  STEP" if self.steps else "")


def ways(point: Point) -> Mapping[str, Mapping[str, float]]:
    """The contenders of a point; earlier files of augmentations have no level between."""
    found: Mapping[str, Mapping[str, float]] = point.get("ways", point)
    return found


def standings(axis: str, table: Mapping[str, Point], sizes: Collection[str] = ()) -> Iterator[tuple[str, Standing]]:
    """How sslmed does at each point of an axis."""
    before = math.nan
    for place, point in table.items():
        rows = ways(point)
        ours, ms = rows["sslmed"], rows["sslmed"]["median_ms"]
        floors = [row for name, row in rows.items() if is_floor(name)]
        peers = {name: row for name, row in rows.items() if name != "sslmed" and not is_floor(name)}
        who = min(peers, key=lambda name: peers[name]["median_ms"], default="")
        their_peak = peers[who].get("peak_mib", math.nan) if who else math.nan
        ns = ms * 1e6 / point.get("pairs", math.nan)
        yield (
            place,
            Standing(
                ms=ms,
                ns=ns,
                step=ns / before if axis in sizes else math.nan,
                floor=ms / floors[0]["median_ms"] if floors else math.nan,
                peer=ms / peers[who]["median_ms"] if who else math.nan,
                who=who,
                peak_mib=ours.get("peak_mib", math.nan),
                memory=ours.get("peak_mib", math.nan) / their_peak if their_peak >= 1 else math.nan,
            ),
        )
        before = ns


def summary(tables: Mapping[str, Mapping[str, Point]], sizes: Collection[str]) -> str:
    """The counts of a job's points."""
    found = [standing for axis, table in tables.items() for _, standing in standings(axis, table, sizes)]
    slower, steps = sum(one.slower for one in found), sum(one.steps for one in found)
    return f"{len(found)} points, {slower} slower than the best peer, {steps} steps"


def is_floor(name: str) -> bool:
    """Whether a contender only does the work that cannot be left out."""
    return name.startswith("floor")
