"""Patch permutations: exact, invertible, uniform; and the cross-patch rule of Ellis et al.."""

from __future__ import annotations

import kornia.augmentation as K
import pytest
import torch
from einops import rearrange
from hypothesis import given, settings
from hypothesis import strategies as st

import reference
from sslmed.augment import CrossPatchJigsaw, PatchJigsaw, jigsaw
from sslmed.augment import _patches as patches
from sslmed.augment.functional import join_patches, permute_patches, split_patches


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


GRIDS = st.tuples(st.integers(1, 6), st.integers(1, 6))


def numbered(batch: int, channels: int, grid: tuple[int, int], tall: int, wide: int) -> torch.Tensor:
    """Images of distinct values."""
    shape = batch, channels, grid[0] * tall, grid[1] * wide
    return torch.arange(torch.Size(shape).numel()).view(shape).double()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 3), st.integers(1, 3), GRIDS, st.integers(1, 4), st.integers(1, 4), st.integers(0, 2**31))
def test_permutation_equals_the_loop_and_its_inverse_restores(
    batch: int, channels: int, grid: tuple[int, int], tall: int, wide: int, seed: int
) -> None:
    x = numbered(batch, channels, grid, tall, wide)
    count = grid[0] * grid[1]
    order = torch.rand(batch, count, generator=torch.Generator().manual_seed(seed)).argsort(1)
    y = permute_patches(x, order, grid)
    for i in range(batch):
        assert torch.equal(y[i], reference.jigsawed(x[i], order[i].tolist(), grid))
        assert torch.equal(y[i].flatten().sort().values, x[i].flatten().sort().values)
    assert torch.equal(permute_patches(y, order.argsort(1), grid), x)
    chosen = split_patches(x, grid).gather(1, order.view(batch, count, 1, 1, 1).expand(-1, -1, channels, tall, wide))
    assert torch.equal(split_patches(y, grid), chosen)
    assert torch.equal(join_patches(split_patches(x, grid), grid), x)


def test_patches_are_counted_row_by_row() -> None:
    patches = split_patches(torch.arange(24.0).view(1, 1, 4, 6), (2, 3))
    assert patches.shape == (1, 6, 1, 2, 2)
    assert patches[0, :, 0, 0, 0].tolist() == [0, 2, 4, 12, 14, 16]


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64, torch.float16, torch.complex64])
def test_pure_functions_take_any_dtype(dtype: torch.dtype) -> None:
    x = (torch.rand(2, 1, 6, 6) * 5).to(dtype)
    order = torch.rand(2, 9).argsort(1)
    y = permute_patches(x, order.int(), (3, 3))
    assert y.dtype == dtype
    assert torch.equal(permute_patches(y, order.argsort(1), (3, 3)), x)


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.float32, torch.float64])
def test_images_that_are_not_contiguous_are_moved_alike(dtype: torch.dtype) -> None:
    x = (torch.rand(7, 2, 9, 14) * 255).to(dtype)[..., 1:, 1:13]
    order, flip = torch.rand(7, 8).argsort(1), torch.randint(0, 4, (7, 8))
    want = patches.gather_patches(x.clone(memory_format=torch.contiguous_format), order, (2, 4), flip)
    for other in (x, x.to(memory_format=torch.channels_last)):
        assert torch.equal(patches.gather_patches(other, order, (2, 4), flip), want)
    assert permute_patches(x[:0], order[:0], (2, 4)).shape == (0, 2, 8, 12)
    if dtype.is_floating_point:
        leaf = x.clone().requires_grad_()
        permute_patches(leaf, order, (2, 4)).square().sum().backward()
        torch.testing.assert_close(leaf.grad, 2 * x)


def test_vmap_over_batches() -> None:
    x, order = torch.rand(3, 2, 1, 6, 6), torch.tensor([[3, 1, 0, 2]]).expand(2, 4)
    moved = torch.func.vmap(lambda image: permute_patches(image, order, (2, 2)))(x)
    assert torch.equal(moved, torch.stack([permute_patches(image, order, (2, 2)) for image in x]))


@pytest.mark.parametrize("focal", ["mirror", "random"])
def test_skipped_images_are_copied_unchanged(focal: str) -> None:
    x = torch.rand(8, 2, 12, 12)
    augment = CrossPatchJigsaw(grid=(4, 4), focal=focal, p=0.5)
    params = {**augment.forward_parameters(x.shape), "batch_prob": torch.tensor([1.0, 0.0] * 4)}
    given = {name: value.clone() for name, value in params.items()}
    y = augment(x, params=params)
    assert torch.equal(y[1::2], x[1::2])
    assert torch.equal(y[::2], CrossPatchJigsaw(grid=(4, 4), focal=focal)(x, params=params)[::2])
    assert all(torch.equal(params[name], given[name]) for name in given)


