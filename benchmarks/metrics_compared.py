"""Small masks on which libraries disagree, and what each makes of them: python benchmarks/metrics_compared.py.

Prints the table of docs/metrics_compared.md. Needs MONAI, torchmetrics, medpy and surface-distance-based-measures; a
library that is not installed is left out. An exception is a result too.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sslmed import metrics

Row = dict[str, Callable[[], Any]]


def dots(*points: tuple[int, int], size: tuple[int, int] = (16, 16)) -> Tensor:
    mask = torch.zeros(1, *size, dtype=torch.bool)
    for row, column in points:
        mask[0, row, column] = True
    return mask


def square(top: int, left: int, side: int) -> Tensor:
    mask = torch.zeros(1, 16, 16, dtype=torch.bool)
    mask[0, top : top + side, left : left + side] = True
    return mask


NONE = dots()
CASES: dict[str, tuple[str, Tensor, Tensor]] = {
    "HD, a square moved by (3, 4)": ("hd", square(2, 2, 6), square(5, 6, 6)),
    "HD, a frame at the border and its filling": ("hd", square(0, 0, 16), square(0, 0, 16) ^ square(4, 4, 8)),
    "HD95, a square and one pixel far off": ("hd95", square(2, 2, 5) | dots((14, 14)), square(2, 2, 5)),
    "ASD, one pixel and three": ("asd", dots((5, 0)), dots((5, 0), (5, 3), (5, 6))),
    "surface Dice at 1, a square moved by (0, 2)": ("sd", square(2, 2, 6), square(2, 4, 6)),
    "HD, both empty": ("hd", NONE, NONE),
    "HD, prediction empty": ("hd", NONE, square(2, 2, 6)),
    "HD95, reference empty": ("hd95", square(2, 2, 6), NONE),
    "Dice, both empty": ("dice", NONE, NONE),
    "Dice, reference empty": ("dice", square(2, 2, 6), NONE),
}


def ours(kind: str, pred: Tensor, target: Tensor) -> float:
    if kind == "dice":
        return metrics.dice(pred, target).item()
    if kind == "asd":
        return metrics.average_surface_distance(pred, target).item()
    if kind == "sd":
        return metrics.surface_dice(pred, target, tolerance_mm=1).item()
    return metrics.hausdorff(pred, target, percentile=95 if kind == "hd95" else 100).item()


def monais(kind: str, pred: Tensor, target: Tensor) -> float:
    from monai import metrics as m

    pair: Any = (pred[:, None], target[:, None])
    if kind == "dice":
        return m.compute_dice(*pair).item()
    if kind == "asd":
        return m.compute_average_surface_distance(*pair, include_background=True, symmetric=True).item()
    if kind == "sd":
        return m.compute_surface_dice(*pair, class_thresholds=[1.0], include_background=True).item()
    percentile = 95 if kind == "hd95" else None
    return m.compute_hausdorff_distance(*pair, include_background=True, percentile=percentile).item()


def torchmetrics_(kind: str, pred: Tensor, target: Tensor) -> float | str:
    from torchmetrics.functional import segmentation as m

    pair: Any = (pred[:, None].int(), target[:, None].int())
    if kind == "dice":
        return m.dice_score(*pair, num_classes=1, include_background=True, input_format="one-hot").item()
    if kind == "hd":
        return m.hausdorff_distance(*pair, num_classes=1, include_background=True, input_format="one-hot").item()
    return "has none"


def medpys(kind: str, pred: Tensor, target: Tensor) -> float | str:
    from medpy.metric import binary as m

    measure = {"dice": m.dc, "asd": m.assd, "hd": m.hd, "hd95": m.hd95}.get(kind)
    return "has none" if measure is None else float(measure(pred[0].numpy(), target[0].numpy()))


def surface_distances(kind: str, pred: Tensor, target: Tensor) -> float | str:
    import surface_distance as m

    if kind == "dice":
        return float(m.compute_dice_coefficient(target[0].numpy(), pred[0].numpy()))
    found = m.compute_surface_distances(target[0].numpy(), pred[0].numpy(), (1.0, 1.0))
    if kind == "asd":
        there, back = m.compute_average_surface_distance(found)
        return f"{there:.4g} and {back:.4g}"
    if kind == "sd":
        return float(m.compute_surface_dice_at_tolerance(found, 1.0))
    return float(m.compute_robust_hausdorff(found, 95 if kind == "hd95" else 100))


LIBRARIES = {
    "sslmed": ("sslmed", "sslmed", ours),
    "MONAI": ("monai", "monai", monais),
    "torchmetrics": ("torchmetrics", "torchmetrics", torchmetrics_),
    "medpy": ("medpy", "medpy", medpys),
    "surface-distance": ("surface_distance", "surface-distance-based-measures", surface_distances),
}


def cell(measure: Callable[..., float | str], kind: str, pred: Tensor, target: Tensor) -> str:
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            value = measure(kind, pred, target)
    except Exception as error:  # what a user would see
        return f"{type(error).__name__}"
    return value if isinstance(value, str) else f"{value:.4g}"


def main() -> None:
    """Print the table."""
    found = {name: entry for name, entry in LIBRARIES.items() if importlib.util.find_spec(entry[0]) is not None}
    print(", ".join(f"{name} {importlib.metadata.version(entry[1])}" for name, entry in found.items()), "\n")
    print(f"| case | {' | '.join(found)} |")
    print("|---" * (len(found) + 1) + "|")
    for title, (kind, pred, target) in CASES.items():
        print(f"| {title} | {' | '.join(cell(entry[2], kind, pred, target) for entry in found.values())} |")


if __name__ == "__main__":
    main()
