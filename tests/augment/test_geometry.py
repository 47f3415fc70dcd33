"""Random crops and flips of views: what they draw, and which pixels they show."""

from __future__ import annotations

import math

import pytest
import torch
from kornia.geometry.transform import crop_and_resize

from sslmed.augment._geometry import Crop, Flip


def drawn(size: tuple[int, int], *, count: int = 4000, **settings: tuple[float, float]) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    params = Crop(8, **{"scale": (0.2, 1.0), **settings}).forward_parameters((count, 1, *size))
    return {name: params[name].double() for name in Crop.names}


@pytest.mark.parametrize("size", [(100, 100), (80, 120), (37, 30)])
def test_crops_lie_in_the_image_with_area_and_ratio_as_set(size: tuple[int, int]) -> None:
    p = drawn(size)
    for first, count, side in (("left", "width", size[1]), ("top", "height", size[0])):
        assert p[first].min() >= 0
        assert p[count].min() >= 1
        assert (p[first] + p[count]).max() <= side
    area, ratio = p["width"] * p["height"] / (size[0] * size[1]), p["width"] / p["height"]
    assert area.min() > 0.2 - 0.02
    assert 3 / 4 - 0.06 < ratio.min() < ratio.max() < 4 / 3 + 0.1


def test_areas_ratios_and_places_are_uniform_where_every_draw_fits() -> None:
    p = drawn((1000, 1000), scale=(0.1, 0.5))
    area = p["width"] * p["height"] / 1e6
    assert abs(float(area.mean()) - 0.3) < 0.01
    assert abs(float((p["width"] / p["height"]).log().mean())) < 0.01
    for first, count in (("left", "width"), ("top", "height")):
        place = (p[first] + 0.5) / (1001 - p[count])
        assert abs(float(place.mean()) - 0.5) < 0.02
        assert abs(float(place.std()) - math.sqrt(1 / 12)) < 0.01


@pytest.mark.parametrize(("size", "whole"), [((20, 100), (20, 27)), ((100, 20), (27, 20)), ((50, 60), (50, 60))])
def test_where_no_draw_fits_the_largest_part_counts(size: tuple[int, int], whole: tuple[int, int]) -> None:
    p = drawn(size, scale=(1.0, 1.0) if size != (50, 60) else (0.9999, 1.0), count=400)
    largest = (p["height"] == whole[0]) & (p["width"] == whole[1])
    assert largest.double().mean() > (0.9 if size != (50, 60) else 0.05)


def test_a_crop_interpolates_as_kornia_does() -> None:
    torch.manual_seed(0)
    x, crop = torch.rand(6, 2, 30, 44, dtype=torch.float64), Crop(16, scale=(0.2, 0.9))
    params = crop.forward_parameters(x.shape)
    left, top, width, height = (params[name].double() for name in Crop.names)
    right, bottom = left + width - 1, top + height - 1
    boxes = torch.stack(
        [torch.stack(corner, 1) for corner in ((left, top), (right, top), (right, bottom), (left, bottom))], 1
    )
    torch.testing.assert_close(crop(x, params=params), crop_and_resize(x, boxes, (16, 16), align_corners=True))


def test_the_whole_image_at_its_own_size_is_itself() -> None:
    x = torch.rand(2, 1, 9, 9)
    whole = {"left": 0, "top": 0, "width": 9, "height": 9}
    params = {name: torch.full((2,), value) for name, value in whole.items()}
    torch.testing.assert_close(Crop(9, scale=(0.5, 1.0))(x, params=params), x)


@pytest.mark.parametrize(("dim", "point", "place"), [(3, (1.0, 2.0), (5.0, 2.0)), (2, (1.0, 1.0), (1.0, 3.0))])
def test_a_flip_is_exact_and_has_its_matrix(dim: int, point: tuple[float, float], place: tuple[float, float]) -> None:
    x, flip = torch.rand(2, 1, 5, 7), Flip(dim, p=1.0)
    assert torch.equal(flip(x), x.flip(dim))
    moved = flip.transform_matrix @ torch.tensor([*point, 1.0])
    assert torch.equal(moved[0], torch.tensor([*place, 1.0]))


def test_masks_are_refused() -> None:
    for member in (Crop(4, scale=(0.5, 1.0)), Flip(3, p=1.0)):
        with pytest.raises(NotImplementedError, match=f"{type(member).__name__} takes images only"):
            member.transform_masks(torch.ones(1, 1, 8, 8), {}, {})