def test_looked_up_crosses_equal_computed_ones() -> None:
    crossing = torch.arange(15).flip(0)
    for mirror in (False, True):
        found = jigsaw._crosses(crossing, (3, 5), mirror=mirror)
        expected = jigsaw._cross(crossing, (3, 5), mirror=mirror)
        assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    large = CrossPatchJigsaw(grid=(20, 20)).forward_parameters((3, 1, 40, 40))
    assert torch.equal(large["order"].sort(1).values, torch.arange(400).expand(3, 400))
    assert (large["focal"].sum(1) == 39).all()
    assert jigsaw._every_cross.cache_info().currsize <= 8


def test_gradcheck() -> None:
    x = torch.rand(2, 2, 4, 6, dtype=torch.float64, requires_grad=True)
    order = torch.rand(2, 6).argsort(1)
    assert torch.autograd.gradcheck(lambda x: permute_patches(x, order, (2, 3)), (x,))
    assert torch.autograd.gradgradcheck(lambda x: permute_patches(x, order, (2, 3)).square(), (x,))


def test_bad_arguments_raise() -> None:
    x, order = torch.rand(2, 1, 6, 6), torch.arange(9).expand(2, 9)
    for call in (lambda: split_patches(x, (4, 3)), lambda: permute_patches(x, order, (4, 3))):
        with pytest.raises(ValueError, match=r"grid must divide the image size 6 x 6, got \(4, 3\)"):
            call()
    with pytest.raises(ValueError, match="patches must hold 2 x 2 patches"):
        join_patches(torch.rand(1, 9, 1, 2, 2), (2, 2))
    with pytest.raises(ValueError, match=r"order must have shape \(2, 9\)"):
        permute_patches(x, order[:1], (3, 3))
    with pytest.raises(TypeError, match="order must be an integer tensor"):
        permute_patches(x, order.float(), (3, 3))
    with pytest.raises(ValueError, match=r"x must have shape \(B, C, H, W\)"):
        permute_patches(x[0], order, (3, 3))
    with pytest.raises(ValueError, match=r"grid\[0\] must be at least 1"):
        PatchJigsaw(grid=(0, 3))
    with pytest.raises(ValueError, match="grid must be a pair"):
        PatchJigsaw(grid=3)
    with pytest.raises(ValueError, match="focal must be one of"):
        CrossPatchJigsaw(focal="rotate")
    with pytest.raises(ValueError, match="remainder must be one of"):
        PatchJigsaw(remainder="pad")


def test_plain_jigsaw_draws_uniform_permutations() -> None:
    order = PatchJigsaw(grid=(1, 3)).forward_parameters((12000, 1, 3, 3))["order"]
    codes = (order * torch.tensor([9, 3, 1])).sum(1)
    counts = codes.bincount()[codes.unique()]
    assert len(counts) == 6
    assert ((counts - 2000).abs() < 4 * (2000 * 5 / 6) ** 0.5).all()


@pytest.mark.parametrize("grid", [(6, 6), (3, 5), (2, 2), (1, 1)])
@pytest.mark.parametrize("focal", ["mirror", "identity", "random"])
def test_cross_patch_rule(grid: tuple[int, int], focal: str) -> None:
    rows, columns = grid
    augment = CrossPatchJigsaw(grid=grid, focal=focal)
    params = augment.forward_parameters((400, 1, 30 * rows, 30 * columns))
    order, focal_slots = params["order"], params["focal"]
    assert order.shape == focal_slots.shape == (400, rows * columns)
    assert (order.dtype, focal_slots.dtype) == (torch.int64, torch.bool)
    assert (focal_slots.sum(1) == rows + columns - 1).all()
    assert (order.sort(1).values == torch.arange(rows * columns)).all()
    crossings = set()
    for slots, sources in zip(focal_slots, order, strict=True):
        grid_of_slots = slots.view(grid)
        i, j = int(grid_of_slots.all(1).nonzero()[0]), int(grid_of_slots.all(0).nonzero()[0])
        crossings.add((i, j))
        mirrored = reference.mirrored_cross(i, j, grid)
        assert set(mirrored) == set(slots.nonzero().flatten().tolist())
        for slot, source in mirrored.items():
            assert sources[slot] == (source if focal == "mirror" else slot)
        others = (~slots).nonzero().flatten()
        assert torch.equal(sources[others].sort().values, others)
    assert len(crossings) == rows * columns


def test_a_single_row_of_patches_is_all_focal() -> None:
    params = CrossPatchJigsaw(grid=(1, 4)).forward_parameters((50, 1, 4, 16))
    mirrored = [list(dict(sorted(reference.mirrored_cross(0, j, (1, 4)).items())).values()) for j in range(4)]
    assert params["focal"].all()
    assert all(order in mirrored for order in params["order"].tolist())


