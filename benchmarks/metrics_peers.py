"""The distances between outlines of other libraries, for benchmarks/metrics.py and benchmarks/metrics_sweep.py.

All start from tensors; converting is in their time. SciPy is timed on boundaries, and finding these is in its time.
SimpleITK takes the recipe of its notebook on evaluating segmentations: a distance map of the one mask read at the
contour of the other. torchmetrics takes part only where all masks have no more pixels than one of 224 x 224, which
takes it most of a second.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from measure import Contenders
from sslmed.metrics._distance import boundary_points

PEERS = {
    "monai": "monai",
    "medpy": "medpy",
    "surface_distance": "surface-distance-based-measures",
    "torchmetrics": "torchmetrics",
    "SimpleITK": "simpleitk",
}
FOUND = {module: package for module, package in PEERS.items() if importlib.util.find_spec(module) is not None}
MOST_OF_TORCHMETRICS = 224 * 224
Spacing = Sequence[float] | None
Mask = Any  # a NumPy array


def by_case(measure: Callable[..., float], pred: Tensor, target: Tensor) -> list[float]:
    """Measure one case after the other."""
    return [measure(p, t) for p, t in zip(pred.numpy(), target.numpy(), strict=True)]


def hausdorff(pred: Tensor, target: Tensor, *, percentile: float = 100.0, spacing: Spacing = None) -> Contenders:
    """Hausdorff distances, or their 95th percentile."""
    contenders: Contenders = {}
    whole = percentile == 100
    if "monai" in FOUND:
        from monai.metrics import compute_hausdorff_distance

        settings: dict[str, Any] = {"include_background": True, "percentile": None if whole else percentile}
        contenders["MONAI"] = lambda: compute_hausdorff_distance(
            pred[:, None], target[:, None], spacing=spacing, **settings
        )
    if "medpy" in FOUND:
        from medpy.metric.binary import hd, hd95

        medpys = hd if whole else hd95
        contenders["medpy"] = lambda: by_case(lambda p, t: medpys(p, t, voxelspacing=spacing), pred, target)
    if "surface_distance" in FOUND:
        from surface_distance import compute_robust_hausdorff

        contenders["surface-distance"] = lambda: by_case(
            lambda p, t: compute_robust_hausdorff(_of_surface_distance(p, t, spacing), percentile), pred, target
        )
    if "SimpleITK" in FOUND:
        theirs = _simple_itks_hausdorff if whole else _simple_itks_percentile
        contenders["SimpleITK"] = lambda: by_case(lambda p, t: theirs(p, t, spacing), pred, target)
    if whole:
        contenders["scipy: directed_hausdorff of boundaries"] = lambda: by_case(
            lambda p, t: _scipys(p, t, spacing), pred, target
        )
    if whole and pred.ndim == 3 and pred.numel() <= MOST_OF_TORCHMETRICS and "torchmetrics" in FOUND:
        from torchmetrics.functional.segmentation import hausdorff_distance

        form: dict[str, Any] = {"num_classes": 1, "include_background": True, "input_format": "one-hot"}
        form["spacing"] = None if spacing is None else list(spacing)
        contenders["torchmetrics"] = lambda: hausdorff_distance(pred[:, None].int(), target[:, None].int(), **form)
    return contenders


def average_surface_distance(pred: Tensor, target: Tensor, *, spacing: Spacing = None) -> Contenders:
    """Symmetric average distances between surfaces."""
    contenders: Contenders = {}
    if "monai" in FOUND:
        from monai.metrics import compute_average_surface_distance

        settings: dict[str, Any] = {"include_background": True, "symmetric": True}
        contenders["MONAI"] = lambda: compute_average_surface_distance(
            pred[:, None], target[:, None], spacing=spacing, **settings
        )
    if "medpy" in FOUND:
        from medpy.metric.binary import assd

        contenders["medpy"] = lambda: by_case(lambda p, t: assd(p, t, voxelspacing=spacing), pred, target)
    if "surface_distance" in FOUND:
        from surface_distance import compute_average_surface_distance as both_ways

        contenders["surface-distance"] = lambda: by_case(
            lambda p, t: float(np.mean(both_ways(_of_surface_distance(p, t, spacing)))), pred, target
        )
    if "SimpleITK" in FOUND:
        contenders["SimpleITK"] = lambda: by_case(
            lambda p, t: float(np.concatenate(_of_simple_itk(p, t, spacing)).mean()), pred, target
        )
    return contenders


def surface_dice(pred: Tensor, target: Tensor, *, tolerance: float, spacing: Spacing = None) -> Contenders:
    """Surface Dice."""
    contenders: Contenders = {}
    if "monai" in FOUND:
        from monai.metrics import compute_surface_dice

        settings: dict[str, Any] = {"class_thresholds": [tolerance], "include_background": True}
        contenders["MONAI"] = lambda: compute_surface_dice(pred[:, None], target[:, None], spacing=spacing, **settings)
    if "surface_distance" in FOUND:
        from surface_distance import compute_surface_dice_at_tolerance

        contenders["surface-distance"] = lambda: by_case(
            lambda p, t: compute_surface_dice_at_tolerance(_of_surface_distance(p, t, spacing), tolerance), pred, target
        )
    if "SimpleITK" in FOUND:
        contenders["SimpleITK"] = lambda: by_case(
            lambda p, t: float((np.concatenate(_of_simple_itk(p, t, spacing)) <= tolerance).mean()), pred, target
        )
    return contenders


def _scipys(pred: Mask, target: Mask, spacing: Spacing) -> float:
    from scipy.spatial.distance import directed_hausdorff

    a, b = (boundary_points(one != 0) * (1 if spacing is None else np.asarray(spacing)) for one in (pred, target))
    return max(directed_hausdorff(a, b)[0], directed_hausdorff(b, a)[0]) if len(a) and len(b) else math.nan


def _of_surface_distance(pred: Mask, target: Mask, spacing: Spacing) -> Any:
    from surface_distance import compute_surface_distances

    return compute_surface_distances(target != 0, pred != 0, (1.0,) * pred.ndim if spacing is None else spacing)


def _images(pred: Mask, target: Mask, spacing: Spacing) -> list[Any]:
    import SimpleITK

    SimpleITK.ProcessObject.SetGlobalDefaultNumberOfThreads(torch.get_num_threads())
    images = [SimpleITK.GetImageFromArray((one != 0).astype(np.uint8)) for one in (pred, target)]
    for image in images if spacing is not None else []:
        image.SetSpacing([float(one) for one in reversed(spacing or ())])
    return images


def _simple_itks_hausdorff(pred: Mask, target: Mask, spacing: Spacing) -> float:
    import SimpleITK

    measure = SimpleITK.HausdorffDistanceImageFilter()
    measure.Execute(*_images(pred, target, spacing))
    return float(measure.GetHausdorffDistance())


def _simple_itks_percentile(pred: Mask, target: Mask, spacing: Spacing) -> float:
    return float(max(np.percentile(one, 95) for one in _of_simple_itk(pred, target, spacing)))


def _of_simple_itk(pred: Mask, target: Mask, spacing: Spacing) -> list[Any]:
    """The distances from the contour of each mask to the other."""
    import SimpleITK

    images = _images(pred, target, spacing)
    options = {"squaredDistance": False, "useImageSpacing": True}
    maps, contours = [], []
    for image in images:
        maps.append(abs(SimpleITK.GetArrayFromImage(SimpleITK.SignedMaurerDistanceMap(image, **options))))
        contours.append(SimpleITK.GetArrayFromImage(SimpleITK.LabelContour(image)) != 0)
    return [maps[1][contours[0]], maps[0][contours[1]]]
