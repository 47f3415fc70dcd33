"""Several views of one batch, their replay, and patch-wise transforms."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from kornia.augmentation import RandomGaussianBlur, RandomHorizontalFlip, RandomResizedCrop
from torch import nn

from sslmed.augment import GrayJitter, MultiView, PatchJigsaw, PatchWise
from sslmed.augment._multiview import View
from sslmed.augment.functional import split_patches


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def crops(generator: torch.Generator | None = None) -> MultiView:
    """Two views of kornia's and this library's augmentations, one in plain Sequential."""
    members = [[RandomResizedCrop((16, 16)), RandomHorizontalFlip(), PatchWise(GrayJitter(), (2, 2))] for _ in "01"]
    return MultiView(View(*members[0]), nn.Sequential(*members[1]), generator=generator)


def equal(a: list[torch.Tensor], b: list[torch.Tensor]) -> list[bool]:
    return [torch.equal(u, v) for u, v in zip(a, b, strict=True)]


def test_multi_view_gives_one_batch_per_transform() -> None:
    x = torch.rand(3, 1, 12, 12)
    out = MultiView(nn.Identity(), PatchJigsaw(), nn.AvgPool2d(2))(x)
    assert [tuple(y.shape) for y in out] == [(3, 1, 12, 12), (3, 1, 12, 12), (3, 1, 6, 6)]
    assert torch.equal(out[0], x)


def test_generator_makes_kornias_draws_reproducible_and_leaves_the_global_stream() -> None:
    x = torch.rand(4, 1, 24, 24)

    def run(seed: int) -> list[torch.Tensor]:
        recipe = crops(torch.Generator().manual_seed(seed))
        return [*recipe(x), *recipe(x)]

    state = torch.get_rng_state()
    first = run(1)
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(7)
    assert all(equal(first, run(1)))
    assert not any(equal(first, run(2)))
    assert not any(equal(first[:2], first[2:]))


@pytest.mark.parametrize("own", [True, False], ids=["generator", "global"])
def test_parameters_replay_a_call_and_leave_the_global_stream(own: bool) -> None:
    x = torch.rand(4, 1, 24, 24)
    recipe = crops(torch.Generator().manual_seed(3) if own else None)
    params = recipe.forward_parameters(x.shape)
    state = torch.get_rng_state()
    views = recipe(x, params=params)
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(3)
    recipe(x)
    assert all(equal(views, recipe(x, params=params)))
    assert all(equal(views, crops()(x, params=params)))
    assert not any(equal(views, recipe(x, params=recipe.forward_parameters(x.shape))))


def test_a_call_draws_what_forward_parameters_would() -> None:
    x = torch.rand(4, 1, 24, 24)
    one, two = (crops(torch.Generator().manual_seed(3)) for _ in "01")
    assert all(equal(one(x), two(x, params=two.forward_parameters(x.shape))))


def test_replay_is_the_same_on_every_device(device: torch.device) -> None:
    x = torch.rand(4, 1, 24, 24)
    recipe = crops()
    params = recipe.forward_parameters(x.shape)
    for here, there in zip(recipe(x, params), recipe(x.to(device), params), strict=True):
        torch.testing.assert_close(there.cpu(), here, rtol=0, atol=1e-5)


def test_what_cannot_be_replayed_raises() -> None:
    x = torch.rand(2, 1, 12, 12)
    own = MultiView(nn.Identity(), nn.Sequential(GrayJitter(generator=torch.Generator())))
    own(x)
    with pytest.raises(ValueError, match=r"no member with a generator of its own, got transforms\.1\.0"):
        own(x, params=own.forward_parameters(x.shape))
    with pytest.raises(ValueError, match=r"params must hold seed, .* got \['order'\]"):
        crops()(x, params={"order": torch.zeros(2)})


def test_global_stream_is_restored_when_a_view_raises() -> None:
    state = torch.get_rng_state()
    with pytest.raises(ValueError, match="grid must divide"):
        MultiView(PatchJigsaw(remainder="error"), generator=torch.Generator())(torch.rand(1, 1, 10, 10))
    state_after = torch.get_rng_state()
    torch.set_rng_state(state)
    torch.rand(1, 1, 10, 10)
    assert torch.equal(state_after, torch.get_rng_state())


def test_pickle_and_deepcopy_keep_the_generator() -> None:
    x, recipe = torch.rand(4, 1, 24, 24), crops(torch.Generator().manual_seed(5))
    copies = copy.deepcopy(recipe), pickle.loads(pickle.dumps(recipe))
    views = recipe(x)
    for other in copies:
        assert repr(other) == repr(recipe)
        assert all(equal(views, other(x)))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_a_view_is_computed_in_single_precision_at_least(dtype: torch.dtype) -> None:
    seen = []

    class Spy(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.append(x.dtype)
            return x

    x = torch.rand(2, 1, 24, 24).to(dtype)
    view = View(Spy(), RandomGaussianBlur(5, (0.5, 1.0), p=1.0), Spy())
    torch.manual_seed(1)
    y = view(x)
    assert y.dtype == dtype
    assert set(seen) == {torch.promote_types(dtype, torch.float32)}
    torch.manual_seed(1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(view(x), y)


def test_a_view_refuses_other_things_than_image_batches() -> None:
    with pytest.raises(TypeError, match=r"x must be a floating point tensor, got torch\.uint8"):
        View()(torch.ones(1, 1, 4, 4, dtype=torch.uint8))
    with pytest.raises(ValueError, match=r"x must have shape \(B, C, H, W\), got \(1, 4, 4\)"):
        View()(torch.ones(1, 4, 4))
    with pytest.raises(ValueError, match=r"x must have channels and pixels, got shape \(2, 1, 0, 4\)"):
        View()(torch.ones(2, 1, 0, 4))


def test_patches_are_transformed_independently() -> None:
    x = torch.ones(2, 1, 12, 18)
    y = PatchWise(GrayJitter(p=1.0), grid=(2, 3))(x)
    patches = split_patches(y, (2, 3)).flatten(2)
    assert (patches.amax(2) - patches.amin(2)).max() < 1e-6
    assert len(patches[:, :, 0].unique()) == 12


def test_a_patchs_draw_does_not_depend_on_the_batch() -> None:
    x = torch.rand(3, 1, 12, 12)
    a, b = (
        PatchWise(GrayJitter(p=0.5, generator=torch.Generator().manual_seed(1)), grid=(2, 2))(x[:n]) for n in (3, 1)
    )
    torch.testing.assert_close(a[:1], b)


def test_patches_may_change_size() -> None:
    assert PatchWise(nn.AvgPool2d(2), grid=(2, 3))(torch.rand(2, 1, 8, 12)).shape == (2, 1, 4, 6)


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


def test_draws_stay_what_they_were_in_a_module_that_is_moved() -> None:
    moved, x = MultiView(View(RandomResizedCrop((8, 8)), RandomHorizontalFlip())), torch.rand(4, 1, 12, 12)
    params = moved.forward_parameters(x.shape)
    want = moved(x, params=params)[0]
    nn.Sequential(moved).to(torch.bfloat16)  # whose 8 bits would not do for corners of crops
    assert torch.equal(moved(x, params=params)[0], want)
