"""Metrics of masks beside MONAI, medpy, surface-distance, SimpleITK, torchmetrics and SciPy, interleaved in one run.

    python benchmarks/metrics.py [--rounds 7] [--threads 1] [--jobs dice-224 ...]

Masks are ellipses with a wavy outline, the prediction a moved and deformed reference; `speckle` adds one per cent of
random foreground to the predictions. The worst cases are outlines in many pieces, each pair drawn independently:
`pieces` are smoothed noise above its 85 % quantile, `scattered` is ten per cent of random foreground, and `lines` are
16 pixels apart. All contenders start from tensors; converting is in their time. Figures are
medians with quartiles in milliseconds; `measure.py` says how they come about, and `metrics_peers.py` whose code stands
beside ours. Peers that are not installed are left out. Results go to results/metrics-cpu.json and .png, times over
MONAI's.
"""

from __future__ import annotations

import argparse
import functools
import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

import metrics_peers as peers
from measure import Contenders, bars, interleaved, report, settle, write
from metrics_peers import FOUND, by_case
from sslmed.metrics import average_surface_distance, dice, hausdorff, surface_dice

Pair = tuple[Tensor, Tensor]
Job = Callable[[Tensor, Tensor], Contenders]


def masks(count: int, *size: int, speckle: float = 0.0) -> Pair:
    """Draw (count, *size) predictions and references."""
    generator = torch.Generator().manual_seed(0)
    grid = torch.stack(torch.meshgrid(*[torch.linspace(-1, 1, n) for n in size], indexing="ij"))
    both = []
    centre = 0.4 * torch.rand(count, len(size), generator=generator) - 0.2
    radius = 0.3 + 0.3 * torch.rand(count, len(size), generator=generator)
    for wave in (0.05, 0.12):
        shape = (count, len(size), *[1] * len(size))
        moved = centre + 0.05 * torch.randn(count, len(size), generator=generator)
        local = (grid - moved.view(shape)) / radius.view(shape)
        angle = torch.atan2(local[:, 0], local[:, 1])
        both.append(local.square().sum(1).sqrt() < 1 + wave * torch.sin(7 * angle))
    target, pred = both
    return pred | (torch.rand(pred.shape, generator=generator) < speckle), target


def pieces(count: int, *size: int) -> Pair:
    """Draw (count, *size) masks of smoothed noise above its 85 % quantile."""
    from scipy.ndimage import gaussian_filter

    draw = np.random.default_rng(0)
    smooth = [[gaussian_filter(draw.standard_normal(size), 4) for _ in range(count)] for _ in range(2)]
    pred, target = (torch.from_numpy(np.stack([one > np.quantile(one, 0.85) for one in side])) for side in smooth)
    return pred, target


def scattered(count: int, *size: int) -> Pair:
    """Draw (count, *size) masks of ten per cent of random foreground."""
    pred, target = torch.rand(2, count, *size, generator=torch.Generator().manual_seed(0)) < 0.1
    return pred, target


def lines(count: int, *size: int) -> Pair:
    """Draw (count, *size) masks of thin lines, the one's between the other's."""
    pred, target = torch.zeros(2, count, *size, dtype=torch.bool)
    pred[:, ::16] = target[:, 7::16] = True
    return pred, target


def of_dice(pred: Tensor, target: Tensor) -> Contenders:
    contenders: Contenders = {"sslmed": lambda: dice(pred, target)}
    if "monai" in FOUND:
        from monai.metrics import compute_dice

        contenders["MONAI"] = lambda: compute_dice(pred[:, None], target[:, None])
    if "medpy" in FOUND:
        from medpy.metric.binary import dc

        contenders["medpy"] = lambda: by_case(dc, pred, target)
    contenders["torch: product and sums of floats"] = lambda: (
        2 * (pred.float() * target).flatten(1).sum(1) / (pred.float() + target).flatten(1).sum(1)
    )
    return contenders


def of_hausdorff(pred: Tensor, target: Tensor, percentile: float = 100.0) -> Contenders:
    ours: Contenders = {"sslmed": lambda: hausdorff(pred, target, percentile=percentile)}
    return ours | peers.hausdorff(pred, target, percentile=percentile)


def of_hd95(pred: Tensor, target: Tensor) -> Contenders:
    return of_hausdorff(pred, target, 95.0)


def of_average(pred: Tensor, target: Tensor) -> Contenders:
    ours: Contenders = {"sslmed": lambda: average_surface_distance(pred, target)}
    return ours | peers.average_surface_distance(pred, target)


