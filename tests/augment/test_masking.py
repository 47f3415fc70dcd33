"""Masks: the share they hide, what they leave alone, and the loss that counts them (PAPERS.md 8.12)."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sslmed.augment import RandomPatchMask, RandomPixelMask
from sslmed.augment.functional import mask_pixels
from sslmed.losses import masked_l1


def images(batch: int = 8, channels: int = 1, size: tuple[int, int] = (64, 64)) -> torch.Tensor:
    return torch.randn(batch, channels, *size, generator=torch.Generator().manual_seed(batch))


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def masked(augment: RandomPixelMask | RandomPatchMask, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    params = augment.forward_parameters(x.shape)
    return augment(x, params=params), params["mask"]


# mask_pixels


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 3), st.integers(1, 3), st.integers(1, 9), st.integers(1, 9), st.integers(0, 99), st.data())
def test_mask_pixels_against_a_loop(b: int, c: int, h: int, w: int, seed: int, data: st.DataObject) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(b, c, h, w, generator=generator)
    mask = torch.rand(b, 1, h, w, generator=generator) < 0.5
    shape = [n if data.draw(st.booleans()) else 1 for n in x.shape]
    fill = torch.randn(shape, generator=generator)
    y, whole = mask_pixels(x, mask, fill), fill.expand_as(x)
    for i in range(b):
        for k in range(c):
            for row in range(h):
                for column in range(w):
                    source = whole if mask[i, 0, row, column] else x
                    assert y[i, k, row, column] == source[i, k, row, column]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("fill", [-1.5, torch.full((1, 1, 1, 1), -1.5)], ids=["number", "tensor"])
def test_mask_pixels_is_exact_elsewhere(dtype: torch.dtype, fill: torch.Tensor | float) -> None:
    x = images(2, 3).to(dtype)
    mask = torch.rand(2, 1, 64, 64) < 0.3
    y = mask_pixels(x, mask, fill)
    everywhere = mask.expand_as(x)
    assert y.dtype == dtype
    assert torch.equal(y[~everywhere], x[~everywhere])
    assert (y[everywhere] == -1.5).all()


@pytest.mark.parametrize("fill", [0.0, torch.zeros(1, 1, 1, 1)], ids=["number", "tensor"])
def test_what_lies_under_the_mask_does_not_leak(fill: torch.Tensor | float) -> None:
    mask = torch.zeros(1, 1, 4, 4, dtype=torch.bool)
    mask[..., :2] = True
    for poison in (math.nan, math.inf):
        x = torch.ones(1, 1, 4, 4).masked_fill(mask, poison).requires_grad_()
        y = mask_pixels(x, mask, fill)
        y.square().sum().backward()
        assert y.isfinite().all()
        assert torch.equal(x.grad, (~mask) * 2.0)


def test_mask_pixels_by_gradcheck() -> None:
    x = images(2, 2, (3, 4)).double().requires_grad_()
    fill = torch.randn(2, 1, 3, 1, dtype=torch.float64, requires_grad=True)
    mask = torch.rand(2, 1, 3, 4) < 0.5
    assert torch.autograd.gradcheck(lambda x, fill: mask_pixels(x, mask, fill), (x, fill))


def test_mask_pixels_refuses() -> None:
    x, mask = images(2, 3, (4, 5)), torch.zeros(2, 1, 4, 5, dtype=torch.bool)
    with pytest.raises(TypeError, match=r"mask must be a bool tensor, got torch\.float32"):
        mask_pixels(x, mask.float(), 0)
    with pytest.raises(TypeError, match="mask must be a bool tensor, got list"):
        mask_pixels(x, [True], 0)  # type: ignore[arg-type]
    for wrong in (mask[:1], mask[:, 0], mask.expand(2, 3, 4, 5), mask[..., :4]):
        with pytest.raises(ValueError, match=r"mask must have shape \(2, 1, 4, 5\)"):
            mask_pixels(x, wrong, 0)
    with pytest.raises(ValueError, match=r"fill must be a number or have shape \(2 or 1, 3 or 1, 4 or 1, 5 or 1\)"):
        mask_pixels(x, mask, torch.zeros(2, 2, 4, 5))
    with pytest.raises(ValueError, match=r"fill must be a number or have shape .* got \(\)"):
        mask_pixels(x, mask, torch.tensor(0.0))
    with pytest.raises(TypeError, match="fill must be a floating point tensor"):
        mask_pixels(x, mask, torch.zeros(1, 1, 1, 1, dtype=torch.int64))
    with pytest.raises(ValueError, match="fill must be a finite number"):
        mask_pixels(x.half(), mask, 1e6)
    with pytest.raises(TypeError, match="x must be a floating point tensor"):
        mask_pixels(x.long(), mask, 0)


# RandomPixelMask


@pytest.mark.parametrize("ratio", [0.02, 0.1, 0.75])
def test_share_of_hidden_pixels_is_binomial(ratio: float) -> None:
    _, mask = masked(RandomPixelMask(ratio=ratio), images(64, 3, (48, 80)))
    assert (mask.shape, mask.dtype) == ((64, 1, 48, 80), torch.bool)
    deviation = (ratio * (1 - ratio)) ** 0.5
    assert abs(mask.float().mean() - ratio) < 3 * deviation / mask.numel() ** 0.5
    shares = mask.float().mean(dim=(1, 2, 3)) - ratio
    # Of independent pixels: an exact share for each image, as of patches, would not vary.
    assert 0.6 < shares.std() / (deviation / (48 * 80) ** 0.5) < 1.5
    for shift in (1, 80):
        a, b = mask.flatten(1)[:, :-shift].float() - ratio, mask.flatten(1)[:, shift:].float() - ratio
        assert abs((a * b).mean()) < 4 * deviation**2 / a.numel() ** 0.5


def test_every_place_is_hidden_alike() -> None:
    _, mask = masked(RandomPixelMask(ratio=0.5), images(4000, 1, (4, 6)))
    assert (mask.float().mean(0) - 0.5).abs().max() < 4.5 * 0.5 / 4000**0.5


@pytest.mark.parametrize("ratio", [0.1, 0.5], ids=["made for few places", "made for all places"])
def test_hidden_pixels_are_replaced_by_normal_noise_of_every_channel(ratio: float) -> None:
    x = images(16, 3) + 1000  # replaced, not disturbed
    y, mask = masked(RandomPixelMask(ratio=ratio, sigma=0.01), x)
    assert torch.equal(y[~mask.expand_as(x)], x[~mask.expand_as(x)])
    noise = y.transpose(0, 1)[:, mask[:, 0]] / 0.01  # (3, n)
    n = noise.shape[1]
    assert abs(noise.mean()) < 4.5 / (3 * n) ** 0.5
    assert abs(noise.square().mean() - 1) < 4.5 * (2 / (3 * n)) ** 0.5
    assert abs(((noise.abs() < 1).float().mean() - 0.6827) / 0.466) < 4.5 / (3 * n) ** 0.5
    correlation = torch.corrcoef(noise)
    assert (correlation - torch.eye(3)).abs().max() < 4.5 / n**0.5


def test_noise_does_not_tell_of_the_mask_around_it() -> None:
    # Were both made from one field, few and low numbers would fill the hidden places.
    y, mask = masked(RandomPixelMask(ratio=0.3, sigma=1), torch.zeros(32, 1, 64, 64))
    noise, neighbour = y[..., :-1], mask[..., 1:]
    inside = mask[..., :-1]
    a, b = noise[inside & neighbour], noise[inside & ~neighbour]
    assert abs(a.mean() - b.mean()) < 4.5 * (1 / len(a) + 1 / len(b)) ** 0.5


def test_no_noise_at_sigma_zero_and_no_mask_at_ratio_zero() -> None:
    x = images()
    y, mask = masked(RandomPixelMask(sigma=0), x)
    assert torch.equal(y, x.masked_fill(mask, 0))
    assert torch.equal(RandomPixelMask(ratio=0)(x), x)
    assert torch.equal(RandomPixelMask(ratio=1, sigma=0)(x), torch.zeros_like(x))


def test_masked_l1_takes_the_mask() -> None:
    """PAPERS.md 8.12."""
    x = images(16, 3)
    y, mask = masked(RandomPixelMask(), x)
    everywhere = mask.expand_as(x)
    torch.testing.assert_close(masked_l1(y, x, mask), (y - x)[everywhere].abs().mean())
    assert masked_l1(x, x, mask) == 0
    torch.testing.assert_close(masked_l1(torch.zeros_like(x), x, mask), x[everywhere].abs().mean())
    prediction = y.clone().requires_grad_()
    masked_l1(prediction, x, mask).backward()
    assert (prediction.grad[~everywhere] == 0).all()
    assert (prediction.grad[everywhere] != 0).all()
    other = torch.where(mask, y, torch.full_like(y, math.nan))
    assert torch.equal(masked_l1(other, x, mask), masked_l1(y, x, mask))


# RandomPatchMask


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 70),
    st.integers(1, 70),
    st.integers(1, 16),
    st.floats(0, 1),
    st.integers(0, 2**31),
    st.data(),
)
def test_patches_are_whole_and_counted_exactly(
    height: int, width: int, patch: int, ratio: float, seed: int, data: st.DataObject
) -> None:
    patch = min(patch, height, width)
    augment = RandomPatchMask(ratio=ratio, patch=patch, generator=torch.Generator().manual_seed(seed))
    mask = augment.forward_parameters((3, 1, height, width))["mask"]
    rows, columns = math.ceil(height / patch), math.ceil(width / patch)
    assert mask.shape == (3, 1, height, width)
    corners = mask[:, :, ::patch, ::patch]
    assert corners.shape[2:] == (rows, columns)
    whole = corners.repeat_interleave(patch, 2).repeat_interleave(patch, 3)[:, :, :height, :width]
    assert torch.equal(mask, whole)
    hidden = corners.sum(dim=(1, 2, 3))
    assert (hidden == hidden[0]).all()
    assert abs(hidden[0].item() - ratio * rows * columns) <= 0.5 + 1e-9


def test_border_patches_count_like_any_other() -> None:
    _, mask = masked(RandomPatchMask(ratio=0.25, patch=8), images(4000, 1, (20, 12)))  # 3 x 2, of 6 two hidden
    often = mask[:, 0, ::8, ::8].float().mean(0)
    assert (often - 2 / 6).abs().max() < 4.5 * (2 / 9 / 4000) ** 0.5


def test_hidden_patches_are_zero_and_the_rest_is_kept() -> None:
    x = images(4, 3) + 7
    y, mask = masked(RandomPatchMask(), x)
    assert torch.equal(y, torch.where(mask, 0.0, x))
    assert mask.float().mean(dim=(1, 2, 3)).tolist() == [0.5] * 4
    assert torch.equal(masked_l1(x, x, mask), torch.tensor(0.0))


def test_sets_of_patches_have_equal_chances() -> None:
    _, mask = masked(RandomPatchMask(ratio=0.5, patch=1), torch.ones(12000, 1, 2, 2))
    code = (mask.flatten(1) * torch.tensor([1, 2, 4, 8])).sum(1)
    counts = torch.bincount(code, minlength=16)
    assert counts.nonzero().flatten().tolist() == [3, 5, 6, 9, 10, 12]
    assert ((counts[counts > 0] - 2000) ** 2 / 2000).sum() < 25  # chi-square of 5 degrees of freedom


# the gate


@pytest.mark.parametrize("make", [RandomPixelMask, RandomPatchMask])
def test_the_mask_of_a_skipped_image_is_empty(make: type[RandomPixelMask | RandomPatchMask]) -> None:
    x, augment = images(64), make(p=0.5)
    params = augment.forward_parameters(x.shape)
    y, drawn = augment(x, params=params), params["batch_prob"] > 0.5
    assert torch.equal(params["mask"].flatten(1).any(dim=1), drawn)
    assert torch.equal((y != x).flatten(1).any(dim=1), drawn)
    y = augment(x)
    assert torch.equal((y != x), augment._params["mask"])  # also in the parameters of a plain call
    params["batch_prob"] = torch.ones(64)
    assert torch.equal(augment(x, params=params)[~drawn], x[~drawn])


@pytest.mark.parametrize("make", [RandomPixelMask, RandomPatchMask])
def test_masks_compile_with_their_draw_at_several_sizes(
    make: type[RandomPixelMask | RandomPatchMask],
) -> None:
    torch._dynamo.reset()
    augment = make()

    @torch.compile(fullgraph=True, backend="eager")
    def step(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        params = augment.forward_parameters(x.shape)
        return augment(x, params=params), params["mask"]

    for size in ((32, 40), (40, 32), (36, 36)):
        x = images(2, 1, size)
        y, mask = step(x)
        assert torch.equal(y != x, mask)
        assert mask.any()


@pytest.mark.parametrize(
    ("make", "setting", "error", "match"),
    [
        (RandomPixelMask, {"ratio": 1.5}, ValueError, r"ratio must be a finite number in \[0, 1\], got 1.5"),
        (RandomPixelMask, {"ratio": -0.1}, ValueError, "ratio must be"),
        (RandomPixelMask, {"ratio": "half"}, TypeError, "ratio must be a number"),
        (RandomPixelMask, {"sigma": -1}, ValueError, "sigma must be"),
        (RandomPixelMask, {"sigma": math.inf}, ValueError, "sigma must be"),
        (RandomPatchMask, {"ratio": math.nan}, ValueError, "ratio must be"),
        (RandomPatchMask, {"patch": 0}, ValueError, "patch must be at least 1"),
        (RandomPatchMask, {"patch": 8.0}, TypeError, "patch must be an integer"),
    ],
)
def test_bad_settings_raise(make: type, setting: dict, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        make(**setting)


def test_a_patch_larger_than_the_image_raises() -> None:
    with pytest.raises(ValueError, match="patch must fit in the image of 16 x 64, got 17"):
        RandomPatchMask(patch=17)(images(1, 1, (16, 64)))
    assert RandomPatchMask(patch=16)(images(1, 1, (16, 64))).shape == (1, 1, 16, 64)


@pytest.mark.parametrize("make", [RandomPixelMask, RandomPatchMask])
@pytest.mark.parametrize("p", [1.0, 0.5])
def test_masks_of_another_size_are_not_replayed(make: type[RandomPixelMask | RandomPatchMask], p: float) -> None:
    augment = make(p=p)
    params = {**augment.forward_parameters((2, 1, 32, 40)), "batch_prob": torch.ones(2)}
    with pytest.raises(ValueError, match=r"mask.* must have shape \(2, 1, 16, 40\) .*, got \(2, 1, 32, 40\)"):
        augment(images(2, 1, (16, 40)), params=params)
