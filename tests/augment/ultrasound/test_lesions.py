"""Synthetic lesions: their form against a slow loop, their place in the sector, draws and replay."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import Tensor

from reference import synthetic_lesion
from sslmed.augment import SyntheticLesions
from sslmed.augment._affine import resample_over_black


def seeded(seed: int = 3) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def scans(batch: int = 5, *, size: tuple[int, int] = (40, 52), seed: int = 0) -> Tensor:
    return 0.2 + 0.7 * torch.rand(batch, 1, *size, generator=seeded(seed))


def in_a_sector(batch: int = 16, side: int = 64) -> tuple[Tensor, Tensor]:
    """Scans with black around a fan, and where the fan is."""
    down, right = torch.arange(side)[:, None], torch.arange(side)
    fan = ((right - side / 2).abs() < 6 + 0.4 * down) & (down > 4) & (down < side - 8)
    return scans(batch, size=(side, side)) * fan, fan


@pytest.mark.parametrize("size", [(24, 24), (20, 29), (31, 18)])
def test_images_and_masks_are_those_of_the_definition(size: tuple[int, int]) -> None:
    x = scans(6, size=size).double()
    lesions = SyntheticLesions(degrees=0.0, area=(0.6, 1.0), generator=seeded(8))
    params = lesions.forward_parameters(x.shape)
    images, masks = lesions(x, params=params)
    for i in range(len(x)):
        own = {name: params[name][i] for name in lesions.names}
        own = {name: value.double() if value.is_floating_point() else value for name, value in own.items()}
        image, mask = synthetic_lesion(x[i, 0], x[own["other"], 0], own)
        assert 0 < mask.sum() < mask.numel()
        assert torch.equal(masks[i, 0], mask)
        torch.testing.assert_close(images[i, 0], image)


def test_lesions_are_darker_than_what_they_replace_and_stay_in_range() -> None:
    x = scans(200)
    lesions = SyntheticLesions(generator=seeded())
    params = lesions.forward_parameters(x.shape)
    images, masks = lesions(x, params=params)
    before = resample_over_black(x, params["background"], (40, 52))
    assert images.min() >= 0
    assert images.max() <= 1
    there = masks.flatten(1).sum(1) > 8
    assert there.float().mean() > 0.9
    level = [(y[m].mean() / b[m].mean()) for y, b, m in zip(images[there], before[there], masks[there], strict=True)]
    assert torch.stack(level).quantile(0.9) < 0.75
    share = masks.float().mean((1, 2, 3))
    assert 0.05 < share.mean() < 0.2
    assert share.max() < 0.75


def test_lesions_lie_in_the_sector_and_leave_the_black_around_it() -> None:
    x, fan = in_a_sector(200)
    images, masks = SyntheticLesions(degrees=0, area=(1, 1), hflip=0, generator=seeded())(x)
    outside = ~torch.nn.functional.max_pool2d(fan[None].float(), 5, 1, 2).bool()[0]
    assert not masks[:, 0, outside].any()
    assert torch.equal(images[:, 0, outside], x[:, 0, outside])
    assert (masks.flatten(1).sum(1) > 0).float().mean() > 0.95
    filled = masks[:, 0].float().mean(0)[fan]
    assert filled.min() > 0 or (filled > 0).float().mean() > 0.9  # anywhere in the fan


def test_lesions_stay_in_a_turned_sector_whatever_value_black_has() -> None:
    echoes = in_a_sector()[1].expand(16, 1, 64, 64).float()
    x = 0.2 + echoes * scans(16, size=(64, 64))  # 0.2 is black, echoes are at least 0.4
    lesions = SyntheticLesions(generator=seeded())
    params = lesions.forward_parameters(x.shape)
    images, masks = lesions(x, params=params)
    near = resample_over_black(echoes, params["background"], (64, 64)) > 0
    near = torch.nn.functional.max_pool2d(near.float(), 9, 1, 4).bool()  # and two cells of the grid around them
    assert masks.flatten(1).any(dim=1).all()
    assert not (masks & ~near).any()
    torch.testing.assert_close(images[~near], torch.full_like(images[~near], 0.2))


@pytest.mark.parametrize("black", [0.0, 0.2])
def test_a_black_scan_gets_no_lesion(black: float) -> None:
    images, masks = SyntheticLesions(generator=seeded())(torch.full((8, 1, 40, 40), black))
    assert not masks.any()
    assert (images == torch.tensor(black)).all()


def test_a_dark_half_of_the_scan_holds_no_centre() -> None:
    x = scans(100, size=(48, 48))
    x[..., :24] = 0
    _, masks = SyntheticLesions(degrees=0, area=(1, 1), hflip=0, generator=seeded())(x)
    assert not masks[..., :22].any()


def test_the_mask_is_empty_where_no_lesion_is_drawn() -> None:
    x, lesions = scans(300), SyntheticLesions(p=0.4, generator=seeded())
    params = lesions.forward_parameters(x.shape)
    images, masks = lesions(x, params=params)
    gate = params["batch_prob"] > 0.5
    assert 0.3 < gate.float().mean() < 0.5
    assert not masks[~gate].any()
    background = resample_over_black(x, params["background"], (40, 52))
    torch.testing.assert_close(images[~gate], background[~gate])


def test_the_texture_is_that_of_a_scan_before() -> None:
    lesions = SyntheticLesions(generator=seeded())
    other = torch.stack([lesions.forward_parameters((9, 1, 8, 8))["other"] for _ in range(200)])
    assert (other[:, 0] == 0).all()
    assert (other[:, 1:] < torch.arange(1, 9)).all()
    assert all(len(column.unique()) == k for k, column in enumerate(other[:, 1:].T, start=1))


@pytest.mark.parametrize("batch", [1, 4])
def test_a_sample_does_not_depend_on_those_after_it(batch: int) -> None:
    x = scans(9)
    many, few = SyntheticLesions(generator=seeded())(x), SyntheticLesions(generator=seeded())(x[:batch])
    torch.testing.assert_close(few[0], many[0][:batch], rtol=0, atol=1e-6)
    assert torch.equal(few[1], many[1][:batch])


def test_replay_is_exact_and_draws_nothing() -> None:
    x, lesions = scans(), SyntheticLesions()
    params = lesions.forward_parameters(x.shape)
    before = {name: value.clone() for name, value in params.items()}
    state = torch.get_rng_state()
    first, second = lesions(x, params=params), lesions(x, params=params)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])
    assert all(torch.equal(params[name], before[name]) for name in before)
    assert sum(value[0].numel() for value in params.values() if value.ndim > 1) < 200
    assert not torch.equal(lesions(x)[0], first[0])


def test_the_generator_is_honoured_and_travels_with_copies() -> None:
    x, state = scans(), torch.get_rng_state()
    lesions = SyntheticLesions(generator=seeded())
    copies = copy.deepcopy(lesions), pickle.loads(pickle.dumps(lesions))
    want = lesions(x)
    assert torch.equal(torch.get_rng_state(), state)
    for other in copies:
        assert repr(other) == repr(lesions)
        assert torch.equal(other(x)[0], want[0])
    assert not torch.equal(lesions(x)[0], want[0])


def test_compiles_to_one_graph() -> None:
    lesions = SyntheticLesions()
    compiled = torch.compile(lesions, fullgraph=True, backend="eager")
    for shape in ((5, 1, 40, 52), (3, 1, 64, 48), (2, 1, 20, 20)):
        x = scans(shape[0], size=shape[2:])
        params = lesions.forward_parameters(shape)
        got, want = compiled(x, params=params), lesions(x, params=params)
        torch.testing.assert_close(got[0], want[0], rtol=0, atol=1e-6)
        assert torch.equal(got[1], want[1])
        assert compiled(x)[0].shape == shape


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_single(dtype: torch.dtype) -> None:
    x, lesions = scans().to(dtype), SyntheticLesions()
    params = lesions.forward_parameters(x.shape)
    (half, mask), (single, want) = lesions(x, params=params), lesions(x.float(), params=params)
    assert torch.equal(half, single.to(dtype))
    assert torch.equal(mask, want)


def test_gradients_reach_the_scans() -> None:
    x = scans().requires_grad_()
    SyntheticLesions(generator=seeded())(x)[0].square().sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()
    assert x.grad.abs().sum() > 0


def test_an_empty_batch_and_tiny_scans() -> None:
    images, masks = SyntheticLesions()(torch.rand(0, 1, 20, 30))
    assert images.shape == masks.shape == (0, 1, 20, 30)
    for size in ((1, 1), (2, 7)):
        images, _ = SyntheticLesions()(torch.rand(3, 1, *size))
        assert images.shape == (3, 1, *size)
        assert images.isfinite().all()


def test_bad_settings_and_input() -> None:
    for settings, message in (
        ({"area": (0.0, 1.0)}, "area"),
        ({"area": (0.5, 1.5)}, "area"),
        ({"radius": (0.5, 0.1)}, "radius must be a pair"),
        ({"degrees": 200.0}, "degrees"),
        ({"p": 2.0}, "p must be"),
    ):
        with pytest.raises(ValueError, match=message):
            SyntheticLesions(**settings)  # type: ignore[arg-type]
    lesions, x = SyntheticLesions(), scans()
    with pytest.raises(ValueError, match=r"scans must have shape \(B, 1, H, W\), got \(2, 3, 8, 8\)"):
        lesions(torch.rand(2, 3, 8, 8))
    with pytest.raises(TypeError, match="scans must be a floating point tensor"):
        lesions(torch.zeros(2, 1, 8, 8, dtype=torch.uint8))
    with pytest.raises(ValueError, match="missing: background"):
        lesions(x, params={})
    with pytest.raises(ValueError, match="one row for each of 2 images"):
        lesions(x[:2], params=lesions.forward_parameters(x.shape))
