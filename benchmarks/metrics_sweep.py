"""Time of the distances between outlines against shape, size, number, spacing and dtype of the masks, beside MONAI.

    python benchmarks/metrics_sweep.py [--rounds 5] [--threads 1] [--jobs Hausdorff ...] [--axes shape ...]

One setting moves at a time, from 8 masks of 224 x 224. Shapes: `smooth` discs and `wavy` ellipses; `speckle` adds one
or ten per cent of random foreground to the predictions; `pieces` are smoothed noise; `lines` are 16 pixels apart;
`scattered` is ten per cent of random foreground; `all` and `none` have every pixel or none. SciPy is timed on
boundaries, and finding these is in its time. `x peer` is the time over that of the quickest peer, `x step` the time per
pixel over that of the point before on an axis of sizes. Marked are points slower than a peer, and steps above 1.5.
Results go to benchmarks/results/metrics-sweep-cpu.json and .png.
"""

from __future__ import annotations

import argparse
import functools
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.spatial.distance import directed_hausdorff
from torch import Tensor

from measure import RESULTS, Contenders, interleaved, report, settle, write
from metrics import FOUND, Pair, by_case, lines, masks, pieces, scattered
from sslmed import metrics
from sslmed.metrics._distance import boundary_points
from sweeps import draw


def discs(count: int, *size: int) -> Pair:
    """Draw (count, *size) discs, the one three pixels beside the other."""
    grid = torch.meshgrid(*[torch.linspace(-1, 1, n) for n in size], indexing="ij")
    disc = (torch.stack(grid).square().sum(0) < 0.3).expand(count, *size).clone()
    return disc.roll(3, dims=-1), disc


def constant(value: bool) -> Callable[..., Pair]:
    """Predictions with every pixel or none, beside ellipses."""
    return lambda count, *size: (torch.full((count, *size), value), masks(count, *size)[1])


SHAPES: dict[str, Callable[..., Pair]] = {
    "smooth": discs,
    "wavy": masks,
    "speckle 1 %": functools.partial(masks, speckle=0.01),
    "speckle 10 %": functools.partial(masks, speckle=0.1),
    "pieces": pieces,
    "lines": lines,
    "scattered": scattered,
    "all": constant(True),
    "none": constant(False),
}
AXES: dict[str, tuple[Any, ...]] = {
    "shape": tuple(SHAPES),
    "size of ellipses": ((32, 32), (64, 64), (128, 128), (223, 223), (224, 224), (256, 256), (512, 512), (768, 768)),
    "size of pieces": ((32, 32), (64, 64), (128, 128), (223, 223), (224, 224), (256, 256), (512, 512)),
    "volumes of ellipses": ((32, 32, 16), (64, 64, 32), (96, 96, 48), (128, 128, 64)),
    "volumes of pieces": ((32, 32, 16), (64, 64, 32), (96, 96, 48), (128, 128, 64)),
    "number": (1, 2, 8, 64),
    "spacing": ((1.0, 1.0), (0.5, 0.5), (0.3, 0.5), (1.0, 5.0)),
    "dtype": ("bool", "uint8", "int64"),
}
SIZES = {"size of ellipses", "size of pieces", "volumes of ellipses", "volumes of pieces", "number"}
START: dict[str, Any] = {"shape": "wavy", "size": (224, 224), "number": 8, "spacing": None, "dtype": "bool"}


def point(axis: str, value: Any) -> dict[str, Any]:
    """The settings of a point."""
    if axis in START:
        return {**START, axis: value}
    shape, number = "pieces" if axis.endswith("pieces") else "wavy", 1 if axis.startswith("volumes") else 8
    return {**START, "shape": shape, "size": value, "number": number}


def contenders(job: str, pred: Tensor, target: Tensor, spacing: Sequence[float] | None) -> Contenders:
    """Ours and those of the installed peers."""
    ours = {
        "Hausdorff": lambda: metrics.hausdorff(pred, target, spacing_mm=spacing),
        "HD95": lambda: metrics.hausdorff(pred, target, percentile=95, spacing_mm=spacing),
        "average surface distance": lambda: metrics.average_surface_distance(pred, target, spacing_mm=spacing),
        "surface Dice": lambda: metrics.surface_dice(pred, target, tolerance_mm=2, spacing_mm=spacing),
    }
    found: Contenders = {"sslmed": ours[job]}
    if job == "Hausdorff":
        scale = np.ones(pred.ndim - 1) if spacing is None else np.asarray(spacing)

        def scipys(p: Any, t: Any) -> float:
            a, b = (boundary_points(one != 0) * scale for one in (p, t))
            return max(directed_hausdorff(a, b)[0], directed_hausdorff(b, a)[0]) if len(a) and len(b) else math.nan

        found["SciPy"] = lambda: by_case(scipys, pred, target)
    if "monai" in FOUND:
        import monai.metrics as theirs

        shared: dict[str, Any] = {"include_background": True, "spacing": spacing}
        p, t = pred[:, None], target[:, None]
        found["MONAI"] = {
            "Hausdorff": lambda: theirs.compute_hausdorff_distance(p, t, **shared),
            "HD95": lambda: theirs.compute_hausdorff_distance(p, t, percentile=95, **shared),
            "average surface distance": lambda: theirs.compute_average_surface_distance(p, t, symmetric=True, **shared),
            "surface Dice": lambda: theirs.compute_surface_dice(p, t, class_thresholds=[2.0], **shared),
        }[job]
    return found


JOBS = ("Hausdorff", "HD95", "average surface distance", "surface Dice")


def main() -> None:
    """Measure, print, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--jobs", nargs="+", choices=JOBS, default=JOBS)
    parser.add_argument("--axes", nargs="+", choices=list(AXES), default=list(AXES))
    parser.add_argument("--before", type=Path, help="a result with an earlier version, to draw its times too")
    args = parser.parse_args()
    settle(args.threads)
    content = report("cpu", args.threads, args.rounds, "scipy", *FOUND.values())
    for job in args.jobs:
        for axis in args.axes:
            print(f"{job} against {axis}", flush=True)
            before = math.inf
            for value in AXES[axis]:
                settings = point(axis, value)
                pair = SHAPES[settings["shape"]](settings["number"], *settings["size"])
                pred, target = (mask.to(getattr(torch, settings["dtype"])) for mask in pair)
                ways = interleaved(
                    contenders(job, pred, target, settings["spacing"]), args.rounds, "cpu", calls=1, warm_up=1
                )
                pixels = settings["number"] * math.prod(settings["size"])
                name = " x ".join(map(str, value)) if isinstance(value, tuple) else str(value)
                content["jobs"].setdefault(job, {}).setdefault(axis, {})[name] = {"pairs": pixels, "ways": ways}
                ours = ways["sslmed"]["median_ms"]
                peers = [(row["median_ms"], who) for who, row in ways.items() if who != "sslmed"]
                step = ours / pixels / before if axis in SIZES else 0.0
                before = ours / pixels
                best, who = min(peers, default=(math.inf, "no peer"))
                mark = ("  SLOWER THAN A PEER" if ours > best else "") + ("  STEP" if step > 1.5 else "")
                print(
                    f"  {name:16} {ours:9.3f} ms   x peer {ours / best:6.3f} ({who})   x step {step:5.2f}{mark}",
                    flush=True,
                )
    write("metrics-sweep-cpu", content)
    draw(content, RESULTS / "metrics-sweep-cpu.png", unit="ns per pixel", before=args.before)


if __name__ == "__main__":
    main()
