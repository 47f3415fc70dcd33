"""What the sweeps share: measuring every point of every axis, and the picture.

A peer that fails at a point, or takes longer than two seconds there, is left out of it; the printed lines say so. The
peak of memory is measured first, once a point, in a process of its own whose memory is given back after use.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from measure import GIVE_BACK, RESULTS, Contenders, interleaved, peak_mib, report, settle, tells_memory, write
from standings import Point, is_floor, standings, summary, ways

OURS, FLOOR = "#1b6ca8", "#9aa5b1"
PEERS = ("#d55e00", "#009e73", "#cc79a7", "#e69f00", "#7b4f9d", "#5b6776", "#8c564b")
LONGEST_MS = 2000.0  # of a peer's call

Axes = Mapping[str, Sequence[Any]]


@dataclass(frozen=True)
class Sweep:
    """One script.

    Attributes:
        name: of its result files, without the device.
        unit: what is counted at each point, as "pair".
        rounds: how often each contender is timed.
        jobs: the axes of each job, by its title.
        sizes: the axes on which each point is larger than the one before.
        build: the contenders of a job at a value of an axis, and how many units they work on.
        packages: peers whose versions the result tells.
        devices: what it can run on.
    """

    name: str
    unit: str
    rounds: int
    jobs: Mapping[str, Axes]
    sizes: frozenset[str]
    build: Callable[[str, str, Any, str], tuple[Contenders, int]]
    packages: Sequence[str]
    devices: Sequence[str] = ("cpu", "cuda")

    def main(self, description: str) -> None:
        """Measure, print, and write the results and their picture."""
        axes = list(dict.fromkeys(axis for of_job in self.jobs.values() for axis in of_job))
        parser = argparse.ArgumentParser(description=description.splitlines()[0])
        parser.add_argument("--rounds", type=int, default=self.rounds)
        parser.add_argument("--device", choices=self.devices, default="cpu")
        parser.add_argument("--threads", type=int, default=1)
        parser.add_argument("--jobs", nargs="+", choices=list(self.jobs), default=list(self.jobs))
        parser.add_argument("--axes", nargs="+", choices=axes, default=axes, help="axes to run alone")
        parser.add_argument("--before", type=Path, help="a result with an earlier version, to draw its times too")
        parser.add_argument("--peaks", type=Path, help=argparse.SUPPRESS)  # measure memory alone, into this file
        args = parser.parse_args()
        jobs = {job: {axis: self.jobs[job][axis] for axis in self.jobs[job] if axis in args.axes} for job in args.jobs}
        if args.peaks:
            torch.set_num_threads(args.threads)
            args.peaks.write_text(json.dumps(self.peaks(jobs, args.device)))
            return
        settle(args.threads)
        content = report(args.device, args.threads, args.rounds, *self.packages)
        peaks = _in_a_process_of_its_own() if tells_memory(args.device) else {}
        for job, tables in self.timed(jobs, args.device, args.rounds, peaks):
            content["jobs"][job] = tables
        print("\n".join(f"{job}: {summary(tables, self.sizes)}" for job, tables in content["jobs"].items()))
        name = f"{self.name}-{args.device}"
        write(name, content)
        draw(content, RESULTS / f"{name}.png", unit=f"ns per {self.unit}", before=args.before)

    def peaks(self, jobs: Mapping[str, Axes], device: str) -> dict[str, dict[str, float]]:
        """Peak memory of each contender in MiB, by point."""
        found = {}
        for job, axes in jobs.items():
            for axis, values in axes.items():
                for value in values:
                    ready, _ = usable(self.build(job, axis, value, device)[0])
                    peaks = {name: round(peak_mib(call, device), 2) for name, (call, _) in ready.items()}
                    found[f"{job}/{axis}/{label(value)}"] = peaks
        return found

    def timed(
        self, jobs: Mapping[str, Axes], device: str, rounds: int, peaks: Mapping[str, Mapping[str, float]]
    ) -> Iterator[tuple[str, dict[str, dict[str, Point]]]]:
        """Each job and its points by axis and value, printed as they are measured."""
        for job, axes in jobs.items():
            tables: dict[str, dict[str, Point]] = {axis: {} for axis in axes}
            for axis, table in tables.items():
                print(f"{job} against {axis}", flush=True)
                for value in axes[axis]:
                    place, (contenders, units) = label(value), self.build(job, axis, value, device)
                    ready, left_out = usable(contenders)
                    for reason in left_out:
                        print(f"  {place:16} without {reason}", flush=True)
                    rows = measured(ready, rounds, device)
                    for name, peak in peaks.get(f"{job}/{axis}/{place}", {}).items():
                        if name in rows:
                            rows[name]["peak_mib"] = peak
                    table[place] = {"pairs": units, "ways": rows}
                    *_, (_, last) = standings(axis, table, self.sizes)
                    print(f"  {place:16} {last.ms:9.4f} ms {last.ns:9.3f} ns/{self.unit}{last}", flush=True)
            if tables:
                yield job, tables


def label(value: Any) -> str:
    """The name of a point."""
    return " x ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _in_a_process_of_its_own() -> dict[str, dict[str, float]]:
    """What this command measures with `--peaks`."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "peaks.json"
        command = [sys.executable, *sys.argv, "--peaks", str(path)]
        subprocess.run(command, env={**os.environ, **GIVE_BACK}, check=True)
        peaks: dict[str, dict[str, float]] = json.loads(path.read_text())
        return peaks


