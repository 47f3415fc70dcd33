"""What every augmentation keeps, over all classes from one list."""

from __future__ import annotations

import copy
import pickle
import re
from collections.abc import Callable

import kornia.augmentation as K
import pytest
import torch
from torch import nn

from sslmed.augment import (
    AcousticShadow,
    BiasField,
    CrossPatchJigsaw,
    DepthAttenuation,
    FrequencyBandStop,
    GibbsRinging,
    GrayJitter,
    Haze,
    KSpaceSpike,
    PatchJigsaw,
    RandomPatchMask,
    RandomPixelMask,
    Reverberation,
    Speckle,
)
from sslmed.augment._base import Intensity, Rearrangement
from sslmed.augment._blur import Blur
from sslmed.augment._noise import Noise

Make = Callable[..., Intensity | Rearrangement]


def band_stop(**settings: object) -> FrequencyBandStop:
    return FrequencyBandStop(radius=(2, 9), cross=(0, 5), cross_from=3, **settings)  # type: ignore[arg-type]


def band_stop_nyquist(**settings: object) -> FrequencyBandStop:
    return FrequencyBandStop(unit="nyquist", **settings)  # type: ignore[arg-type]


def cross_random(**settings: object) -> CrossPatchJigsaw:
    return CrossPatchJigsaw(focal="random", **settings)  # type: ignore[arg-type]


def jitter(**settings: object) -> GrayJitter:
    return GrayJitter(gamma=0.5, **{"p": 1.0, **settings})  # type: ignore[arg-type]


def blur(**settings: object) -> Blur:
    return Blur(sigma=(0.5, 1.5), **{"p": 1.0, **settings})  # type: ignore[arg-type]


def noise(**settings: object) -> Noise:
    return Noise(strength=(0.1, 0.3), **{"p": 1.0, **settings})  # type: ignore[arg-type]


def three_spikes(**settings: object) -> KSpaceSpike:
    return KSpaceSpike(spikes=3, **settings)  # type: ignore[arg-type]


def speckle_added(**settings: object) -> Speckle:
    return Speckle(mode="add", **settings)  # type: ignore[arg-type]


def speckle_reduced(**settings: object) -> Speckle:
    return Speckle(mode="reduce", **settings)  # type: ignore[arg-type]


def shadow(**settings: object) -> AcousticShadow:
    return AcousticShadow(width=(0.3, 0.6), **settings)  # type: ignore[arg-type]


def shadow_sector(**settings: object) -> AcousticShadow:
    return AcousticShadow(width=(0.3, 0.6), apex=(0.4, -0.3), **settings)  # type: ignore[arg-type]


def attenuation_sector(**settings: object) -> DepthAttenuation:
    return DepthAttenuation(apex=(0.5, 0.1), **settings)  # type: ignore[arg-type]


def haze_sector(**settings: object) -> Haze:
    return Haze(apex=(0.5, -0.2), **settings)  # type: ignore[arg-type]


def reverberation_sector(**settings: object) -> Reverberation:
    return Reverberation(apex=(0.5, -0.2), **settings)  # type: ignore[arg-type]


EVERY = [
    band_stop,
    band_stop_nyquist,
    PatchJigsaw,
    CrossPatchJigsaw,
    cross_random,
    jitter,
    blur,
    noise,
    RandomPixelMask,
    RandomPatchMask,
    GibbsRinging,
    KSpaceSpike,
    three_spikes,
    BiasField,
    Speckle,
    speckle_added,
    speckle_reduced,
    shadow,
    shadow_sector,
    DepthAttenuation,
    attenuation_sector,
    Haze,
    haze_sector,
    Reverberation,
    reverberation_sector,
]
every = pytest.mark.parametrize("make", EVERY, ids=lambda make: make.__name__)
VARIANTS = {  # settings of a class that is listed already: its graphs are left to the slow tests
    band_stop_nyquist,
    cross_random,
    three_spikes,
    speckle_added,
    speckle_reduced,
    shadow_sector,
    attenuation_sector,
    haze_sector,
    reverberation_sector,
}
every_graph = pytest.mark.parametrize(
    "make",
    [pytest.param(make, marks=pytest.mark.slow) if make in VARIANTS else make for make in EVERY],
    ids=lambda make: make.__name__,
)


