"""Several views, patch-wise transforms and the recipe of Ellis et al.."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sslmed.augment import (
    CrossPatchJigsaw,
    FrequencyBandStop,
    GrayJitter,
    MultiView,
    PatchJigsaw,
    PatchWise,
    views,
)
from sslmed.augment.functional import split_patches


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def test_multi_view_gives_one_batch_per_transform() -> None:
    x = torch.rand(3, 1, 12, 12)
    out = MultiView(nn.Identity(), PatchJigsaw(), nn.AvgPool2d(2))(x)
    assert [tuple(y.shape) for y in out] == [(3, 1, 12, 12), (3, 1, 12, 12), (3, 1, 6, 6)]
    assert torch.equal(out[0], x)


def test_generator_makes_kornias_draws_reproducible_and_leaves_the_global_stream() -> None:
    x = torch.rand(4, 1, 64, 64)

    def run(seed: int) -> list[torch.Tensor]:
        recipe = views.pirl(48, unit="nyquist", generator=torch.Generator().manual_seed(seed))
        return [*recipe(x), *recipe(x)]

    state = torch.get_rng_state()
    first = run(1)
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(7)
    assert all(torch.equal(a, b) for a, b in zip(first, run(1), strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(first, run(2), strict=True))
    assert not torch.equal(first[1], first[3])


def test_global_stream_is_restored_when_a_view_raises() -> None:
    state = torch.get_rng_state()
    with pytest.raises(ValueError, match="grid must divide"):
        MultiView(PatchJigsaw(remainder="error"), generator=torch.Generator())(torch.rand(1, 1, 10, 10))
    state_after = torch.get_rng_state()
    torch.set_rng_state(state)
    torch.rand(1, 1, 10, 10)
    assert torch.equal(state_after, torch.get_rng_state())


def test_patches_are_transformed_independently() -> None:
    x = torch.ones(2, 1, 12, 18)
    y = PatchWise(GrayJitter(p=1.0), grid=(2, 3))(x)
    patches = split_patches(y, (2, 3)).flatten(2)
    assert (patches.std(2) == 0).all()
    assert len(patches[:, :, 0].unique()) == 12


def test_a_patchs_draw_does_not_depend_on_the_batch() -> None:
    x = torch.rand(3, 1, 12, 12)
    a, b = (
        PatchWise(GrayJitter(p=0.5, generator=torch.Generator().manual_seed(1)), grid=(2, 2))(x[:n])
        for n in (3, 1)
    )
    torch.testing.assert_close(a[:1], b)


def test_patches_may_change_size() -> None:
    assert PatchWise(nn.AvgPool2d(2), grid=(2, 3))(torch.rand(2, 1, 8, 12)).shape == (2, 1, 4, 6)


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
    assert all(m.radius == (5, 20) for m in recipe.modules() if isinstance(m, FrequencyBandStop))
    assert all(m.grid == (3, 3) for m in recipe.modules() if isinstance(m, (PatchJigsaw, PatchWise)))
    assert all(m.p == 1 for m in recipe.modules() if isinstance(m, GrayJitter))
    assert recipe(torch.rand(2, 1, 100, 90))[1].shape == (2, 1, 96, 96)


def test_pirl_takes_empty_batches_and_compiles() -> None:
    torch._dynamo.reset()
    recipe = views.pirl(48, unit="nyquist")
    assert [len(view) for view in recipe(torch.rand(0, 1, 64, 64))] == [0, 0]
    out = torch.compile(recipe, fullgraph=True, backend="eager")(torch.rand(2, 1, 64, 64))
    assert [tuple(view.shape) for view in out] == [(2, 1, 64, 64), (2, 1, 48, 48)]


def test_bad_arguments_raise() -> None:
    with pytest.raises(ValueError, match="transforms must hold at least one module"):
        MultiView()
    with pytest.raises(TypeError, match=r"transforms\[1\] must be a torch\.nn\.Module, got function"):
        MultiView(nn.Identity(), lambda x: x)
    with pytest.raises(TypeError, match="generator must be"):
        MultiView(nn.Identity(), generator=3)
    with pytest.raises(TypeError, match="transform must be"):
        PatchWise(torch.sin, (2, 2))
    with pytest.raises(ValueError, match=r"grid must be a pair \(rows, columns\), got 2"):
        PatchWise(nn.Identity(), 2)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="grid must divide"):
        PatchWise(nn.Identity(), (5, 5))(torch.rand(1, 1, 8, 8))
    with pytest.raises(ValueError, match=r"size must be a multiple of the grid \(6, 6\), got 224"):
        views.pirl(224)
    with pytest.raises(ValueError, match="modality must be one of"):
        views.pirl(modality="photograph")
    with pytest.raises(TypeError, match="size must be an integer"):
        views.pirl((96, 96))