def of_surface_dice(pred: Tensor, target: Tensor) -> Contenders:
    ours: Contenders = {"sslmed": lambda: surface_dice(pred, target, tolerance_mm=2)}
    return ours | peers.surface_dice(pred, target, tolerance=2)


JOBS: dict[str, tuple[str, Job, Callable[..., Pair], tuple[int, ...]]] = {
    "dice-224": ("Dice, 64 of 224 x 224", of_dice, masks, (64, 224, 224)),
    "hausdorff-one": ("Hausdorff, one mask of 224 x 224", of_hausdorff, masks, (1, 224, 224)),
    "hausdorff-224": ("Hausdorff, 64 of 224 x 224", of_hausdorff, masks, (64, 224, 224)),
    "hausdorff-512": ("Hausdorff, 64 of 512 x 512", of_hausdorff, masks, (64, 512, 512)),
    "hausdorff-volume": ("Hausdorff, a volume of 128 x 128 x 64", of_hausdorff, masks, (1, 128, 128, 64)),
    "hd95-224": ("HD95, 64 of 224 x 224", of_hd95, masks, (64, 224, 224)),
    "hd95-512": ("HD95, 64 of 512 x 512", of_hd95, masks, (64, 512, 512)),
    "average-224": ("average surface distance, 64 of 224 x 224", of_average, masks, (64, 224, 224)),
    "surface-dice-224": ("surface Dice at 2, 64 of 224 x 224", of_surface_dice, masks, (64, 224, 224)),
    "surface-dice-512": ("surface Dice at 2, 64 of 512 x 512", of_surface_dice, masks, (64, 512, 512)),
    "speckle": (
        "HD95, 8 of 512 x 512 with 1 % speckle",
        of_hd95,
        functools.partial(masks, speckle=0.01),
        (8, 512, 512),
    ),
    "hausdorff-pieces-224": ("Hausdorff of pieces, 64 of 224 x 224", of_hausdorff, pieces, (64, 224, 224)),
    "hausdorff-pieces-512": ("Hausdorff of pieces, 64 of 512 x 512", of_hausdorff, pieces, (64, 512, 512)),
    "hausdorff-pieces-volume": ("Hausdorff of pieces, 128 x 128 x 64", of_hausdorff, pieces, (1, 128, 128, 64)),
    "hd95-pieces-224": ("HD95 of pieces, 64 of 224 x 224", of_hd95, pieces, (64, 224, 224)),
    "hd95-pieces-512": ("HD95 of pieces, 64 of 512 x 512", of_hd95, pieces, (64, 512, 512)),
    "surface-dice-pieces-512": (
        "surface Dice at 2 of pieces, 64 of 512 x 512",
        of_surface_dice,
        pieces,
        (64, 512, 512),
    ),
    "hausdorff-scattered": ("Hausdorff of 10 % scattered, 4 of 512 x 512", of_hausdorff, scattered, (4, 512, 512)),
    "hausdorff-lines": ("Hausdorff of lines, 4 of 512 x 512", of_hausdorff, lines, (4, 512, 512)),
}


def agree(contenders: Contenders) -> dict[str, float]:
    """Largest difference of each contender's values from ours, in the metric's unit."""
    ours = torch.as_tensor(contenders["sslmed"]()).double().flatten()
    others = {n: torch.as_tensor(call()).double().flatten() for n, call in contenders.items() if n != "sslmed"}
    return {name: float((values - ours).abs().max()) for name, values in others.items()}


def main() -> None:
    """Measure, print, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--jobs", nargs="+", choices=list(JOBS), default=list(JOBS))
    args = parser.parse_args()
    settle(args.threads)
    content = report("cpu", args.threads, args.rounds, "scipy", *FOUND.values())
    for job in args.jobs:
        title, build, draw, size = JOBS[job]
        contenders = build(*draw(*size))
        rows = interleaved(contenders, args.rounds, "cpu", warm_up=1)
        content["jobs"][title] = rows
        print(title)
        differences = {"sslmed": 0.0, **agree(contenders)}
        base = rows.get("MONAI", {"median_ms": math.nan})["median_ms"]
        for name, row in rows.items():
            row["largest_difference"] = differences[name]
            print(
                f"  {name:40s} {row['median_ms']:9.2f} ms   {row['q1_ms']:9.2f} to {row['q3_ms']:9.2f}"
                f"   {row['median_ms'] / base:6.3f}x MONAI   differs by {differences[name]:.2g}"
            )
    path = write("metrics-cpu", content)
    if "monai" in FOUND:
        bars(content, path.with_suffix(".png"), reference="MONAI")


if __name__ == "__main__":
    main()