def images(batch: int = 6, channels: int = 1, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(batch + channels)
    return torch.rand(batch, channels, 36, 48, generator=generator).to(dtype)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@every
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize(("channels", "p"), [(1, 0.5), (3, 1.0)])
def test_shape_dtype_and_device_come_back(
    make: Make, dtype: torch.dtype, channels: int, p: float, device: torch.device
) -> None:
    x = images(4, channels, dtype).to(device)
    before = x.clone()
    y = make(p=p)(x)
    assert (y.shape, y.dtype, y.device) == (x.shape, x.dtype, x.device)
    assert torch.equal(x, before)
    assert y.isfinite().all()


@every
def test_half_precision_is_computed_in_single(make: Make) -> None:
    augment, x = make(), images(dtype=torch.bfloat16)
    params = augment.forward_parameters(x.shape)
    assert torch.equal(augment(x, params=params), augment(x.float(), params=params).bfloat16())


@every
@pytest.mark.parametrize("batch", [0, 1])
@pytest.mark.parametrize("p", [1.0, 0.5])
@pytest.mark.parametrize("same_on_batch", [False, True])
def test_batches_of_none_and_one(make: Make, batch: int, p: float, same_on_batch: bool) -> None:
    assert make(p=p, same_on_batch=same_on_batch)(images(batch)).shape == (batch, 1, 36, 48)


@every
def test_single_images_follow_kornia(make: Make) -> None:
    x = images(1)[0]
    assert make()(x).shape == (1, 1, 36, 48)
    assert make(keepdim=True)(x).shape == (1, 36, 48)


@every
def test_p_zero_changes_nothing_and_gives_a_new_tensor(make: Make) -> None:
    x = images()
    y = make(p=0.0)(x)
    assert torch.equal(y, x)
    assert y.data_ptr() != x.data_ptr()


@every
def test_p_is_drawn_for_each_sample(make: Make) -> None:
    gate = make(p=0.3).forward_parameters((4000, 1, 36, 48))["batch_prob"]
    assert abs(gate.mean().item() - 0.3) < 4 * (0.21 / 4000) ** 0.5
    x = images(32)
    augment = make(p=0.5)
    y = augment(x)
    gate = augment._params["batch_prob"] > 0.5
    assert 0 < gate.sum() < 32
    assert torch.equal(y[~gate], x[~gate])
    assert all(not torch.equal(a, b) for a, b in zip(y[gate], x[gate], strict=True))


@every
def test_only_the_selected_rows_are_computed(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    augment, x, seen = make(p=0.5), images(32), []
    transform = augment.transform
    monkeypatch.setattr(augment, "transform", lambda x, params: seen.append(len(x)) or transform(x, params))
    augment(x)
    # Rearrangements compute nothing: they copy all rows in one pass, skipped ones with the identity.
    expected = len(x) if isinstance(augment, Rearrangement) else int(augment._params["batch_prob"].sum())
    assert seen == [expected]


@every
def test_samples_differ_unless_told_otherwise(make: Make) -> None:
    x = images(1).expand(5, 1, 36, 48)
    assert len({y.numpy().tobytes() for y in make()(x)}) == 5
    same = make(same_on_batch=True)(x)
    torch.testing.assert_close(same, same[:1].expand_as(same), rtol=0, atol=1e-6)
    gates = torch.stack([make(p=0.5, same_on_batch=True).forward_parameters(x.shape)["batch_prob"] for _ in range(40)])
    assert (gates.std(dim=1) == 0).all()
    assert 5 < gates[:, 0].sum() < 35


@every
def test_generator_is_honoured_and_the_global_stream_untouched(make: Make) -> None:
    x = images()
    state = torch.get_rng_state()
    a = make(p=0.7, generator=torch.Generator().manual_seed(3))(x)
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(5)
    assert torch.equal(a, make(p=0.7, generator=torch.Generator().manual_seed(3))(x))
    assert not torch.equal(a, make(p=0.7, generator=torch.Generator().manual_seed(4))(x))


@every
def test_sample_does_not_depend_on_the_batch(make: Make) -> None:
    x = images(9)
    for batch in (1, 4):
        a = make(p=0.6, generator=torch.Generator().manual_seed(3))(x)
        b = make(p=0.6, generator=torch.Generator().manual_seed(3))(x[:batch])
        torch.testing.assert_close(b, a[:batch], rtol=0, atol=1e-6)


@every
@pytest.mark.parametrize("p", [1.0, 0.5])
def test_replay_is_exact_and_leaves_the_callers_parameters_alone(make: Make, p: float) -> None:
    augment, x = make(p=p), images()
    params = augment.forward_parameters(x.shape)
    before = {name: value.clone() for name, value in params.items()}
    y = augment(x, params=params)
    assert torch.equal(y, augment(x, params=params))
    assert torch.equal(y, augment(x, params=augment._params))
    assert augment._params is not params
    assert params.keys() == before.keys()
    assert all(torch.equal(params[name], before[name]) for name in before)
    assert torch.equal(y, make(p=p)(x, params=params))
    assert not torch.equal(y, augment(x))


@every
def test_replay_without_a_gate_transforms_all_and_inserts_nothing(make: Make) -> None:
    augment, x = make(p=0.5), images()
    params = augment.forward_parameters(x.shape)
    bare = {name: params[name] for name in augment.names}
    y = augment(x, params=bare)
    assert set(bare) == set(augment.names)
    assert torch.equal(y, make(p=1.0)(x, params=bare))


@every
def test_incomplete_or_misfitting_parameters_raise(make: Make) -> None:
    augment, x = make(), images()
    params = augment.forward_parameters(x.shape)
    with pytest.raises(ValueError, match=f"missing: {augment.names[-1]}"):
        augment(x, params={name: value for name, value in params.items() if name != augment.names[-1]})
    with pytest.raises(ValueError, match="one row for each of 2 images"):
        augment(x[:2], params=params)


@every
def test_misspelt_arguments_raise(make: Make) -> None:
    with pytest.raises(TypeError, match="same_on_btach"):
        make(same_on_btach=True)
    with pytest.raises(TypeError, match="parms"):
        make()(images(), parms={})
    with pytest.raises(ValueError, match="p must be"):
        make(p=1.5)
    with pytest.raises(TypeError, match="generator"):
        make(generator=3)


@every
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.bool, torch.complex64])
def test_images_that_are_not_floating_point_raise(make: Make, dtype: torch.dtype) -> None:
    with pytest.raises(TypeError, match=f"input must be a floating point tensor, got {dtype}"):
        make()(torch.ones(2, 1, 36, 48).to(dtype))


