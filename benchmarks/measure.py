"""What the benchmarks share: interleaved rounds, steady memory, and the facts of the machine.

Each round calls every contender once, in an order drawn anew, so that drift of the machine falls on all. Figures are
medians with quartiles; only ratios within one run mean anything.
"""

from __future__ import annotations

import gc
import importlib.metadata
import json
import os
import platform
import random
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

Contenders = dict[str, Callable[[], object]]
RESULTS = Path(__file__).parent / "results"
MALLOC = {"MALLOC_MMAP_THRESHOLD_": "1000000000", "MALLOC_TRIM_THRESHOLD_": "1000000000"}
GIVE_BACK = dict.fromkeys(MALLOC, "65536")  # for a process that measures memory


def settle(threads: int) -> None:
    """Fix threads and seeds, and start this process anew with memory that is kept rather than given back.

    Page faults of large blocks differ between contenders and move a Fourier transform by a factor of two. glibc and the
    matrix products of NumPy read their settings only when a process starts.
    """
    wanted = {**MALLOC, "OMP_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": str(threads)}
    if any(os.environ.get(name) != value for name, value in wanted.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **wanted})
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    random.seed(0)


def interleaved(
    contenders: Contenders, rounds: int, device: str, *, calls: int = 1, warm_up: int = 3
) -> dict[str, dict[str, float]]:
    """Median and quartiles in ms of one call; a contender may make `calls` calls at once."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    order, synchronize = list(contenders), torch.cuda.synchronize if device == "cuda" else lambda: None
    for turn in range(rounds + warm_up):
        random.shuffle(order)
        for name in order:
            synchronize()
            start = time.perf_counter()
            contenders[name]()
            synchronize()
            if turn >= warm_up:
                times[name].append((time.perf_counter() - start) * 1e3 / calls)
    at = torch.tensor([0.25, 0.5, 0.75])
    quartiles = {name: torch.tensor(t).quantile(at).tolist() for name, t in times.items()}
    return {name: {"median_ms": m, "q1_ms": a, "q3_ms": b} for name, (a, m, b) in quartiles.items()}


def tells_memory(device: str) -> bool:
    """Whether `peak_mib` works here: on a GPU, and on the CPU under Linux."""
    return device == "cuda" or Path("/proc/self/clear_refs").exists()


def peak_mib(call: Callable[[], object], device: str = "cpu") -> float:
    """Peak memory in MiB of one call above what was there before it.

    On the CPU that is resident memory, so the process must have started with the settings of `GIVE_BACK`: memory that
    it keeps after use would hide what the call takes. Make the call once before: libraries take buffers of their own at
    their first.
    """
    gc.collect(1)  # a full collection takes as long as many a sweep's call
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        held = torch.cuda.memory_allocated()
        call()
        torch.cuda.synchronize()
        return (torch.cuda.max_memory_allocated() - held) / 2**20
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = _resident_mib("VmRSS")
    call()
    return max(0.0, _resident_mib("VmHWM") - before)


def _resident_mib(field: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024


def processor() -> str:
    """The processor's name where the system tells it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def report(device: str, threads: int, rounds: int, *packages: str) -> dict[str, Any]:
    """The head of a result file; `jobs` is to be filled."""
    versions = {name: importlib.metadata.version(name) for name in ("sslmed", "torch", *packages)}
    return {
        "versions": {"python": platform.python_version(), **versions},
        "machine": torch.cuda.get_device_name() if device == "cuda" else processor(),
        "device": device,
        "threads": threads,
        "rounds": rounds,
        "malloc": MALLOC,
        "jobs": {},
    }


def over_draws(gains: Sequence[float]) -> dict[str, float]:
    """The mean gain over draws of the labels, its 95 % interval and the p-value of a t-test."""
    import scipy.stats

    t = scipy.stats.ttest_1samp(gains, 0)
    low, high = t.confidence_interval()
    return {"gain": fmean(gains), "low": float(low), "high": float(high), "p_over_draws": float(t.pvalue)}


def write(name: str, content: dict[str, Any]) -> Path:
    """Write results/NAME.json."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(content, indent=2) + "\n")
    print(path.relative_to(Path(__file__).parent.parent))
    return path


def bars(content: dict[str, Any], path: Path, *, reference: str = "floor") -> None:
    """Draw each job's times as bars over those of the contender whose name starts with `reference`."""
    from matplotlib.figure import Figure

    jobs = content["jobs"]
    heights = [len(rows) for rows in jobs.values()]
    figure = Figure(figsize=(9, 0.3 * sum(heights) + 0.7 * len(jobs)), layout="constrained")
    grid = figure.subplots(len(jobs), squeeze=False, height_ratios=heights)
    for axes, (title, rows) in zip(grid[:, 0], jobs.items(), strict=True):
        floor = next(row["median_ms"] for name, row in rows.items() if name.startswith(reference))
        names = list(rows)[::-1]
        ratios = [rows[name]["median_ms"] / floor for name in names]
        colours = ["#1b6ca8" if name.startswith("sslmed") else "#9aa5b1" for name in names]
        drawn = axes.barh(names, ratios, color=colours)
        labels = [
            f" {r:.2f}x, {rows[n]['median_ms']:.3g} ms"
            + (f", {rows[n]['peak_mib']:.0f} MiB" if "peak_mib" in rows[n] else "")
            for n, r in zip(names, ratios, strict=True)
        ]
        axes.bar_label(drawn, labels, fontsize=8)
        axes.set_title(f"{title} ({content['machine']}, threads: {content['threads']})", loc="left", fontsize=10)
        axes.tick_params(labelsize=8)
        axes.margins(y=0.02)
        if max(ratios) > 20:
            axes.set_xscale("log")
        low, high = axes.get_xlim()
        axes.set_xlim(low, high**1.4 if axes.get_xscale() == "log" else high * 1.25)
        axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlabel(f"median time over that of {reference}")
    figure.savefig(path, dpi=100)
