"""One meaning of a mask's shape for every metric of masks: images, volumes, channels, and one-hot classes."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from sslmed import metrics

# Every public metric that takes two masks, also those to come: it begins with pred and target, and has no classes.
MASKS: dict[str, Callable[..., Tensor]] = {
    name: function
    for name in metrics.__all__
    if inspect.isfunction(function := getattr(metrics, name))
    and list(inspect.signature(function).parameters)[:2] == ["pred", "target"]
    and "classes" not in inspect.signature(function).parameters
}
SETTINGS: dict[str, dict[str, Any]] = {"surface_dice": {"tolerance_mm": 1.0}}


@pytest.fixture(params=sorted(MASKS))
def measure(request: pytest.FixtureRequest) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda pred, target: MASKS[request.param](pred, target, **SETTINGS.get(request.param, {}))


def discs(*size: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Two masks (3, *size) of balls that overlap in part, and leave the corners free."""
    grid = torch.stack(torch.meshgrid(*(torch.arange(n) - (n - 1) / 2 for n in size), indexing="ij"))
    generator = torch.Generator().manual_seed(seed)
    centres = 2 * torch.rand(2, 3, len(size), generator=generator) - 1
    far = (grid - centres.view(2, 3, len(size), *[1] * len(size))).norm(dim=2)
    pred, target = far < min(size) / 3
    return pred, target


def one_hot(mask: Tensor, classes: int = 2) -> Tensor:
    return torch.nn.functional.one_hot(mask.long(), classes).movedim(-1, 1).bool()


def test_all_metrics_of_masks_are_swept() -> None:
    assert {"dice", "hausdorff", "surface_dice", "pixel_counts", "balanced_pixel_accuracy"} <= MASKS.keys()


@pytest.mark.parametrize("size", [(12, 14), (7, 12, 14)], ids=["image", "volume"])
def test_a_channel_of_one_changes_nothing(measure: Callable[[Tensor, Tensor], Tensor], size: tuple[int, ...]) -> None:
    pred, target = discs(*size)
    assert torch.equal(measure(pred[:, None], target[:, None]), measure(pred, target))


def test_a_volume_of_one_slice_is_its_image(measure: Callable[[Tensor, Tensor], Tensor]) -> None:
    everything, target = torch.ones(3, 1, 12, 14, dtype=torch.bool), discs(12, 14)[1][:, None]
    for a, b in ((everything, everything), (everything, target), (target, ~target)):
        assert torch.equal(measure(a, b), measure(a[:, 0], b[:, 0]))


@pytest.mark.parametrize("classes", [2, 3, 5])
@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8])
def test_one_hot_masks_are_refused(
    measure: Callable[[Tensor, Tensor], Tensor], classes: int, dtype: torch.dtype
) -> None:
    pred, target = (one_hot(mask, classes).to(dtype) for mask in discs(12, 14))
    other = torch.zeros_like(pred)
    for pair, name in (((pred, target), "pred"), ((pred, other), "pred"), ((other, target), "target")):
        message = rf"{name} of shape \(3, {classes}, 12, 14\) looks one-hot.*pred\[:, 1\]"
        with pytest.raises(ValueError, match=message):
            measure(*pair)
    with pytest.raises(ValueError, match=r"got \(3, 2, 7, 12, 14\); score each class alone"):
        measure(*(one_hot(mask) for mask in discs(7, 12, 14)))


def test_the_class_is_scored_right_where_one_hot_masks_were_taken_for_a_volume() -> None:
    pred, target = torch.zeros(2, 1, 32, 32, dtype=torch.bool)
    pred[0, 4:10, 4:10] = target[0, 4:10, 10:16] = target[0, 6:10, 6:10] = True
    classes = one_hot(pred), one_hot(target)
    assert metrics.dice(classes[0][:, 1], classes[1][:, 1]) == metrics.dice(pred, target)
    assert metrics.hausdorff(classes[0][:, 1], classes[1][:, 1]) == metrics.hausdorff(pred, target) == 6


VOLUMES = {
    "balls": lambda: discs(5, 12, 14)[0],
    "empty": lambda: torch.zeros(3, 5, 12, 14, dtype=torch.bool),
    "full": lambda: torch.ones(3, 5, 12, 14, dtype=torch.bool),
    "two slices": lambda: discs(2, 12, 14)[0],
    "two slices with one lesion each": lambda: torch.stack(discs(12, 14), dim=1),
    "a lesion in the corner": lambda: torch.nn.functional.pad(torch.ones(3, 1, 4, 4), (0, 8, 0, 8, 1, 3)).bool(),
    "one case of three divided": lambda: torch.cat([one_hot(discs(12, 14)[0])[:1], discs(2, 12, 14)[0][1:]]),
    "no case": lambda: torch.zeros(0, 5, 12, 14, dtype=torch.bool),
}


@pytest.mark.parametrize("kind", VOLUMES)
def test_volumes_are_no_classes(measure: Callable[[Tensor, Tensor], Tensor], kind: str) -> None:
    volume = VOLUMES[kind]()
    for target in (volume, torch.zeros_like(volume)):
        assert len(measure(volume, target)) == len(volume)
        assert torch.equal(measure(volume[:, None], target[:, None]), measure(volume, target))


def test_slices_that_divide_the_pixels_are_a_volume_if_said_so(
    measure: Callable[[Tensor, Tensor], Tensor],
) -> None:
    volume = one_hot(discs(12, 14)[0])
    with pytest.raises(ValueError, match=r"If it is a volume.*add a channel: dice\(pred\[:, None\]"):
        measure(volume, volume)
    assert len(measure(volume[:, None], volume[:, None])) == len(volume)
    assert metrics.dice(volume[:, None], volume[:, None]).tolist() == [1, 1, 1]
    distance = metrics.hausdorff(volume[:, None], volume[:, None].flip(2), spacing_mm=(5, 1, 1))
    assert distance.tolist() == [5, 5, 5]


def test_a_single_pixel_answers_for_a_volume_whose_corner_is_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    summed: list[int] = []
    whole = torch.Tensor.sum
    monkeypatch.setattr(torch.Tensor, "sum", lambda x, *args: (summed.append(x.numel()), whole(x, *args))[1])
    metrics.dice(*discs(9, 30, 40))
    assert summed == [3 * 9, 3 * 9]
