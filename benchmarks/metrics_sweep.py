"""Time of the distances between outlines against shape, size, number, spacing and dtype of the masks, beside peers.

    python benchmarks/metrics_sweep.py [--rounds 4] [--threads 1] [--jobs Hausdorff ...] [--axes shape ...]

One setting moves at a time, from 8 masks of 224 x 224. Shapes: `smooth` discs and `wavy` ellipses; `speckle` adds one
or ten per cent of random foreground to the predictions; `pieces` are smoothed noise; `lines` are 16 pixels apart;
`scattered` is ten per cent of random foreground; `all` and `none` have every pixel or none. The floor is finding the
boundary pixels of both masks, which every distance starts from. `metrics_peers.py` says who the peers are; one that
fails at a point, or takes longer than two seconds there, is left out of it. `x peer` is the time over that of the
quickest peer, `x step` the time per pixel over that of the point before on an axis of sizes; marked are points slower
than a peer, and steps above 1.5. The peak is of memory beyond the masks. Results go to
benchmarks/results/metrics-sweep-cpu.json and .png.
"""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

import metrics_peers as peers
from measure import Contenders
from metrics import Pair, lines, masks, pieces, scattered
from sslmed import metrics
from sslmed.metrics._surfaces import surfaces
from sweeps import Sweep


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
START: dict[str, Any] = {"shape": "wavy", "size": (224, 224), "number": 8, "spacing": None, "dtype": "bool"}


def point(axis: str, value: Any) -> dict[str, Any]:
    """The settings of a point."""
    if axis in START:
        return {**START, axis: value}
    shape, number = "pieces" if axis.endswith("pieces") else "wavy", 1 if axis.startswith("volumes") else 8
    return {**START, "shape": shape, "size": value, "number": number}


def build(job: str, axis: str, value: Any, device: str) -> tuple[Contenders, int]:
    """The floor, ours and the installed peers at a point, and its pixels."""
    settings = point(axis, value)
    number, size, spacing = (settings[name] for name in ("number", "size", "spacing"))
    pair = SHAPES[settings["shape"]](number, *size)
    pred, target = (mask.to(getattr(torch, settings["dtype"])) for mask in pair)
    ours: Contenders = {
        "floor: boundaries": lambda: list(surfaces(pred, target, spacing)),
        "sslmed": lambda: JOBS[job](pred, target, spacing_mm=spacing),
    }
    theirs = {
        "Hausdorff": lambda: peers.hausdorff(pred, target, spacing=spacing),
        "HD95": lambda: peers.hausdorff(pred, target, percentile=95, spacing=spacing),
        "average surface distance": lambda: peers.average_surface_distance(pred, target, spacing=spacing),
        "surface Dice": lambda: peers.surface_dice(pred, target, tolerance=2, spacing=spacing),
    }
    return ours | theirs[job](), number * math.prod(size)


JOBS: dict[str, Callable[..., Tensor]] = {
    "Hausdorff": metrics.hausdorff,
    "HD95": functools.partial(metrics.hausdorff, percentile=95),
    "average surface distance": metrics.average_surface_distance,
    "surface Dice": functools.partial(metrics.surface_dice, tolerance_mm=2),
}
SWEEP = Sweep(
    name="metrics-sweep",
    unit="pixel",
    rounds=4,
    jobs=dict.fromkeys(JOBS, AXES),
    sizes=frozenset({"size of ellipses", "size of pieces", "volumes of ellipses", "volumes of pieces", "number"}),
    build=build,
    packages=["scipy", *peers.FOUND.values()],
    devices=["cpu"],
)

if __name__ == "__main__":
    warnings.filterwarnings("ignore")  # of peers, about masks without foreground
    SWEEP.main(__doc__)