@every
def test_other_things_than_image_batches_raise(make: Make) -> None:
    with pytest.raises(TypeError, match=r"input must be a torch\.Tensor"):
        make()([1.0])
    with pytest.raises(ValueError, match=r"input must have shape \(B, C, H, W\)"):
        make()(torch.rand(1, 1, 2, 36, 48))


@every
@pytest.mark.parametrize("shape", [(2, 1, 36, 0), (2, 1, 0, 48), (0, 1, 0, 0), (2, 0, 36, 48)])
def test_images_without_pixels_or_channels_raise(make: Make, shape: tuple[int, ...]) -> None:
    augment = make(p=0.5)
    params = augment.forward_parameters((shape[0], 1, 36, 48))
    message = "must have channels and pixels, got shape " + re.escape(str(shape))
    for call in (lambda: augment(torch.rand(shape)), lambda: augment(torch.rand(shape), params=params)):
        with pytest.raises(ValueError, match="input " + message):
            call()
    with pytest.raises(ValueError, match="batch_shape " + message):
        augment.forward_parameters(shape)


@every
@pytest.mark.parametrize("p", [1.0, 0.5])
@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64, torch.float32])
def test_masks_inside_augmentation_sequential(make: Make, p: float, dtype: torch.dtype) -> None:
    x = images(8)
    mask = (x * 7).floor().to(dtype)
    before = mask.clone()
    sequence = K.AugmentationSequential(make(p=p), data_keys=["input", "mask"])
    y, moved = sequence(x, mask)
    assert moved.dtype == dtype
    assert torch.equal(mask, before)
    if issubclass(type(sequence[0]), Rearrangement):
        assert torch.equal(moved, (y * 7).floor().to(dtype))
    else:
        assert torch.equal(moved, mask)
    again, moved_again = sequence(x, mask, params=sequence._params)
    assert torch.equal(again, y)
    assert torch.equal(moved_again, moved)


