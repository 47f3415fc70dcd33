"""Metrics of masks beside MONAI, medpy, surface-distance, torchmetrics and SciPy, interleaved in one run.

    python benchmarks/metrics.py [--rounds 7] [--threads 1] [--jobs dice-224 ...]

Masks are ellipses with a wavy outline, the prediction a moved and deformed reference; `speckle` adds one per cent of
random foreground to the predictions. The worst cases are outlines in many pieces, each pair drawn independently:
`pieces` are smoothed noise above its 85 % quantile, `scattered` is ten per cent of random foreground, and `lines` are
16 pixels apart. All contenders start from tensors; converting is in their time. Figures are
medians with quartiles in milliseconds; `measure.py` says how they come about. Peers that are not installed are left
out; torchmetrics takes part in a job of one mask only, since that takes it fifty times as long as MONAI. Results go
to results/metrics-cpu.json and .png, times over MONAI's.
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from measure import Contenders, bars, interleaved, report, settle, write
from sslmed.metrics import average_surface_distance, dice, hausdorff, surface_dice
from sslmed.metrics._distance import boundary_points

PEERS = {
    "monai": "monai",
    "medpy": "medpy",
    "surface_distance": "surface-distance-based-measures",
    "torchmetrics": "torchmetrics",
}
FOUND = {module: package for module, package in PEERS.items() if importlib.util.find_spec(module) is not None}
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
    contenders: Contenders = {"sslmed": lambda: hausdorff(pred, target, percentile=percentile)}
    whole = percentile == 100
    if "monai" in FOUND:
        from monai.metrics import compute_hausdorff_distance

        settings: dict[str, Any] = {"include_background": True, "percentile": None if whole else percentile}
        contenders["MONAI"] = lambda: compute_hausdorff_distance(pred[:, None], target[:, None], **settings)
    if "medpy" in FOUND:
        from medpy.metric.binary import hd, hd95

        contenders["medpy"] = lambda: by_case(hd if whole else hd95, pred, target)
    if whole:
        contenders["scipy: directed_hausdorff of boundaries"] = lambda: by_case(scipys, pred, target)
    if whole and len(pred) == 1 and pred.ndim == 3 and "torchmetrics" in FOUND:
        from torchmetrics.functional.segmentation import hausdorff_distance

        form: dict[str, Any] = {"num_classes": 1, "include_background": True, "input_format": "one-hot"}
        contenders["torchmetrics"] = lambda: hausdorff_distance(pred[:, None].int(), target[:, None].int(), **form)
    return contenders


def of_hd95(pred: Tensor, target: Tensor) -> Contenders:
    return of_hausdorff(pred, target, 95.0)


def of_average(pred: Tensor, target: Tensor) -> Contenders:
    contenders: Contenders = {"sslmed": lambda: average_surface_distance(pred, target)}
    if "monai" in FOUND:
        from monai.metrics import compute_average_surface_distance

        settings = {"include_background": True, "symmetric": True}
        contenders["MONAI"] = lambda: compute_average_surface_distance(pred[:, None], target[:, None], **settings)
    if "medpy" in FOUND:
        from medpy.metric.binary import assd

        contenders["medpy"] = lambda: by_case(assd, pred, target)
    return contenders


def of_surface_dice(pred: Tensor, target: Tensor) -> Contenders:
    contenders: Contenders = {"sslmed": lambda: surface_dice(pred, target, tolerance_mm=2)}
    if "monai" in FOUND:
        from monai.metrics import compute_surface_dice

        settings: dict[str, Any] = {"class_thresholds": [2.0], "include_background": True}
        contenders["MONAI"] = lambda: compute_surface_dice(pred[:, None], target[:, None], **settings)
    if "surface_distance" in FOUND:
        from surface_distance import compute_surface_dice_at_tolerance, compute_surface_distances

        def theirs(p: np.ndarray, t: np.ndarray) -> float:  # type: ignore[type-arg]
            return compute_surface_dice_at_tolerance(compute_surface_distances(t, p, (1.0,) * p.ndim), 2.0)

        contenders["surface-distance"] = lambda: by_case(theirs, pred, target)
    return contenders


def by_case(measure: Callable[..., float], pred: Tensor, target: Tensor) -> list[float]:
    return [measure(p, t) for p, t in zip(pred.numpy(), target.numpy(), strict=True)]


def scipys(pred: np.ndarray, target: np.ndarray) -> float:  # type: ignore[type-arg]
    from scipy.spatial.distance import directed_hausdorff

    a, b = boundary_points(pred), boundary_points(target)
    return max(directed_hausdorff(a, b)[0], directed_hausdorff(b, a)[0])


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
