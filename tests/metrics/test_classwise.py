"""Metrics class by class: each column is the metric of that class alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from sslmed import metrics
from sslmed.metrics import overlap, per_class, surface

SCORES: dict[str, dict[str, Any]] = {
    "average_surface_distance": {"spacing_mm": (0.5, 2.0)},
    "balanced_pixel_accuracy": {},
    "dice": {"empty": "nan"},
    "hausdorff": {"percentile": 95, "empty": "inf"},
    "jaccard": {},
    "pixel_accuracy": {},
    "pixel_counts": {},
    "precision": {},
    "recall": {},
    "surface_dice": {"tolerance_mm": 1.0},
}


def label_maps(*shape: int, seed: int = 0) -> torch.Tensor:
    """Labels 0 to 3; the first case lacks 3."""
    maps = torch.randint(4, shape, generator=torch.Generator().manual_seed(seed))
    maps[0] %= 3
    return maps


def one_hot(maps: torch.Tensor) -> torch.Tensor:
    return torch.stack([maps == k for k in range(4)], dim=1)


def test_every_metric_of_masks_is_tried() -> None:
    rooms = (overlap.__name__, surface.__name__)
    of_masks = {x for x in metrics.__all__ if getattr(getattr(metrics, x), "__module__", "") in rooms}
    assert set(SCORES) == of_masks


@pytest.mark.parametrize("name", SCORES)
def test_each_column_is_the_metric_of_one_class(name: str, device: torch.device) -> None:
    metric, settings = getattr(metrics, name), SCORES[name]
    pred, target = label_maps(3, 6, 7).to(device), label_maps(3, 6, 7, seed=1).to(device)
    want = torch.stack([metric(pred == k, target == k, **settings) for k in range(4)], dim=1)
    assert want.shape[:2] == (3, 4)
    for dtype in (torch.int64, torch.uint8, torch.uint16):
        got = per_class(metric, pred.to(dtype), target.to(dtype), classes=4, **settings)
        torch.testing.assert_close(got, want, rtol=0, atol=0, equal_nan=True)
    for dtype in (torch.bool, torch.uint8):
        got = per_class(metric, one_hot(pred).to(dtype), one_hot(target).to(dtype), **settings)
        torch.testing.assert_close(got, want, rtol=0, atol=0, equal_nan=True)


def test_volumes_and_classes_that_overlap() -> None:
    pred, target = label_maps(2, 3, 4, 5), label_maps(2, 3, 4, 5, seed=1)
    want = torch.stack([metrics.dice(pred == k, target == k) for k in range(4)], dim=1)
    assert torch.equal(per_class(metrics.dice, pred, target, classes=4), want)
    assert torch.equal(per_class(metrics.dice, one_hot(pred), one_hot(target)), want)
    p, t = (torch.stack([x > 0, x > 1, x > 2], dim=1) for x in (pred, target))  # each contains the next
    want = torch.stack([metrics.dice(pred > k, target > k) for k in range(3)], dim=1)
    assert torch.equal(per_class(metrics.dice, p, t), want)


def test_a_class_in_neither_mask_follows_the_policy_and_no_case_has_no_row() -> None:
    pred, target = label_maps(2, 6, 7), label_maps(2, 6, 7, seed=1)
    assert per_class(metrics.dice, pred, target, classes=4)[0, 3] == 1
    assert per_class(metrics.dice, pred, target, classes=4, empty="nan")[0, 3].isnan()
    assert per_class(metrics.dice, pred[:0], target[:0], classes=4).shape == (0, 4)
    assert per_class(metrics.dice, one_hot(pred[:0]), one_hot(target[:0])).shape == (0, 4)


MAPS = label_maps(2, 6, 7)
BAD: dict[str, tuple[tuple[torch.Tensor, torch.Tensor], dict[str, Any], str]] = {
    "label maps without classes": (
        (MAPS, MAPS),
        {},
        r"pred must have shape \(B, C, H, W\) or \(B, C, D, H, W\), or be label maps with classes=",
    ),
    "channels that differ": (
        (one_hot(MAPS), one_hot(MAPS)[:, 1:]),
        {},
        r"pred and target must have the same shape, got \(2, 4, 6, 7\) and \(2, 3, 6, 7\)",
    ),
    "cases that differ": ((MAPS, MAPS[:1]), {"classes": 4}, "pred and target must have the same shape"),
    "no channel": ((one_hot(MAPS)[:, :0],) * 2, {}, "pred must have a channel for each class"),
    "probabilities": ((one_hot(MAPS).float(),) * 2, {}, "pred must be a bool mask, got torch.float32; thres"),
    "float labels": ((MAPS, MAPS.float()), {"classes": 4}, "target must be label maps of integers with cl"),
    "bool labels": ((MAPS > 0, MAPS), {"classes": 4}, "pred must be label maps of integers with classes=4"),
    "a label too many": ((MAPS, MAPS), {"classes": 3}, "pred must hold classes 0..2, got values from 0 to 3"),
    "to be ignored": ((MAPS, MAPS - 1), {"classes": 4}, "target must hold classes 0..3, got values from -1 "),
    "masks with classes": (
        (one_hot(MAPS)[:, None],) * 2,
        {"classes": 4},
        r"pred must have shape \(B, H, W\)",
    ),
    "one class": ((MAPS, MAPS), {"classes": 1}, "classes must be at least 2, got 1"),
    "a setting": ((MAPS, MAPS), {"classes": 4, "empty": "skip"}, "empty must be one of"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_input_is_named(kind: str) -> None:
    masks, settings, message = BAD[kind]
    with pytest.raises((TypeError, ValueError), match=message):
        per_class(metrics.dice, *masks, **settings)


def test_a_metric_is_a_function() -> None:
    with pytest.raises(TypeError, match=r"metric must be a function of masks, as metrics\.dice, got 'dice'"):
        per_class("dice", MAPS, MAPS, classes=4)


@pytest.mark.peers
def test_equals_monai() -> None:
    from monai.metrics import compute_dice

    pred, target = one_hot(label_maps(3, 6, 7)), one_hot(label_maps(3, 6, 7, seed=1))
    theirs = compute_dice(pred.float(), target.float(), include_background=True, ignore_empty=False)
    torch.testing.assert_close(per_class(metrics.dice, pred, target), theirs)