@every
def test_masks_without_a_channel_and_lists_of_masks(make: Make) -> None:
    x = images(4)
    mask = x > 0.5
    sequence = K.AugmentationSequential(make(p=0.5), data_keys=["input", "mask"])
    _, moved = sequence(x, mask)
    _, flat = sequence(x, mask[:, 0], params=sequence._params)
    _, listed = sequence(x, list(mask), params=sequence._params)
    assert torch.equal(flat, moved)
    assert torch.equal(torch.cat(listed), moved)


@every
def test_containers(make: Make) -> None:
    x = images(4)
    one, two = (
        make(generator=torch.Generator().manual_seed(1)),
        make(generator=torch.Generator().manual_seed(1)),
    )
    assert torch.equal(nn.Sequential(one, nn.Identity())(x), K.AugmentationSequential(two)(x))
    sequence = K.AugmentationSequential(make(), same_on_batch=True)
    same = sequence(x[:1].expand(4, -1, -1, -1))
    torch.testing.assert_close(same, same[:1].expand_as(same), rtol=0, atol=1e-6)


@every
def test_boxes_and_keypoints(make: Make) -> None:
    augment, boxes = make(), torch.tensor([[[1.0, 1.0, 5.0, 5.0]]])
    sequence = K.AugmentationSequential(augment, data_keys=["input", "bbox_xyxy"])
    points = K.AugmentationSequential(augment, data_keys=["input", "keypoints"])
    if isinstance(augment, Rearrangement):
        with pytest.raises(NotImplementedError, match="boxes"):
            sequence(images(1), boxes)
        with pytest.raises(NotImplementedError, match="keypoints"):
            points(images(1), torch.ones(1, 2, 2))
        with pytest.raises(NotImplementedError, match="permute_patches"):
            augment.inverse(images(1))
    else:
        assert torch.equal(sequence(images(1), boxes)[1], boxes)


@every_graph
def test_compiles_to_one_graph(make: Make) -> None:
    torch._dynamo.reset()
    augment, x = make(p=0.5), images(5)
    compiled = torch.compile(augment, fullgraph=True, backend="eager")
    params = augment.forward_parameters(x.shape)
    torch.testing.assert_close(compiled(x, params=params), augment(x, params=params), rtol=0, atol=1e-6)
    for batch in (4, 2):
        assert compiled(x[:batch]).shape == x[:batch].shape


@every_graph
def test_a_compiled_call_takes_other_sizes(make: Make) -> None:
    torch._dynamo.reset()
    augment = make()
    compiled = torch.compile(augment, fullgraph=True, backend="eager")
    for height, width in ((36, 48), (60, 72), (72, 60), (66, 66)):
        x = torch.rand(2, 1, height, width)
        params = augment.forward_parameters(x.shape)
        torch.testing.assert_close(compiled(x, params=params), augment(x, params=params), rtol=0, atol=1e-6)


@every_graph
def test_compiles_through_autograd_with_parameters_of_its_own_generator(make: Make) -> None:
    torch._dynamo.reset()
    augment, x = make(generator=torch.Generator().manual_seed(0)), images(3).requires_grad_()
    params = augment.forward_parameters(x.shape)
    y = torch.compile(augment, fullgraph=True, backend="aot_eager")(x, params=params)
    torch.testing.assert_close(y, augment(x, params=params), rtol=0, atol=1e-6)
    y.square().sum().backward()
    (grad,) = torch.autograd.grad(augment(x, params=params).square().sum(), x)
    torch.testing.assert_close(x.grad, grad)


@pytest.mark.parametrize("make", [band_stop, CrossPatchJigsaw], ids=["intensity", "rearrangement"])
def test_container_with_mask_compiles_to_one_graph(make: Make) -> None:
    torch._dynamo.reset()
    flip = K.RandomHorizontalFlip(p=1.0)  # with a gate kornia's own pieces need a later torch than 2.10 for this
    sequence = K.AugmentationSequential(make(p=0.5), flip, data_keys=["input", "mask"])
    y, mask = torch.compile(sequence, fullgraph=True, backend="eager")(images(), images() > 0.5)
    assert y.shape == mask.shape == images().shape


