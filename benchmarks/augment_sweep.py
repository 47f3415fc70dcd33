"""Throughput of FrequencyBandStop and CrossPatchJigsaw against batch, size, channels and p.

    python benchmarks/augment_sweep.py [--rounds 10] [--device cpu] [--threads 1]

One setting moves at a time, from 32 gray images of 216 x 216 and p = 1. Sizes include some whose Fourier transform is
slow: 222 and 225 beside 216, 224 and 240. Results go to benchmarks/results/augment-sweep-<device>.json and .png.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import kornia.augmentation as K
import torch

from augment_peers import usual_band_stop
from measure import RESULTS, Contenders, interleaved, report, settle, write
from sslmed.augment import CrossPatchJigsaw, FrequencyBandStop

AXES: dict[str, tuple[float, ...]] = {
    "batch": (1, 8, 32, 128),
    "size": (64, 96, 128, 192, 216, 222, 224, 225, 240, 256, 384),
    "channels": (1, 3),
    "p": (0.0, 0.1, 0.25, 0.5, 0.75, 1.0),
}
START: dict[str, float] = {"batch": 32, "size": 216, "channels": 1, "p": 1.0}
COLOURS = {"floor": "#c2410c", "sslmed": "#1b6ca8"}


def band_stop(device: str, *, batch: int, size: int, channels: int, p: float) -> Contenders:
    x = torch.rand(batch, channels, size, size, device=device)
    ours, usual = FrequencyBandStop(p=p), usual_band_stop(x)
    return {
        "floor: rfft2 + irfft2": lambda: torch.fft.irfft2(torch.fft.rfft2(x), s=x.shape[-2:]),
        "sslmed": lambda: ours(x),
        **({"torch: fft2 + shift": usual} if p == 1 else {}),
    }


def jigsaw(device: str, *, batch: int, size: int, channels: int, p: float) -> Contenders:
    x = torch.rand(batch, channels, size // 6 * 6, size // 6 * 6, device=device)
    ours, theirs = CrossPatchJigsaw(p=p), K.RandomJigsaw((6, 6), p=p)
    return {"floor: clone": x.clone, "sslmed": lambda: ours(x), "kornia: RandomJigsaw": lambda: theirs(x)}


JOBS = {"FrequencyBandStop": band_stop, "CrossPatchJigsaw": jigsaw}


def draw(content: dict[str, Any], path: Path) -> None:
    """Images a second against each axis."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    figure = Figure(figsize=(14, 7), layout="constrained")
    grid = figure.subplots(len(JOBS), len(AXES), width_ratios=(3, 4, 2, 3))
    for row, (title, tables) in zip(grid, content["jobs"].items(), strict=True):
        for axes, (axis, table) in zip(row, tables.items(), strict=True):
            places = [str(point) for point in table]
            for name in next(iter(table.values())):
                known = [(i, t[name]["images_per_s"]) for i, t in enumerate(table.values()) if name in t]
                colour = COLOURS.get(name.split(":")[0], "#9aa5b1")
                axes.plot(*zip(*known, strict=True), marker="o", color=colour, label=name)
            axes.set_xticks(range(len(places)), places, rotation=90 if len(places) > 6 else 0, fontsize=8)
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    settle(args.threads)
    content = report(args.device, args.threads, args.rounds, "kornia")
    for title, build in JOBS.items():
        tables = content["jobs"].setdefault(title, {})
        for axis, points in AXES.items():
            print(f"{title} against {axis}")
            for point in points:
                settings: dict[str, Any] = {**START, axis: point}
                with torch.no_grad():
                    rows = interleaved(build(args.device, **settings), args.rounds, args.device, warm_up=2)
                for row in rows.values():
                    row["images_per_s"] = settings["batch"] * 1e3 / row["median_ms"]
                tables.setdefault(axis, {})[point] = rows
                figures = (f"{name} {row['images_per_s']:8.0f}/s" for name, row in rows.items())
                print(f"  {point:<6g} {'   '.join(figures)}")
    write(f"augment-sweep-{args.device}", content)
    draw(content, RESULTS / f"augment-sweep-{args.device}.png")


if __name__ == "__main__":
    main()
