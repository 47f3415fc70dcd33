"""Where a location of one view went in the other, read from images whose values are their coordinates."""

from __future__ import annotations

import pickle

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from kornia.augmentation import (
    RandomAffine,
    RandomElasticTransform,
    RandomHorizontalFlip,
    RandomPerspective,
    RandomRotation,
    RandomVerticalFlip,
)
from torch import nn

from sslmed.augment import GrayJitter, PatchJigsaw, views
from sslmed.augment.functional import correspond
from sslmed.augment.pairs import LocalPair, Pair


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def coordinates(batch: int, height: int, width: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """(B, 3, H, W): x, y and ones, so that bilinear interpolation gives a pixel's place in the source."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([x, y, torch.ones_like(x)]).to(dtype).expand(batch, 3, height, width).clone()


def pixels(view: torch.Tensor) -> torch.Tensor:
    """(B, P, 2): the centres of all pixels of a view."""
    batch, _, height, width = view.shape
    return coordinates(batch, height, width)[:, :2].flatten(2).transpose(1, 2)


def still(**settings: object) -> LocalPair:
    """A local pair that leaves values alone."""
    return views.local_pair(48, brightness=0.0, contrast=0.0, **settings)  # type: ignore[arg-type]


def looked_up(view: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """Values (B, C, P) of a view at points (B, P, 2) in its pixels."""
    far = torch.tensor([view.shape[3] - 1, view.shape[2] - 1])
    grid = (2 * points / far - 1).unsqueeze(1)
    return F.grid_sample(view, grid, align_corners=True, padding_mode="border")[:, :, 0]


@settings(max_examples=15, deadline=None)
@given(st.integers(40, 120), st.integers(40, 120), st.floats(0.1, 0.9), st.integers(0, 2**31), st.booleans())
def test_a_matrix_says_where_every_pixel_of_a_view_comes_from(
    height: int, width: int, least: float, seed: int, upright: bool
) -> None:
    torch.manual_seed(seed)
    pair = still(scale=(least, 1.0), vflip=0.0 if upright else 0.5)(coordinates(4, height, width))
    for view, matrix in ((pair.view0, pair.matrix0), (pair.view1, pair.matrix1)):
        source, _ = correspond(pixels(view), matrix, torch.eye(3).expand(4, 3, 3), size=(height, width))
        assert (source - view[:, :2].flatten(2).transpose(1, 2)).abs().max() < 1e-3


def test_a_matrix_is_exact_to_rounding_in_double_precision() -> None:
    pair = still()(coordinates(8, 100, 77, torch.float64))
    assert pair.matrix0.dtype == torch.float64
    source, _ = correspond(
        pixels(pair.view0), pair.matrix0, torch.eye(3, dtype=torch.float64).expand(8, 3, 3), size=(100, 77)
    )
    assert (source - pair.view0[:, :2].flatten(2).transpose(1, 2)).abs().max() < 1e-9


def test_a_location_of_one_view_is_found_in_the_other() -> None:
    x = coordinates(16, 80, 96)
    pair = still(scale=(0.3, 1.0), vflip=0.5)(x)
    points1, inside = correspond(pixels(pair.view0), pair.matrix0, pair.matrix1, size=(48, 48))
    assert 0.3 < inside.float().mean() < 0.95
    seen0, seen1 = pair.view0.flatten(2), looked_up(pair.view1, points1)
    error = (seen0 - seen1).abs().amax(dim=1)
    assert error[inside].max() < 1e-3
    assert (error[~inside] > 1e-3).float().mean() > 0.99  # what is called outside is not shown


def test_the_way_back_is_the_inverse() -> None:
    pair = still(vflip=0.5)(coordinates(6, 64, 64))
    points0 = torch.rand(6, 50, 2) * 47
    points1, _ = correspond(points0, pair.matrix0, pair.matrix1, size=(48, 48))
    back, inside = correspond(points1, pair.matrix1, pair.matrix0, size=(48, 48))
    torch.testing.assert_close(back, points0, rtol=0, atol=1e-3)
    assert inside.all()


def test_flips_are_exact() -> None:
    x = coordinates(32, 33, 40)
    pair = LocalPair([RandomHorizontalFlip(), RandomVerticalFlip()], [RandomHorizontalFlip(p=1.0)])(x)
    points1, inside = correspond(pixels(x), pair.matrix0, pair.matrix1, size=(33, 40))
    assert inside.all()
    column, row = points1.long().unbind(2)
    assert torch.equal(points1, points1.round())
    found = pair.view1.flatten(2).gather(2, (row * 40 + column).unsqueeze(1).expand(-1, 3, -1))
    assert torch.equal(found, pair.view0.flatten(2))
    assert len(pair.matrix0.flatten(1).unique(dim=0)) == 4


@pytest.mark.parametrize("turn", [RandomAffine(20, scale=(0.8, 1.2)), RandomRotation(30), RandomPerspective()])
def test_other_matrices_of_kornia_serve_too(turn: nn.Module) -> None:
    pair = LocalPair([turn], [GrayJitter(brightness=0.0, contrast=0.0)])(coordinates(6, 64, 64))
    source, inside = correspond(pixels(pair.view0), pair.matrix0, pair.matrix1, size=(64, 64))
    shown = inside & (pair.view0[:, 2].flatten(1) > 1 - 1e-5)  # not filled from beyond the image
    error = (source - pair.view0[:, :2].flatten(2).transpose(1, 2)).abs().amax(dim=2)
    assert shown.float().mean() > 0.5
    assert error[shown].max() < 2e-3


def test_cells_of_a_feature_map_correspond_by_the_stated_rule() -> None:
    stride = 8
    pair = still(vflip=0.5)(coordinates(4, 64, 64))
    f0, f1 = (F.avg_pool2d(view[:, :2], stride) for view in pair[:2])
    cells = (pixels(f0) + 0.5) * stride - 0.5
    points1, _ = correspond(cells, pair.matrix0, pair.matrix1, size=(48, 48))
    cells1 = (points1 + 0.5) / stride - 0.5
    within = ((cells1 >= 0) & (cells1 <= 5)).all(dim=2)
    assert within.any()
    error = (f0.flatten(2) - looked_up(f1, cells1)).abs().amax(dim=1)
    assert error[within].max() < 1e-3


@pytest.mark.parametrize("shape", [(60, 60), (60, 90), (90, 60)])
def test_two_crops_always_overlap(shape: tuple[int, int]) -> None:
    pair = views.local_pair(24)(torch.rand(400, 1, *shape))
    _, inside = correspond(pixels(pair.view0), pair.matrix0, pair.matrix1, size=(24, 24))
    assert inside.any(dim=1).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_matrices_of_half_precision_images_are_single(dtype: torch.dtype) -> None:
    params = (recipe := still()).forward_parameters((2, 3, 300, 300))
    half = recipe(coordinates(2, 300, 300, dtype), params)
    single = recipe(coordinates(2, 300, 300), params)
    assert half.view0.dtype == dtype
    assert torch.equal(half.matrix0, single.matrix0)
    points, _ = correspond(torch.rand(2, 5, 2).to(dtype), half.matrix0, half.matrix1, size=(48, 48))
    assert points.dtype == torch.float32


def test_autocast_does_not_round_coordinates() -> None:
    recipe, x = still(), coordinates(2, 300, 300)
    params = recipe.forward_parameters(x.shape)
    pair = recipe(x, params)
    points = correspond(pixels(pair.view0), pair.matrix0, pair.matrix1, size=(48, 48))[0]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        same = recipe(x, params)
        assert torch.equal(same.matrix0, pair.matrix0)
        again = correspond(pixels(pair.view0), same.matrix0, same.matrix1, size=(48, 48))[0]
    assert torch.equal(points, again)


def test_replay_generator_and_pickle() -> None:
    x = torch.rand(3, 1, 64, 64)
    recipe = views.local_pair(32, generator=torch.Generator().manual_seed(4))
    copied, state = pickle.loads(pickle.dumps(recipe)), torch.get_rng_state()
    first = recipe(x)
    assert torch.equal(torch.get_rng_state(), state)
    params = recipe.forward_parameters(x.shape)
    for a, b in ((first, copied(x)), (recipe(x, params=params), recipe(x, params=params))):
        assert isinstance(a, Pair)
        assert all(torch.equal(u, v) for u, v in zip(a, b, strict=True))


@pytest.mark.parametrize("batch", [0, 1])
def test_small_batches(batch: int) -> None:
    pair = views.local_pair(24)(torch.rand(batch, 1, 40, 40))
    assert pair.view0.shape == (batch, 1, 24, 24)
    assert pair.matrix1.shape == (batch, 3, 3)
    points1, inside = correspond(torch.rand(batch, 0, 2), pair.matrix0, pair.matrix1, size=(24, 24))
    assert points1.shape == (batch, 0, 2)
    assert inside.shape == (batch, 0)


def test_compiles_to_one_graph() -> None:
    torch._dynamo.reset()
    recipe, x = still(), coordinates(3, 64, 70)

    def both(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        pair = recipe(x)
        points = pixels(pair.view0)
        return pair.view0, correspond(points, pair.matrix0, torch.eye(3).expand(3, 3, 3), size=(64, 70))[0]

    view, source = torch.compile(both, fullgraph=True, backend="eager")(x)
    assert (source - view[:, :2].flatten(2).transpose(1, 2)).abs().max() < 1e-3


def test_on_every_device(device: torch.device) -> None:
    recipe, x = still(), coordinates(3, 64, 70)
    params = recipe.forward_parameters(x.shape)
    here, there = recipe(x, params), recipe(x.to(device), params)
    torch.testing.assert_close(there.matrix1.cpu(), here.matrix1, rtol=0, atol=1e-4)
    points = pixels(here.view0)
    expected = correspond(points, here.matrix0, here.matrix1, size=(48, 48))[0]
    got = correspond(points.to(device), there.matrix0, there.matrix1, size=(48, 48))[0]
    torch.testing.assert_close(got.cpu(), expected, rtol=0, atol=1e-3)


def test_bad_arguments_raise() -> None:
    eye, points = torch.eye(3)[None], torch.zeros(1, 4, 2)
    with pytest.raises(ValueError, match=r"points0 must have shape \(B, P, 2\), got \(1, 4, 3\)"):
        correspond(torch.zeros(1, 4, 3), eye, eye, size=(8, 8))
    with pytest.raises(ValueError, match=r"matrix1 must have shape \(1, 3, 3\), got \(1, 2, 3\)"):
        correspond(points, eye, eye[:, :2], size=(8, 8))
    with pytest.raises(ValueError, match=r"matrix0 must have shape \(1, 3, 3\), got \(2, 3, 3\)"):
        correspond(points, eye.expand(2, 3, 3), eye, size=(8, 8))
    with pytest.raises(TypeError, match="points0 must be a floating point tensor"):
        correspond(points.long(), eye, eye, size=(8, 8))
    with pytest.raises(TypeError, match="view0 must hold kornia's 2-D augmentations, got AvgPool2d"):
        LocalPair([nn.AvgPool2d(2)], [])
    with pytest.raises(TypeError, match="view1 must hold kornia's 2-D augmentations, got RandomElastic"):
        LocalPair([], [RandomElasticTransform()])
    with pytest.raises(ValueError, match="view1 must move pixels by a matrix, got PatchJigsaw"):
        LocalPair([], [PatchJigsaw()])
