"""Images and masks augmented together: what moves together, what is drawn, and its replay."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import Tensor

from sslmed.augment import GrayJitter, PatchJigsaw, RandomPixelMask, views
from sslmed.augment._affine import Affine
from sslmed.augment._geometry import Crop, Flip
from sslmed.augment.joint import JointView

STILL = {"degrees": 0.0, "zoom": (1.0, 1.0), "hflip": 0.0}
PLAIN = {"brightness": 0.0, "contrast": 0.0, "gamma": 0.0, "blur": 0.0, "noise": (0.0, 0.0)}


def seeded(seed: int = 3) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def discs(batch: int = 8, size: tuple[int, int] = (60, 72)) -> Tensor:
    """A disc (B, 1, H, W) in each image, at different places."""
    down, right = torch.arange(size[0])[:, None], torch.arange(size[1])
    places = torch.rand(batch, 2, 1, 1, generator=seeded(0)) * 30 + 15
    return (((down - places[:, 0]).square() + (right - places[:, 1]).square()) < 100).unsqueeze(1)


def test_masks_move_with_their_images() -> None:
    masks = discs(64)
    images, moved = views.segmentation(64, generator=seeded(), **PLAIN)(masks.double(), masks)  # type: ignore[arg-type]
    assert moved.dtype == torch.bool
    assert ((images > 0.5) != moved).double().mean() < 0.01
    assert moved.any(dim=(1, 2, 3)).double().mean() > 0.9
    still = torch.nn.functional.interpolate(masks.float(), (64, 64)).bool()
    assert (moved != still).any(dim=(1, 2, 3)).all()


def test_geometry_can_be_left_out() -> None:
    x, masks = torch.rand(4, 1, 48, 48), discs(4, (48, 48))
    images, moved = views.segmentation(48, **STILL)(x, masks)  # type: ignore[arg-type]
    assert torch.equal(moved, masks)
    assert not torch.allclose(images, x)
    images, moved = views.segmentation(48, **STILL, **PLAIN)(x, masks)  # type: ignore[arg-type]
    torch.testing.assert_close(images, x)


def test_values_of_images_change_and_masks_do_not_follow() -> None:
    x = torch.rand(200, 1, 32, 32)
    view = views.segmentation(32, generator=seeded(), **STILL)  # type: ignore[arg-type]
    images, _ = view(x, x > 0.5)
    changed = (images - x).abs().amax((1, 2, 3)) > 1e-3
    assert 0.9 < changed.float().mean() <= 1.0
    assert images.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.float32])
def test_labels_stay_labels(dtype: torch.dtype) -> None:
    labels = torch.tensor([0, 3, 7])[torch.randint(3, (6, 2, 40, 40), generator=seeded())].to(dtype)
    _, moved = views.segmentation(40, generator=seeded())(torch.rand(6, 1, 40, 40), labels)
    assert moved.shape == (6, 2, 40, 40)
    assert moved.dtype == dtype
    assert set(moved.unique().tolist()) <= {0, 3, 7}


@pytest.mark.parametrize(("modality", "flips"), [("ultrasound", 0.5), ("mr", 0.0), ("mammography", 0.5)])
def test_flips_are_those_of_the_modality(modality: str, flips: float) -> None:
    across = torch.linspace(1, 2, 32).expand(400, 1, 32, 32)
    view = views.segmentation(32, modality=modality, degrees=0.0, zoom=(1.0, 1.0), noise=(0, 0), generator=seeded())
    images, labels = view(across, (across * 100).long())
    flipped = images[:, 0, 16, -1] < images[:, 0, 16, 0]
    assert abs(flipped.float().mean() - flips) < 0.1
    assert torch.equal(flipped, labels[:, 0, 16, -1] < labels[:, 0, 16, 0])


def test_what_comes_from_beyond_is_the_least_value_and_no_label() -> None:
    x = torch.rand(20, 1, 40, 40) + 3
    images, masks = views.segmentation(40, zoom=(0.5, 0.5), generator=seeded(), **PLAIN)(x, torch.ones_like(x) > 0)  # type: ignore[arg-type]
    assert images.min() >= 3
    assert 0.15 < masks.float().mean() < 0.3
    torch.testing.assert_close(images.masked_select(~masks).view(-1).amin(), x.amin(), rtol=0, atol=0.05)


def test_the_views_range_follows_that_of_the_images() -> None:
    x, masks = torch.rand(6, 1, 40, 40, dtype=torch.float64), discs(6, (40, 40))
    view = views.segmentation(40)
    params = view.forward_parameters(x.shape)
    torch.testing.assert_close(view(1000 * x, masks, params)[0], 1000 * view(x, masks, params)[0])


def test_replay_is_exact_and_the_generator_honoured() -> None:
    x, masks = torch.rand(5, 1, 40, 52), discs(5, (40, 52))
    view = views.segmentation(32, generator=seeded())
    state = torch.get_rng_state()
    params = view.forward_parameters(x.shape)
    first, again = view(x, masks, params=params), view(x, masks, params=params)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert torch.equal(views.segmentation(32, generator=seeded())(x, masks)[0], first[0])
    assert not torch.equal(view(x, masks)[0], first[0])


@pytest.mark.parametrize("batch", [0, 1, 4])
def test_a_sample_does_not_depend_on_its_batch(batch: int) -> None:
    x, masks = torch.rand(9, 1, 40, 40), discs(9, (40, 40))
    many = views.segmentation(32, generator=seeded())(x, masks)
    few = views.segmentation(32, generator=seeded())(x[:batch], masks[:batch])
    torch.testing.assert_close(few[0], many[0][:batch], rtol=0, atol=1e-6)
    assert torch.equal(few[1], many[1][:batch])


def same_and_own() -> JointView:
    return JointView(
        Affine(32, degrees=20, zoom=(1, 1.2)),
        GrayJitter(same_on_batch=True, p=0.5),
        RandomPixelMask(ratio=0.3, same_on_batch=True),
        GrayJitter(p=1.0),
        generator=seeded(),
    )


def test_a_member_may_draw_once_for_the_batch() -> None:
    view, gates = same_and_own(), []
    for _ in range(40):
        params = view.forward_parameters((4, 1, 40, 52))
        gates.append(params["1.batch_prob"])
        for name, value in params.items():
            if name.startswith(("1.", "2.")):
                assert torch.equal(value, value[:1].expand_as(value)), name
            elif name.startswith(("0.affine", "3.brightness")):
                assert len(value.unique(dim=0)) == 4, name
    assert 5 < torch.stack(gates)[:, 0].sum() < 35
    x = torch.rand(1, 1, 24, 24).expand(4, -1, -1, -1)
    images, _ = JointView(GrayJitter(same_on_batch=True, p=1.0))(x, x > 0.5)
    assert torch.equal(images, images[:1].expand_as(images))
    assert not torch.allclose(images, x)


@pytest.mark.parametrize("batch", [0, 1, 4])
def test_one_draw_for_the_batch_does_not_depend_on_its_size_and_replays(batch: int) -> None:
    x, masks = torch.rand(9, 1, 40, 52), discs(9, (40, 52))
    many, few = same_and_own()(x, masks), same_and_own()(x[:batch], masks[:batch])
    torch.testing.assert_close(few[0], many[0][:batch], rtol=0, atol=1e-6)
    assert torch.equal(few[1], many[1][:batch])
    view = same_and_own()
    params = view.forward_parameters(x.shape)
    again = view(x, masks, params=params)
    assert torch.equal(again[0], many[0])
    assert torch.equal(again[1], many[1])


def test_compiles_to_one_graph() -> None:
    view = views.segmentation(32)
    compiled = torch.compile(view, fullgraph=True, backend="eager")
    for batch in (4, 2):
        x, masks = torch.rand(batch, 1, 40, 52), discs(batch, (40, 52))
        params = view.forward_parameters(x.shape)
        got, want = compiled(x, masks, params=params), view(x, masks, params=params)
        torch.testing.assert_close(got[0], want[0], rtol=0, atol=1e-5)
        assert torch.equal(got[1], want[1])


def test_copies_keep_settings_and_generator() -> None:
    x, masks = torch.rand(3, 1, 40, 40), discs(3, (40, 40))
    view = views.segmentation(32, generator=seeded())
    copies = copy.deepcopy(view), pickle.loads(pickle.dumps(view))
    want = view(x, masks)
    for other in copies:
        assert repr(other) == repr(view)
        assert torch.equal(other(x, masks)[0], want[0])


def test_masks_that_do_not_fit_are_refused() -> None:
    view, x = views.segmentation(32), torch.rand(2, 1, 40, 40)
    for shape in ((3, 1, 40, 40), (2, 1, 40, 41)):
        with pytest.raises(ValueError, match="masks must have the images' batch and size"):
            view(x, torch.ones(shape) > 0)
    with pytest.raises(ValueError, match=r"masks must have shape \(B, K, H, W\)"):
        view(x, x[:, 0] > 0)
    with pytest.raises(ValueError, match="modality must be one of"):
        views.segmentation(32, modality="ct")
    with pytest.raises(ValueError, match="zoom"):
        views.segmentation(32, zoom=(0.0, 1.0))
    with pytest.raises(ValueError, match="missing"):
        view(x, x > 0.5, params={})
    with pytest.raises(TypeError, match=r"members\[1\] must change values or move pixels by a matrix, got PatchJigsaw"):
        JointView(Flip(3, p=1.0), PatchJigsaw())  # type: ignore[arg-type]


def test_what_is_refused_does_not_depend_on_the_draw() -> None:
    for seed in range(8):  # gray values change with a probability of 0.8
        view = views.segmentation(8, generator=torch.Generator().manual_seed(seed))
        with pytest.raises(ValueError, match="x must have 1 or 3 channels"):
            view(torch.rand(1, 2, 8, 8), torch.rand(1, 1, 8, 8) > 0.5)


def test_a_crop_takes_its_masks_along() -> None:
    masks = discs(8)
    view = JointView(Crop(32, scale=(0.3, 0.8)), Flip(2, p=0.5), generator=seeded())
    images, moved = view(masks.float(), masks)
    assert images.shape == moved.shape == (8, 1, 32, 32)
    assert ((images > 0.5) != moved).float().mean() < 0.02


def test_members_that_hide_pixels_replay_too() -> None:
    x, masks = torch.rand(4, 1, 40, 52), discs(4, (40, 52))
    view = JointView(Affine(32, degrees=20, zoom=(1, 1)), RandomPixelMask(ratio=0.3), GrayJitter())
    params = view.forward_parameters(x.shape)
    assert params["1.mask"].shape == (4, 1, 32, 32)
    first, again = view(x, masks, params=params), view(x, masks, params=params)
    assert torch.equal(first[0], again[0])


@pytest.mark.parametrize("size", [(48, 48), (40, 56)])
def test_the_matrix_of_a_turn_takes_a_pixel_to_its_view(size: tuple[int, int]) -> None:
    down, right = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) for n in size), indexing="ij")
    x = torch.stack([right, down]).expand(6, 2, *size)
    turn = Affine(32, degrees=40.0, zoom=(1.5, 3.0))
    params = turn.forward_parameters(x.shape)
    source = turn(x, params=params)[:, :, 15, 17]
    matrix = turn.transform_matrix
    there = (matrix @ torch.cat([source, torch.ones(6, 1, dtype=source.dtype)], dim=1)[..., None]).squeeze(2)
    torch.testing.assert_close(there[:, :2], torch.tensor([17.0, 15.0]).double().expand(6, 2), rtol=0, atol=1e-4)


def test_angles_and_magnifications_are_as_set() -> None:
    affine = Affine(8, degrees=25.0, zoom=(0.65, 1.5)).forward_parameters((4000, 1, 40, 40))["affine"]
    zoom = affine[:, :, :2].det().rsqrt()
    angle = torch.atan2(affine[:, 0, 1], affine[:, 0, 0]).rad2deg()
    assert 0.65 - 1e-3 < zoom.min() < 0.67
    assert 1.47 < zoom.max() < 1.5 + 1e-3
    assert abs(zoom.log().mean() - torch.tensor([0.65, 1.5]).log().mean()) < 0.02
    assert 24 < angle.max() < 25.01
    assert -25.01 < angle.min() < -24
    # The part seen lies in the image, or the image in what is seen.
    assert (affine[:, :, 2].abs() <= (1 - 1 / zoom).abs()[:, None] + 1e-5).all()
