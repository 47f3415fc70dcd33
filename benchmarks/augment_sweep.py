"""Throughput of the augmentations against batch, size, channels, p, layout in memory and dtype.

    python benchmarks/augment_sweep.py [--rounds 10] [--device cpu] [--threads 1] [--jobs FrequencyBandStop ...]

One setting moves at a time, from 32 gray images of 216 x 216 and p = 1. Sizes include some whose Fourier transform is
slow: 222 and 225 beside 216, 224 and 240, and the prime 223. FrequencyBandStop and CrossPatchJigsaw stand beside their
floors and peers; the others stand alone, and their picture is nanoseconds a pixel. Results go to
benchmarks/results/augment-sweep-<device>.json, .png and -all.png.
"""

from __future__ import annotations

import argparse
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kornia.augmentation as K
import torch
from torch import Tensor

import sslmed.augment
from augment_peers import usual_band_stop
from measure import RESULTS, Contenders, interleaved, report, settle, write
from sslmed.augment import CrossPatchJigsaw, FrequencyBandStop

Setting = float | str
Tables = dict[str, dict[str, dict[str, dict[str, float]]]]  # by axis, point, contender and figure
AXES: dict[str, tuple[Setting, ...]] = {
    "batch": (1, 8, 32, 128),
    "size": (64, 96, 128, 192, 216, 222, 223, 224, 225, 240, 256, 384),
    "channels": (1, 3),
    "p": (0.0, 0.1, 0.25, 0.5, 0.75, 1.0),
    "layout": ("contiguous", "channels last", "columns first", "expanded"),
    "dtype": ("float32", "float64", "bfloat16"),
}
ALL_AXES: dict[str, tuple[Setting, ...]] = {**AXES, "batch": (1, 32), "size": (64, 216, 223), "p": (0.0, 0.5, 1.0)}
START: dict[str, Setting] = {
    "batch": 32,
    "size": 216,
    "channels": 1,
    "p": 1.0,
    "layout": "contiguous",
    "dtype": "float32",
}
COLOURS = {"floor": "#c2410c", "sslmed": "#1b6ca8"}


def images(device: str, *, batch: int, size: int, channels: int, layout: str, dtype: str) -> Tensor:
    """Random images whose values lie in memory as `layout` says."""
    x = torch.rand(batch, channels, size, size, device=device, dtype=getattr(torch, dtype))
    if layout == "channels last":
        return x.to(memory_format=torch.channels_last)
    if layout == "columns first":
        return x.mT.contiguous().mT
    return x[:1].expand_as(x) if layout == "expanded" else x


def band_stop(device: str, *, p: float, **of_images: Any) -> Contenders:
    """The filter beside a Fourier transform there and back."""
    x = images(device, **of_images)
    # Transforms of half precision are not defined on CPUs, nor those of expanded images in torch 2.5.
    floor = x.float().contiguous() if x.dtype == torch.bfloat16 else x.contiguous()
    ours, usual = FrequencyBandStop(p=p), usual_band_stop(floor)
    return {
        "floor: rfft2 + irfft2": lambda: torch.fft.irfft2(torch.fft.rfft2(floor), s=x.shape[-2:]),
        "sslmed": lambda: ours(x),
        **({"torch: fft2 + shift": usual} if p == 1 else {}),
    }


