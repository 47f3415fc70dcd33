"""The recipes of views: what they draw, what they leave alone, and on which images."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import kornia.augmentation as K
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sslmed.augment import CrossPatchJigsaw, FrequencyBandStop, GrayJitter, PatchJigsaw, PatchWise, views
from sslmed.augment._blur import Blur
from sslmed.augment._geometry import Crop
from sslmed.augment.pairs import LocalPair

Recipe = Callable[..., Any]
MODALITIES = ("ultrasound", "mr", "mammography")
CROPS = [views.simclr, views.moco_v2, views.byol]
every_crop = pytest.mark.parametrize("recipe", CROPS, ids=lambda f: f.__name__)
every = pytest.mark.parametrize(
    "recipe", [*CROPS, views.local_pair, views.intensity_only, views.pirl], ids=lambda f: f.__name__
)
every_modality = pytest.mark.parametrize("modality", MODALITIES)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def made(recipe: Recipe, size: int = 24, **settings: Any) -> nn.Module:
    """The recipe, with what all need and radii that suit so small a view."""
    if recipe is views.pirl:
        settings = {"unit": "nyquist", **settings}
    result = recipe(size, **settings)
    assert isinstance(result, nn.Module)
    return result


def two(result: Any) -> list[torch.Tensor]:
    """The two views of a call."""
    return list(result)[:2]


def members(recipe: nn.Module, kind: type[nn.Module]) -> list[Any]:
    return [m for m in recipe.modules() if isinstance(m, kind)]


@every
@every_modality
@pytest.mark.parametrize("channels", [1, 3])
def test_two_different_views_of_each_image(recipe: Recipe, modality: str, channels: int, device: torch.device) -> None:
    x = torch.rand(4, channels, 40, 52).to(device)
    before = x.clone()
    view0, view1 = two(made(recipe, modality=modality)(x))
    first = (40, 52) if recipe is views.pirl else (24, 24)
    assert view0.shape == (4, channels, *first)
    assert view1.shape == (4, channels, 24, 24)
    assert view0.device == view1.device == x.device
    assert torch.equal(x, before)
    if view0.shape == view1.shape:
        assert not any(torch.equal(a, b) for a, b in zip(view0, view1, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(view1, view1.roll(1, 0), strict=True))


@every
@pytest.mark.parametrize(("scale", "shift"), [(1.0, 0.0), (65535.0, 0.0), (2.0, -1.0)])
def test_any_range_stays_finite_and_unclipped(recipe: Recipe, scale: float, shift: float) -> None:
    x = scale * torch.rand(48, 1, 6, 6).repeat_interleave(8, 2).repeat_interleave(8, 3) + shift
    for view in two(made(recipe)(x)):
        assert view.isfinite().all()
        assert view.amax() > scale * 1.05 + shift  # brightness goes beyond the input's range
        # Jitter, crop and blur keep to it in proportion: nothing is taken for a picture in [0, 1].
        assert view.std() > 0.05 * scale


@every
def test_views_scale_with_the_images(recipe: Recipe) -> None:
    x = torch.randn(4, 1, 48, 48, dtype=torch.float64)
    views_of = made(recipe)
    params = views_of.forward_parameters(x.shape)
    for one, many in zip(two(views_of(x, params)), two(views_of(4096 * x, params)), strict=True):
        torch.testing.assert_close(many, 4096 * one)


@every
@every_modality
def test_nothing_is_turned_upside_down_unless_asked_for(recipe: Recipe, modality: str) -> None:
    """The rows of a ramp keep their order from top to bottom."""
    down = torch.linspace(1, 2, 40).view(1, 1, 40, 1).expand(200, 1, 40, 40)
    view = two(made(recipe, modality=modality)(down))[0]
    flipped = (view[:, 0, -1] < view[:, 0, 0]).any(dim=1).float().mean()
    paper = recipe is views.pirl and modality == "ultrasound"  # Ellis et al. flip so
    assert (0.35 < flipped < 0.65) if paper else flipped == 0


@pytest.mark.parametrize("recipe", [*CROPS, views.local_pair, views.pirl], ids=lambda f: f.__name__)
@every_modality
def test_upside_down_where_asked_for(recipe: Recipe, modality: str) -> None:
    down = torch.linspace(1, 2, 40).view(1, 1, 40, 1).expand(20, 1, 40, 40)
    view = two(made(recipe, modality=modality, vflip=1.0)(down))[0]
    assert (view[:, 0, -1] < view[:, 0, 0]).all()
    upright = two(made(recipe, modality=modality, vflip=0.0)(down))[0]
    assert (upright[:, 0, -1] > upright[:, 0, 0]).all()


@every
@every_modality
def test_left_and_right_change_places_where_the_modality_allows(recipe: Recipe, modality: str) -> None:
    across = torch.linspace(1, 2, 40).view(1, 1, 1, 40).expand(300, 1, 40, 40)
    view = two(made(recipe, modality=modality)(across))[0]
    flipped = (view[:, 0, :, -1] < view[:, 0, :, 0]).any(dim=1).float().mean()
    if modality == "mr" or recipe is views.intensity_only:
        assert flipped == 0
    else:
        assert 0.4 < flipped < 0.6


@every_crop
@every_modality
def test_crops_are_as_large_as_said(recipe: Recipe, modality: str) -> None:
    x = torch.rand(500, 1, 100, 100)
    for scale in (None, (0.1, 0.2)):
        result = made(recipe, modality=modality, scale=scale)
        two(result(x))
        low, high = scale or ((0.4, 1.0) if modality == "ultrasound" else (0.5, 1.0))
        crops = members(result, Crop)
        assert len(crops) == 2
        for crop in crops:
            area = (crop._params["width"] * crop._params["height"]).double() / 1e4
            assert low - 0.02 < area.min() < low + 0.05
            assert high - 0.05 < area.max() < high + 0.02


@every_modality
def test_strengths_of_the_jitter(modality: str) -> None:
    strength = {"ultrasound": 0.4, "mr": 0.3, "mammography": 0.2}[modality]
    for recipe in (*CROPS, views.intensity_only, views.local_pair, views.pirl):
        jitters = members(made(recipe, modality=modality), GrayJitter)
        always = recipe in (views.intensity_only, views.pirl)
        assert len(jitters) == 2
        assert all((j.brightness, j.contrast, j.gamma) == (strength, strength, 0) for j in jitters)
        assert all(j.p == (1.0 if always else 0.8) for j in jitters)
    (given, _) = members(views.simclr(24, modality=modality, brightness=0.1, contrast=0.6), GrayJitter)
    assert (given.brightness, given.contrast) == (0.1, 0.6)


@pytest.mark.parametrize("size", [24, 64, 224, 448])
def test_blur_is_in_proportion_to_the_view(size: int) -> None:
    blurs = members(views.simclr(size), Blur)
    assert [(b.sigma, b.p) for b in blurs] == [((0.1 * size / 224, 2 * size / 224), 0.5)] * 2
    assert members(views.simclr(size, sigma=(0.2, 2.0)), Blur)[0].sigma == (0.2, 2.0)


@every_modality
def test_byols_views_are_blurred_unequally_and_never_solarised(modality: str) -> None:
    first, second = views.byol(64, modality=modality).transforms
    chances = [[m.p for m in members(view, Blur)] for view in (first, second)]
    assert chances == ([[1.0], [0.1]] if modality == "ultrasound" else [[], []])
    assert not members(views.byol(64), K.RandomSolarize)
    first, second = views.byol(64, modality=modality, blur=(0.0, 0.3)).transforms
    assert not members(first, Blur)
    assert [m.p for m in members(second, Blur)] == [0.3]


def test_moco_v2_is_simclrs_pair() -> None:
    x = torch.rand(4, 1, 64, 64)
    settings = {"scale": (0.2, 1.0), "hflip": 0.3, "vflip": 0.2, "brightness": 0.1, "contrast": 0.2}
    a, b = (
        recipe(32, blur=0.4, sigma=(0.1, 2.0), generator=torch.Generator().manual_seed(2), **settings)
        for recipe in (views.simclr, views.moco_v2)
    )
    assert repr(a) == repr(b)
    assert all(torch.equal(u, v) for u, v in zip(a(x), b(x), strict=True))


@pytest.mark.parametrize("size", [None, 36])
@every_modality
def test_intensity_only_leaves_every_pixel_in_its_place(size: int | None, modality: str) -> None:
    """Each view is a straight line through the image: the same up to brightness and contrast."""
    x = torch.randn(6, 1, 60, 48)
    still = x if size is None else F.interpolate(x, (size, size), mode="bilinear", antialias=True)
    for view in views.intensity_only(size, modality=modality)(x):
        a, b = still.flatten(1), view.flatten(1)
        slope = ((a - a.mean(1, True)) * (b - b.mean(1, True))).sum(1) / (a - a.mean(1, True)).square().sum(1)
        assert (slope > 0.3).all()
        assert (slope != 1).all()
        line = slope[:, None] * (a - a.mean(1, True)) + b.mean(1, True)
        torch.testing.assert_close(b, line, rtol=0, atol=1e-5)


def test_intensity_only_keeps_edges_to_the_pixel() -> None:
    x = torch.zeros(4, 1, 32, 32)
    x[:, :, 10:20, 5:9] = 1
    for view in views.intensity_only()(x):
        high, low = view.amax(dim=(1, 2, 3), keepdim=True), view.amin(dim=(1, 2, 3), keepdim=True)
        assert torch.equal(view > (high + low) / 2, x > 0.5)


@every
def test_generator_isolates_the_global_stream(recipe: Recipe) -> None:
    x = torch.rand(3, 1, 40, 40)
    a, b, c = (made(recipe, generator=torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    state = torch.get_rng_state()
    first = two(a(x))
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(5)
    assert all(torch.equal(u, v) for u, v in zip(first, two(b(x)), strict=True))
    assert not any(torch.equal(u, v) for u, v in zip(first, two(c(x)), strict=True))
    assert not any(torch.equal(u, v) for u, v in zip(first, two(a(x)), strict=True))


@every
def test_replay_is_exact(recipe: Recipe) -> None:
    x, result = torch.rand(3, 1, 40, 40), made(recipe)
    params = result.forward_parameters(x.shape)
    first = two(result(x, params=params))
    result(x)
    assert all(torch.equal(u, v) for u, v in zip(first, two(result(x, params=params)), strict=True))


@every
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_precisions(recipe: Recipe, dtype: torch.dtype) -> None:
    x, result = torch.rand(3, 1, 40, 40), made(recipe)
    params = result.forward_parameters(x.shape)
    for view, single in zip(two(result(x.to(dtype), params)), two(result(x.to(dtype).float(), params)), strict=True):
        assert view.dtype == dtype
        torch.testing.assert_close(view, single.to(dtype), rtol=0, atol=1e-5)


@every
@pytest.mark.parametrize("batch", [0, 1])
def test_small_batches(recipe: Recipe, batch: int) -> None:
    assert [len(view) for view in two(made(recipe)(torch.rand(batch, 1, 40, 40)))] == [batch, batch]


@every
def test_pickle_and_deepcopy(recipe: Recipe) -> None:
    x, result = torch.rand(3, 1, 40, 40), made(recipe, generator=torch.Generator().manual_seed(3))
    copies = copy.deepcopy(result), pickle.loads(pickle.dumps(result))
    first = two(result(x))
    for other in copies:
        assert repr(other) == repr(result)
        assert all(torch.equal(u, v) for u, v in zip(first, two(other(x)), strict=True))


@pytest.mark.parametrize("recipe", [views.simclr, views.intensity_only, views.pirl], ids=lambda f: f.__name__)
def test_compiles_to_one_graph(recipe: Recipe) -> None:
    torch._dynamo.reset()
    compiled = torch.compile(made(recipe), fullgraph=True, backend="eager")
    shapes = [tuple(view.shape) for view in two(compiled(torch.rand(2, 1, 40, 40)))]
    assert shapes == [(2, 1, 40, 40) if recipe is views.pirl else (2, 1, 24, 24), (2, 1, 24, 24)]


@every
def test_gradients_reach_the_image(recipe: Recipe) -> None:
    x = torch.rand(2, 1, 40, 40, requires_grad=True)
    sum(view.square().sum() for view in two(made(recipe)(x))).backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()
    assert x.grad.abs().sum() > 0


@pytest.mark.parametrize("channels", [1, 3])
def test_pirl_gives_the_image_at_its_own_size_and_the_crop(channels: int) -> None:
    t1, t2 = views.pirl()(torch.rand(2, channels, 224, 232))
    assert t1.shape == (2, channels, 224, 232)
    assert t2.shape == (2, channels, 216, 216)
    assert t1.isfinite().all()
    assert t2.isfinite().all()


@pytest.mark.parametrize("frequency", [True, False])
@pytest.mark.parametrize("cross_patch", [True, False])
def test_the_four_pretext_tasks(frequency: bool, cross_patch: bool) -> None:
    recipe = views.pirl(96, grid=(3, 3), frequency=frequency, cross_patch=cross_patch, radius=(5, 20))
    kinds = [type(module) for module in recipe.transforms[1]]
    assert (FrequencyBandStop in kinds) == frequency
    assert (CrossPatchJigsaw if cross_patch else PatchJigsaw) in kinds
    assert all(m.radius == (5, 20) for m in members(recipe, FrequencyBandStop))
    assert all(m.grid == (3, 3) for m in recipe.modules() if isinstance(m, (PatchJigsaw, PatchWise)))
    assert all(m.p == 1 for m in members(recipe, GrayJitter))
    assert recipe(torch.rand(2, 1, 100, 90))[1].shape == (2, 1, 96, 96)


def test_local_pair_is_what_it_says() -> None:
    recipe = views.local_pair(32)
    assert isinstance(recipe, LocalPair)
    assert not members(recipe, Blur)
    assert [m.size for m in members(recipe, Crop)] == [32, 32]


@every
def test_arguments_common_to_all(recipe: Recipe) -> None:
    with pytest.raises(ValueError, match="modality must be one of 'ultrasound', 'mr', 'mammography', got 'ct'"):
        recipe(24, modality="ct")
    with pytest.raises(TypeError, match="size must be an integer"):
        recipe((24, 24))
    with pytest.raises(TypeError, match="generator must be"):
        recipe(24, generator=3)
    with pytest.raises(TypeError, match="modalty"):
        recipe(24, modalty="mr")
    with pytest.raises(TypeError, match="positional"):
        recipe(24, "mr")
    with pytest.raises(ValueError, match=r"must have shape \(B, C, H, W\), got \(1, 40, 40\)"):
        recipe(24)(torch.rand(1, 40, 40))
    with pytest.raises(TypeError, match="must be a floating point tensor"):
        recipe(24)(torch.ones(1, 1, 40, 40, dtype=torch.uint8))
    with pytest.raises(ValueError, match="x must have 1 or 3 channels"):
        recipe(24)(torch.rand(1, 2, 40, 40))


@pytest.mark.parametrize("recipe", [*CROPS, views.local_pair], ids=lambda f: f.__name__)
def test_bad_geometry_raises(recipe: Recipe) -> None:
    with pytest.raises(ValueError, match="size must be at least 2, got 1"):
        recipe(1)
    with pytest.raises(ValueError, match=r"scale must be a pair \(low, high\), got 0.5"):
        recipe(24, scale=0.5)
    with pytest.raises(ValueError, match=r"scale must be a finite number in \(0, 1\], got 0"):
        recipe(24, scale=(0, 1))
    with pytest.raises(ValueError, match=r"scale must be a finite number in \(0, 1\], got 1.5"):
        recipe(24, scale=(0.5, 1.5))
    with pytest.raises(ValueError, match="scale must not decrease"):
        recipe(24, scale=(0.8, 0.5))
    with pytest.raises(ValueError, match=r"hflip must be a finite number in \[0, 1\], got 2"):
        recipe(24, hflip=2)
    with pytest.raises(ValueError, match=r"vflip must be a finite number in \[0, 1\], got -1"):
        recipe(24, vflip=-1)
    with pytest.raises(ValueError, match="brightness must be"):
        recipe(24, brightness=1.5)
    with pytest.raises(TypeError, match="contrast must be"):
        recipe(24, contrast=(0.7, 1.3))


@every_crop
def test_bad_blur_raises(recipe: Recipe) -> None:
    with pytest.raises(ValueError, match="sigma must stay below a third of size 24"):
        recipe(24, sigma=(0.1, 9.0))
    with pytest.raises(ValueError, match=r"sigma must be a finite number in \(0, inf\], got 0"):
        recipe(24, sigma=(0, 1))
    with pytest.raises(ValueError, match="blur must be"):
        recipe(24, blur=(0.5, 1.5) if recipe is views.byol else 1.5)


def test_other_bad_arguments_raise() -> None:
    with pytest.raises(ValueError, match="blur must be a pair of probabilities, one for each"):
        views.byol(24, blur=0.5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"size must be a multiple of the grid \(6, 6\), got 224"):
        views.pirl(224)
    with pytest.raises(ValueError, match="size must be at least 2, got 0"):
        views.intensity_only(0)