def test_patches_off_the_cross_are_permuted_uniformly() -> None:
    params = CrossPatchJigsaw(grid=(2, 4)).forward_parameters((24000, 1, 8, 8))
    order, focal = params["order"], params["focal"]
    others = order[~focal].view(-1, 3)
    slots = torch.arange(8).expand_as(order)[~focal].view(-1, 3)
    ranks = (others[:, :, None] == slots[:, None, :]).long().argmax(2)
    codes = (ranks * torch.tensor([9, 3, 1])).sum(1)
    counts = codes.bincount()[codes.unique()]
    assert len(counts) == 6
    assert ((counts - 4000).abs() < 4 * (4000 * 5 / 6) ** 0.5).all()


def test_identity_keeps_focal_patches_in_place_and_the_literal_equation_is_the_identity() -> None:
    x = torch.rand(8, 1, 36, 36)
    patch = x[:, :, :6, :6]
    assert torch.equal(patch.flip(3).flip(2).rot90(2, (2, 3)), patch)
    augment = CrossPatchJigsaw(focal="identity")
    y = augment(x)
    focal = augment._params["focal"]
    assert torch.equal(split_patches(y, (6, 6))[focal], split_patches(x, (6, 6))[focal])
    assert not torch.equal(split_patches(y, (6, 6))[~focal], split_patches(x, (6, 6))[~focal])


def test_mirror_is_the_equation_applied_to_whole_strips() -> None:
    """Flip a strip both ways and turn each of its patches by 180 degrees: the patches' order reverses."""
    strip = torch.rand(1, 1, 6, 36)
    turned = split_patches(strip.flip(3).flip(2), (1, 6)).rot90(2, (3, 4))
    assert torch.equal(join_patches(turned, (1, 6)), permute_patches(strip, torch.arange(5, -1, -1)[None], (1, 6)))


def test_random_flips_each_focal_patch_in_place() -> None:
    x = torch.rand(300, 2, 24, 18)
    augment = CrossPatchJigsaw(focal="random")
    y = augment(x)
    focal, flip, order = (augment._params[name] for name in ("focal", "flip", "order"))
    assert (flip[~focal] == 0).all()
    counts = flip[focal].bincount(minlength=4)
    assert ((counts - 825).abs() < 4 * (825 * 0.75) ** 0.5).all()
    before = split_patches(permute_patches(x, order, (6, 6)), (6, 6))
    after = split_patches(y, (6, 6))
    for code, axes in enumerate([(), (-1,), (-2,), (-2, -1)]):
        assert torch.equal(after[flip == code], before[flip == code].flip(axes))


def test_the_permutation_can_be_read_off_the_image() -> None:
    x = numbered(4, 1, (6, 6), 3, 2)
    augment = CrossPatchJigsaw()
    corners = split_patches(augment(x), (6, 6))[:, :, 0, 0, 0]
    sources = split_patches(x, (6, 6))[:, :, 0, 0, 0]
    found = (corners[:, :, None] == sources[:, None, :]).long().argmax(2)
    assert torch.equal(found, augment._params["order"])


def test_remainder_is_cropped_at_the_centre_for_all_rows_and_masks() -> None:
    x = torch.rand(16, 1, 39, 47)
    mask = x > 0.5
    augment = CrossPatchJigsaw(p=0.5)
    y, moved = K.AugmentationSequential(augment, data_keys=["input", "mask"])(x, mask)
    gate = augment._params["batch_prob"] > 0.5
    centre = x[..., 1:37, 2:44]
    assert y.shape == moved.shape == (16, 1, 36, 42)
    assert torch.equal(moved, y > 0.5)
    assert torch.equal(y[~gate], centre[~gate])
    assert torch.equal(y[gate], permute_patches(centre[gate], augment._params["order"][gate], (6, 6)))
    chain = K.AugmentationSequential(augment, K.RandomCrop((36, 42), p=1.0))
    assert chain(x).shape == (16, 1, 36, 42)


def test_remainder_error_and_too_small_images_raise() -> None:
    with pytest.raises(ValueError, match=r"grid must divide the image size 40 x 36, got \(6, 6\); remainder='crop'"):
        CrossPatchJigsaw(remainder="error")(torch.rand(1, 1, 40, 36))
    with pytest.raises(ValueError, match="grid must divide the image size 4 x 36"):
        CrossPatchJigsaw()(torch.rand(1, 1, 4, 36))


def test_masks_of_several_channels_follow() -> None:
    x, mask = torch.rand(5, 1, 12, 12), torch.randint(0, 9, (5, 4, 12, 12))
    augment = PatchJigsaw(grid=(3, 3))
    _, moved = K.AugmentationSequential(augment, data_keys=["input", "mask"])(x, mask)
    order = augment._params["order"]
    patches = rearrange(mask, "b c (r h) (s w) -> b (r s) c h w", r=3, s=3)
    expected = torch.stack([p[o] for p, o in zip(patches, order, strict=True)])
    assert torch.equal(rearrange(moved, "b c (r h) (s w) -> b (r s) c h w", r=3, s=3), expected)