def jigsaw(device: str, *, p: float, size: int, **of_images: Any) -> Contenders:
    """The jigsaw beside a copy."""
    x = images(device, size=size // 6 * 6, **of_images)
    ours, theirs = CrossPatchJigsaw(p=p), K.RandomJigsaw((6, 6), p=p)
    return {"floor: clone": x.clone, "sslmed": lambda: ours(x), "kornia: RandomJigsaw": lambda: theirs(x)}


def alone(name: str) -> Callable[..., Contenders]:
    """An augmentation at its defaults."""

    def build(device: str, *, p: float, **of_images: Any) -> Contenders:
        x, ours = images(device, **of_images), getattr(sslmed.augment, name)(p=p)
        return {"sslmed": lambda: ours(x)}

    return build


JOBS = {"FrequencyBandStop": band_stop, "CrossPatchJigsaw": jigsaw}
NOT_ALONE = {"MultiView", "PatchWise", *JOBS}
OTHERS = [
    name for name in sslmed.augment.__all__ if isinstance(getattr(sslmed.augment, name), type) and name not in NOT_ALONE
]
GRAY_ONLY = ("SyntheticLesions",)


def sweep(build: Callable[..., Contenders], axes: dict[str, tuple[Setting, ...]], device: str, rounds: int) -> Tables:
    """Measure along each axis, and print images a second."""
    tables: Tables = {}
    for axis, points in axes.items():
        print(f"  against {axis}")
        for point in points:
            settings: dict[str, Any] = {**START, axis: point}
            if axis == "layout" and "channels" in axes:
                settings["channels"] = 3  # with one channel, channels last is contiguous
            with torch.no_grad():
                rows = interleaved(build(device, **settings), rounds, device, warm_up=2)
            pixels = settings["batch"] * settings["channels"] * settings["size"] ** 2
            for row in rows.values():
                row["images_per_s"] = settings["batch"] * 1e3 / row["median_ms"]
                row["ns_per_pixel"] = row["median_ms"] * 1e6 / pixels
            tables.setdefault(axis, {})[str(point)] = rows
            figures = (f"{name} {row['images_per_s']:8.0f}/s" for name, row in rows.items())
            print(f"    {point!s:14} {'   '.join(figures)}")
    return tables


def draw(content: dict[str, Any], path: Path, before: Path | None) -> None:
    """Images a second against each axis; of an earlier version too, if its result is given."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    earlier = json.loads(before.read_text())["jobs"] if before else {}
    jobs = {title: tables for title, tables in content["jobs"].items() if title in JOBS}
    figure = Figure(figsize=(18, 3.5 * len(jobs)), layout="constrained")
    grid = figure.subplots(len(jobs), len(AXES), width_ratios=(3, 4, 2, 3, 3, 2), squeeze=False)
    for row, (title, tables) in zip(grid, jobs.items(), strict=True):
        for axes, (axis, table) in zip(row, tables.items(), strict=True):
            places = list(table)
            for name in next(iter(table.values())):
                known = [(i, t[name]["images_per_s"]) for i, t in enumerate(table.values()) if name in t]
                colour = COLOURS.get(name.split(":")[0], "#9aa5b1")
                axes.plot(*zip(*known, strict=True), marker="o", color=colour, label=name)
            old = earlier.get(title, {}).get(axis, {})
            known = [(i, old[place]["sslmed"]["images_per_s"]) for i, place in enumerate(places) if place in old]
            if known:
                axes.plot(*zip(*known, strict=True), color=COLOURS["sslmed"], linestyle=":", label="sslmed before")
            axes.set_xticks(range(len(places)), places, rotation=90 if len("".join(places)) > 20 else 0, fontsize=8)
            axes.set(xlabel=axis, yscale="log", title=title if axis == "batch" else "")
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
            axes.yaxis.set_minor_formatter(NullFormatter())
            axes.tick_params(labelsize=8)
            axes.spines[["top", "right"]].set_visible(False)
        row[0].set_ylabel("images a second")
        row[1].legend(fontsize=8, frameon=False, loc="upper right")
    figure.suptitle(f"{content['machine']}, threads: {content['threads']}", fontsize=10)
    figure.savefig(path, dpi=90)


def draw_others(content: dict[str, Any], path: Path) -> None:
    """Nanoseconds a pixel of the augmentations that stand alone, one line for each."""
    from matplotlib.figure import Figure

    jobs = {title: tables for title, tables in content["jobs"].items() if title not in JOBS}
    figure = Figure(figsize=(18, 6), layout="constrained")
    for axes, axis in zip(figure.subplots(1, len(ALL_AXES), sharey=True), ALL_AXES, strict=True):
        for number, (title, tables) in enumerate(jobs.items()):
            if axis in tables:
                heights = [rows["sslmed"]["ns_per_pixel"] for rows in tables[axis].values()]
                style = {"marker": "o", "color": f"C{number % 10}", "linestyle": "-" if number < 10 else "--"}
                axes.plot(list(tables[axis]), heights, label=title, **style)
        axes.set(xlabel=axis, yscale="log")
        axes.tick_params(labelsize=8, axis="x", rotation=30)
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].set_ylabel("nanoseconds a pixel")
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside right center", fontsize=8, frameon=False)
    figure.suptitle(f"{content['machine']}, threads: {content['threads']}", fontsize=10)
    figure.savefig(path, dpi=90)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--jobs", nargs="+", choices=[*JOBS, *OTHERS], default=[*JOBS, *OTHERS])
    parser.add_argument("--before", type=Path, help="a result with an earlier version, to draw its times too")
    args = parser.parse_args()
    settle(args.threads)
    warnings.filterwarnings("ignore", "FrequencyBandStop leaves")  # of small images, which are measured all the same
    content = report(args.device, args.threads, args.rounds, "kornia")
    for title in args.jobs:
        print(title)
        axes = AXES if title in JOBS else ALL_AXES
        if title in GRAY_ONLY:
            axes = {axis: points for axis, points in axes.items() if axis != "channels"}
        content["jobs"][title] = sweep(JOBS.get(title) or alone(title), axes, args.device, args.rounds)
    write(f"augment-sweep-{args.device}", content)
    if JOBS.keys() & content["jobs"]:
        draw(content, RESULTS / f"augment-sweep-{args.device}.png", args.before)
    if content["jobs"].keys() - JOBS:
        draw_others(content, RESULTS / f"augment-sweep-{args.device}-all.png")


if __name__ == "__main__":
    main()