def usable(contenders: Contenders) -> tuple[dict[str, tuple[Callable[[], object], float]], list[str]]:
    """Each contender that works and is quick enough, called once or twice, with the ms it took; and who is left out."""
    ready, left_out = {}, []
    for name, call in contenders.items():
        is_peer = name != "sslmed" and not is_floor(name)
        try:
            ms = _ms(call)
            if not 20 < ms < LONGEST_MS:
                ms = _ms(call)  # the first call also loads what it needs
        except Exception as error:
            if not is_peer:
                raise
            left_out.append(f"{name}, {type(error).__name__}: {str(error).strip()[:80]!r}")
            continue
        if ms > LONGEST_MS and is_peer:
            left_out.append(f"{name}, which takes {ms / 1e3:.1f} s")
        else:
            ready[name] = call, ms
    return ready, left_out


def measured(
    ready: Mapping[str, tuple[Callable[[], object], float]], rounds: int, device: str
) -> dict[str, dict[str, float]]:
    """Times of all contenders at a point; of quick ones several calls at once, so that a clock can tell them apart."""
    calls = {name: max(1, int(2 / max(ms, 0.1))) for name, (_, ms) in ready.items()}
    repeated = {name: _repeated(call, calls[name]) for name, (call, _) in ready.items()}
    times = interleaved(repeated, rounds, device, warm_up=0)
    return {name: {figure: ms / calls[name] for figure, ms in row.items()} for name, row in times.items()}


def _ms(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return (time.perf_counter() - start) * 1e3


def _repeated(call: Callable[[], object], count: int) -> Callable[[], None]:
    def repeated() -> None:
        for _ in range(count):
            call()

    return repeated


def draw(content: dict[str, Any], path: Path, *, unit: str, before: Path | None = None) -> None:
    """Draw each job of a sweep in a row, each axis in a field.

    Args:
        content: `jobs` by title, axis and point: the number of `pairs` (or pixels) and the times of all `ways`.
        path: of the picture.
        unit: what the times are divided to, as "ns per pair".
        before: a result of the same sweep with an earlier version, whose own times are drawn too.
    """
    from matplotlib.figure import Figure

    earlier = json.loads(before.read_text())["jobs"] if before else {}
    jobs = content["jobs"]
    wide = max(len(tables) for tables in jobs.values())
    figure = Figure(figsize=(3.4 * wide, 2.6 * len(jobs)), layout="constrained")
    grid = figure.subplots(len(jobs), wide, squeeze=False)
    for row, (title, tables) in zip(grid, jobs.items(), strict=True):
        names = sorted({name for table in tables.values() for point in table.values() for name in ways(point)})
        peers = [name for name in names if name != "sslmed" and not is_floor(name)]
        colours = {name: PEERS[number % len(PEERS)] for number, name in enumerate(peers)}
        for axes, (axis, table) in zip(row, tables.items(), strict=False):
            for name in filter(is_floor, names):
                _line(axes, table, table, name, label=name, linestyle="--", linewidth=1, color=FLOOR)
            for name, colour in colours.items():
                _line(axes, table, table, name, label=name, marker=".", linewidth=0.8, color=colour)
            _line(axes, table, table, "sslmed", label="sslmed", marker="o", linewidth=2, color=OURS)
            old = earlier.get(title, {}).get(axis, {})
            _line(axes, table, old, "sslmed", label="sslmed before", linestyle=":", linewidth=1.5, color=OURS)
            axes.set_xticks(range(len(table)), list(table), rotation=90, fontsize=7)
            axes.set(yscale="log", xlabel=axis)
            axes.tick_params(labelsize=7)
            axes.spines[["top", "right"]].set_visible(False)
        row[0].set_title(title, loc="left", fontsize=10)
        row[0].set_ylabel(unit, fontsize=8)
        lines = {line.get_label(): line for axes in row for line in axes.get_lines()}
        beside = {"loc": "center left", "bbox_to_anchor": (1, 0.5)}
        row[len(tables) - 1].legend(lines.values(), lines.keys(), fontsize=6, frameon=False, **beside)
        for axes in row[len(tables) :]:
            axes.set_axis_off()
    figure.suptitle(f"{content['machine']}, threads: {content['threads']}", fontsize=10)
    figure.savefig(path, dpi=80)


def _line(axes: Any, table: Mapping[str, Any], times: Mapping[str, Any], name: str, **style: Any) -> None:
    """A contender's `times` over the pairs of `table`, at the points where it was measured."""
    known = []
    for i, (place, point) in enumerate(table.items()):
        row = ways(times.get(place, {})).get(name)
        if row:
            known.append((i, row["median_ms"] * 1e6 / point["pairs"]))
    if known:
        axes.plot(*zip(*known, strict=True), **style)