@every
def test_pickle_and_deepcopy_keep_settings_and_generator(make: Make) -> None:
    augment, x = make(p=0.5, generator=torch.Generator().manual_seed(5)), images()
    copies = copy.deepcopy(augment), pickle.loads(pickle.dumps(augment))
    y = augment(x)
    for other in copies:
        assert repr(other) == repr(augment)
        assert torch.equal(other(x), y)


@every
def test_gradients_reach_the_image(make: Make) -> None:
    x = images(4).requires_grad_()
    make(p=0.5, generator=torch.Generator().manual_seed(0))(x).square().sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()
    assert x.grad.abs().sum() > 0


@every
@pytest.mark.filterwarnings("ignore:There is a performance drop")
def test_vmap_gives_the_same_as_a_loop(make: Make) -> None:
    augment, x = make(), images(3)
    params = augment.forward_parameters((1, 1, 36, 48))

    def changed(image: torch.Tensor) -> torch.Tensor:
        return augment(image[None], params=params)[0]

    torch.testing.assert_close(
        torch.func.vmap(changed)(x), torch.stack([changed(image) for image in x]), rtol=0, atol=1e-5
    )


@every
def test_parameters_on_another_device_are_moved(make: Make, device: torch.device) -> None:
    augment, x = make(p=0.5), images(6)
    params = augment.forward_parameters(x.shape)
    here = augment(x, params=params)
    there = augment(x.to(device), params=params)
    back = augment(x, params={name: value.to(device) for name, value in params.items()})
    torch.testing.assert_close(there.cpu(), here, rtol=0, atol=1e-5)
    torch.testing.assert_close(back, here, rtol=0, atol=1e-5)


@every
def test_draws_do_not_follow_the_default_device(make: Make) -> None:
    augment = make(p=0.5)
    with torch.device("meta"):
        params = augment.forward_parameters((3, 1, 36, 48))
    assert {value.device.type for value in params.values()} == {"cpu"}


@every
def test_non_contiguous_images(make: Make) -> None:
    augment, x = make(), images(4, 3)
    params = augment.forward_parameters(x.shape)
    y = augment(x, params=params)
    torch.testing.assert_close(augment(x.to(memory_format=torch.channels_last), params=params), y, rtol=0, atol=1e-6)
    turned = x.transpose(2, 3).contiguous().transpose(2, 3)
    torch.testing.assert_close(augment(turned, params=params), y, rtol=0, atol=1e-6)


@every
def test_inference_mode_and_training_mix(make: Make) -> None:
    augment, x = make(), images(2)
    params = augment.forward_parameters(x.shape)
    with torch.inference_mode():
        y = augment(x, params=params)
    torch.testing.assert_close(augment(x.clone().requires_grad_(), params=params).detach(), y, rtol=0, atol=1e-6)


@every
@pytest.mark.filterwarnings("ignore:FrequencyBandStop leaves")
def test_what_is_refused_does_not_depend_on_the_draw(make: Make) -> None:
    shapes = [(8, 2, 36, 48), (8, 1, 6, 6), (8, 1, 3, 3), (8, 1, 1, 48), (8, 1, 35, 47)]
    cases = [torch.ones(shape) for shape in shapes] + [torch.ones(8, 1, 36, 48, dtype=torch.int64)]
    for x in cases:
        outcomes = {outcome(make(p=p), x) for p in (0.0, 0.3, 1.0)}
        assert len(outcomes) == 1, (x.shape, outcomes)


@pytest.mark.parametrize("make", [RandomPixelMask, RandomPatchMask])
def test_a_mask_of_another_size_is_refused_whatever_the_gate(make: Make) -> None:
    augment, x = make(p=0.5), images(4)
    params = augment.forward_parameters((4, 1, 24, 24))
    for gate in (torch.zeros(4), torch.tensor([0.0, 1.0, 0.0, 0.0]), torch.ones(4)):
        with pytest.raises(ValueError, match=r"mask.* must have shape"):
            augment(x, params={**params, "batch_prob": gate})


def outcome(augment: nn.Module, x: torch.Tensor) -> tuple[str, ...]:
    """What a call raises; its message names no draw."""
    try:
        augment(x)
    except Exception as error:
        message = re.sub(r"\((0|\d),", "(B,", str(error))
        return type(error).__name__, re.sub(r"got shape.*|, got .*|[0-9]+", "", message)
    return ("fine",)
