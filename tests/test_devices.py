"""Every piece on simulated CUDA tensors: no devices mix, results stay there, and hot paths wait for nothing."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import lightning as L
import pytest
import torch
from kornia.augmentation import AugmentationSequential, RandomHorizontalFlip
from torch import Tensor, nn

import pretexts
from simulated import CUDA, Cuda, MixedDevices, UnfinishedCopy
from sslmed import augment, distributed, losses, memory, metrics, models
from sslmed.augment import functional as F
from sslmed.augment import views
from sslmed.augment._base import _OneDraw
from sslmed.augment._spectrum import _cached_planes
from sslmed.metrics import compare


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    torch.manual_seed(0)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)  # asks the driver
    yield
    _cached_planes.cache_clear()  # of simulated tensors


def rand(*shape: int, **settings: Any) -> Tensor:
    return torch.rand(*shape, device="cuda", **settings)


def whole(n: int, classes: int) -> Tensor:
    return torch.arange(n, device="cuda") % classes


def masks(*shape: int) -> Tensor:
    return rand(*shape) < 0.5


def public(room: ModuleType, kind: type) -> set[str]:
    return {name for name in room.__all__ if isinstance(getattr(room, name), kind)}


# The simulation itself: it can fail.


@pytest.mark.parametrize(
    "mix",
    [
        lambda x: x + torch.ones(3),
        lambda x: torch.cat([x, torch.ones(3)]),
        lambda x: x.index_select(0, torch.tensor([1])),
        lambda x: torch.where(torch.ones(3, dtype=torch.bool), x, 0.0),
        lambda x: x.add_(torch.ones(3)),
        lambda x: nn.Linear(3, 1)(x),
    ],
)
def test_two_devices_in_one_operation_raise(mix: Callable[[Tensor], Tensor]) -> None:
    with Cuda(), pytest.raises(MixedDevices):
        mix(rand(3))


@pytest.mark.parametrize(
    ("look", "what"),
    [
        (lambda x: x.sum().item(), "_local_scalar_dense"),
        (lambda x: bool((x > 0).all()), "_local_scalar_dense"),
        (lambda x: x.tolist(), "tolist"),
        (lambda x: x.nonzero(), "nonzero"),
        (lambda x: x[x > 0.5], "index"),
        (lambda x: x[torch.tensor([0])], "index"),
        (lambda x: x.cpu(), "copy to cpu"),
        (lambda x: torch.ones(3).to(x.device), "copy to cuda"),
        (lambda x: torch.tensor([1.0], device=x.device), "copy to cuda"),
        (lambda x: x.copy_(torch.ones(3)), "copy_"),
        (lambda x: torch.equal(x, x), "equal"),
    ],
)
def test_what_waits_is_counted(look: Callable[[Tensor], Any], what: str) -> None:
    with Cuda() as cuda:
        look(rand(3))
    assert len(cuda.waits) == 1
    assert cuda.waits[0].startswith(what)
    assert "test_devices" in cuda.waits[0]


def test_a_copy_that_nobody_waits_for_raises() -> None:
    with Cuda() as cuda:
        with pytest.raises(UnfinishedCopy):
            rand(3).to("cpu", non_blocking=True)
        assert torch.ones(3).to("cuda", non_blocking=True).device == CUDA
    assert not cuda.waits


def test_what_cuda_lacks_raises() -> None:
    with Cuda():
        with pytest.raises(RuntimeError, match="not implemented on CUDA for integers"):
            whole(4, 2).view(2, 2) @ whole(4, 2).view(2, 2)
        with pytest.raises(RuntimeError, match="generator"):
            rand(3, generator=torch.Generator())
        with pytest.raises(RuntimeError, match="CUFFT_INVALID_SIZE"):
            torch.fft.rfft2(rand(0, 1, 8, 8))
        with pytest.raises(TypeError, match="numpy"):
            rand(3).numpy()


def test_values_and_gradients_are_those_of_the_cpu() -> None:
    x = torch.rand(2, 1, 8, 8)
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU())
    with Cuda() as cuda:
        there = copy.deepcopy(net).to("cuda")
        cuda.waits.clear()
        y = there(x.to("cuda", non_blocking=True))
        y.square().sum().backward()
        assert y.device == there[0].weight.grad.device == CUDA
        assert torch.ones(3).to(CUDA).device == CUDA
    assert len(cuda.waits) == 1  # the last line's
    want = net(x)
    want.square().sum().backward()
    torch.testing.assert_close(y.held, want)
    torch.testing.assert_close(there[0].weight.grad.held, net[0].weight.grad)


# Augmentations

AUGMENTATIONS: dict[str, Callable[..., _OneDraw]] = {
    name: getattr(augment, name)
    for name in sorted(augment.__all__)
    if isinstance(getattr(augment, name), type) and issubclass(getattr(augment, name), _OneDraw)
} | {
    "nyquist": lambda **s: augment.FrequencyBandStop(unit="nyquist", **s),
    "random focal": lambda **s: augment.CrossPatchJigsaw(focal="random", **s),
    "gamma": lambda **s: augment.GrayJitter(gamma=0.5, **s),
    "add": lambda **s: augment.Speckle(mode="add", **s),
    "many hidden": lambda **s: augment.RandomPixelMask(ratio=0.5, **s),
    "shadow in a sector": lambda **s: augment.AcousticShadow(apex=(0.4, -0.3), **s),
    "depth in a sector": lambda **s: augment.DepthAttenuation(apex=(0.5, 0.1), **s),
    "haze in a sector": lambda **s: augment.Haze(apex=(0.5, -0.2), **s),
    "echoes in a sector": lambda **s: augment.Reverberation(apex=(0.5, -0.2), **s),
}
every = pytest.mark.parametrize("make", AUGMENTATIONS.values(), ids=AUGMENTATIONS)


@every
@pytest.mark.parametrize(("p", "dtype"), [(1.0, torch.float32), (0.5, torch.bfloat16)])
def test_augmentations_wait_for_nothing_and_do_as_on_the_cpu(
    make: Callable[..., _OneDraw], p: float, dtype: torch.dtype
) -> None:
    x, transform = torch.rand(6, 1, 36, 48, dtype=dtype), make(p=p)
    torch.manual_seed(1)
    want = transform(x)
    with Cuda() as cuda:
        there = x.to("cuda", non_blocking=True).requires_grad_()
        torch.manual_seed(1)
        y = transform(there)
        y.float().square().sum().backward()
        again = transform(there, params=transform._params)
        other = transform(there, params=transform.forward_parameters(there.shape))
    assert not cuda.waits
    assert y.device == again.device == other.device == there.grad.device == CUDA
    assert y.dtype == dtype
    assert torch.equal(y.held, again.held)
    torch.testing.assert_close(y.held, want)


@every
def test_augmentations_take_a_batch_of_none_or_one(make: Callable[..., _OneDraw]) -> None:
    with Cuda() as cuda:
        for batch in (0, 1, 1, 1, 1, 1, 1):  # Speckle adds to some, and reduces others
            assert make()(rand(batch, 1, 36, 48)).shape == (batch, 1, 36, 48)
    assert not cuda.waits


@every
def test_parameters_replay_from_either_device(make: Callable[..., _OneDraw]) -> None:
    x, transform = torch.rand(6, 1, 36, 48), make(p=0.5)
    params = transform.forward_parameters(x.shape)
    want = transform(x, params=params)
    with Cuda():
        moved = {name: value.to("cuda") for name, value in params.items()}
        there = transform(x.to("cuda"), params=moved)
        here = transform(x, params=moved)
    assert there.device == CUDA
    assert here.device == torch.device("cpu")
    torch.testing.assert_close(there.held, want)
    torch.testing.assert_close(here, want)


@every
def test_containers_of_kornia_carry_images_and_masks(make: Callable[..., _OneDraw]) -> None:
    both = AugmentationSequential(RandomHorizontalFlip(), make(p=0.5), data_keys=["input", "mask"])
    x, mask = torch.rand(4, 1, 36, 48), (torch.rand(4, 1, 36, 48) < 0.5).float()
    torch.manual_seed(1)
    want = both(x, mask)
    with Cuda() as cuda:
        torch.manual_seed(1)
        there = both(x.to("cuda", non_blocking=True), mask.to("cuda", non_blocking=True))
    assert not cuda.waits
    for y, expected in zip(there, want, strict=True):
        torch.testing.assert_close(y.held, expected)


@pytest.mark.parametrize("name", sorted(set(views.__all__) - {"correspond"}))
def test_views_wait_for_nothing(name: str) -> None:
    recipe = getattr(views, name)
    settings = {"unit": "nyquist"} if name == "pirl" else {}
    with Cuda() as cuda:
        x, seeded = rand(4, 1, 72, 72), torch.Generator().manual_seed(0)
        made = recipe(48, generator=seeded, **settings)
        params = made.forward_parameters(x.shape)
        results = [*made(x), *made(x, params=params), *recipe(48, **settings)(x)]
        if name == "local_pair":
            points, inside = F.correspond(rand(4, 3, 2), results[2], results[3], size=(48, 48))
            results += [points, inside]
    assert not cuda.waits
    assert all(y.device == CUDA for y in results)


def test_views_of_a_module_that_was_moved_are_those_of_the_cpu() -> None:
    x, made = torch.rand(4, 1, 72, 72), views.simclr(48, generator=torch.Generator())
    params = made.forward_parameters(x.shape)
    want = made(x, params=params)
    with Cuda() as cuda:
        made.to("cuda")
        cuda.waits.clear()
        there = made(x.to("cuda", non_blocking=True), params=params)
    assert not cuda.waits
    for y, expected in zip(there, want, strict=True):
        torch.testing.assert_close(y.held, expected)


FUNCTIONS: dict[str, Callable[[Tensor], Tensor | tuple[Tensor, ...]]] = {
    "acoustic_shadow": lambda x: F.acoustic_shadow(x, x > 0.9, rand(2), apex=(0.5, -0.2)),
    "acquired_matrix": lambda x: F.acquired_matrix((12, 18), rand(2), rand(2)),
    "add_power": lambda x: F.add_power(x, rand(2, 1, 12, 18)),
    "add_spikes": lambda x: F.add_spikes(x, whole(4, 3).view(2, 1, 2), rand(2, 1), rand(2, 1)),
    "apply_bias_field": lambda x: F.apply_bias_field(x, rand(2, 1, 12, 18)),
    "apply_gain": lambda x: F.apply_gain(x, rand(2, 1, 12, 1)),
    "apply_spectral_mask": lambda x: F.apply_spectral_mask(x, masks(2, 1, 12, 10)),
    "band_stop_mask": lambda x: F.band_stop_mask((12, 18), whole(2, 2), whole(2, 2) + 4, whole(2, 2)),
    "beams": lambda x: F.beams((12, 18), apex=(0.5, -0.2), device=x.device),
    "bias_field": lambda x: F.bias_field((12, 18), rand(2, 5)),
    "correspond": lambda x: F.correspond(rand(2, 3, 2), rand(2, 3, 3), rand(2, 3, 3), size=(12, 18)),
    "echo_power": lambda x: F.echo_power(x),
    "gray_jitter": lambda x: F.gray_jitter(x, torch.rand(2), torch.rand(2), torch.rand(2)),
    "join_patches": lambda x: F.join_patches(F.split_patches(x, (3, 2)), (3, 2)),
    "mask_pixels": lambda x: F.mask_pixels(x, masks(2, 1, 12, 18), 0.5),
    "permute_patches": lambda x: F.permute_patches(x, torch.rand(2, 6).argsort(1), (3, 2)),
    "reduce_speckle": lambda x: F.reduce_speckle(x, rand(2)),
    "shadow_profile": lambda x: F.shadow_profile((12, 18), *torch.rand(3, 2), device=x.device),
    "speckle_intensity": lambda x: F.speckle_intensity(
        torch.ones(2, 2, dtype=torch.int32), torch.ones(2), torch.ones(2), (12, 18), device=x.device
    ),
    "split_patches": lambda x: F.split_patches(x, (3, 2)),
}


@pytest.mark.parametrize("name", F.__all__)
def test_functions_of_images_wait_for_nothing(name: str) -> None:
    with Cuda() as cuda:
        result = FUNCTIONS[name](rand(2, 1, 12, 18))
    assert not cuda.waits
    assert all(y.device == CUDA for y in (result if isinstance(result, tuple) else (result,)))


# Losses

Z, QUEUE = (150, 6), (300, 6)  # beyond the plain expressions
LOSSES: dict[str, list[tuple[Callable[..., Tensor], tuple[tuple[int, ...], ...]]]] = {
    "nt_xent": [
        (lambda a, b, s=s: losses.nt_xent(a, b, **s), (Z, Z))
        for s in ({}, {"block_size": 40}, {"block_size": 1000}, {"block_size": 40, "temperature": 0.01})
    ]
    + [(losses.nt_xent, ((8, 6), (8, 6)))],
    "info_nce": [
        (lambda a, b, n, s=s: losses.info_nce(a, b, n, **s), (Z, Z, QUEUE))
        for s in ({}, {"block_size": 40}, {"block_size": 40, "temperature": 0.01})
    ]
    + [(lambda a, b, s=s: losses.info_nce(a, b, rand(*QUEUE), **s), (Z, Z)) for s in ({}, {"block_size": 40})]
    + [
        (lambda a, b: losses.info_nce(a, b, None, ids=whole(150, 9), block_size=40), (Z, Z)),
        (lambda a, b, n: losses.info_nce(a, b, n), ((8, 6), (8, 6), (8, 5, 6))),
        (
            lambda a, b, n: losses.info_nce(
                a, b, n, ids=whole(150, 9), negative_ids=whole(300, 9), block_size=40
            ),
            (Z, Z, QUEUE),
        ),
    ],
    "nce": [(lambda *z: losses.nce(*z, population=50), ((8, 6), (8, 6), (8, 5, 6)))],
    "byol": [(losses.byol, ((8, 6), (8, 6)))],
    "negative_cosine": [(losses.negative_cosine, ((8, 6), (8, 6)))],
    "relation_contrastive": [(losses.relation_contrastive, ((8,), (8, 5)))],
    "masked_l1": [
        (
            lambda a, b, r=r: losses.masked_l1(a, b, masks(2, 1, 8, 8), reduction=r),
            ((2, 1, 8, 8), (2, 1, 8, 8)),
        )
        for r in ("sum", "mean_all")
    ],
    "perceptual": [
        (lambda a, b, m=m: losses.perceptual(a, b, match=m), ((2, 4, 8, 8), (2, 3, 4, 3, 3)))
        for m in ("pool", "adaptive")
    ],
    "local_contrastive": [
        (lambda a, b, g=g: losses.local_contrastive(a, b, generator=g), ((2, 4, 12, 12), (2, 4, 12, 12)))
        for g in (None, torch.Generator())
    ],
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", sorted(losses.functional.__all__))
def test_losses_and_gradients_wait_for_nothing(name: str, dtype: torch.dtype) -> None:
    for loss, shapes in LOSSES[name]:
        with Cuda() as cuda:
            inputs = [rand(*shape, dtype=dtype).requires_grad_() for shape in shapes]
            value = loss(*inputs)
            value.backward()
            assert value.device == CUDA
            assert all(x.grad is None or x.grad.device == CUDA for x in inputs)
        assert not cuda.waits


def test_losses_are_those_of_the_cpu() -> None:
    a, b, n = torch.randn(150, 6), torch.randn(150, 6), torch.randn(300, 6)
    for loss, inputs in ((losses.nt_xent, (a, b)), (losses.info_nce, (a, b, n))):
        for block_size in (None, 40):
            want = loss(*inputs, block_size=block_size)
            with Cuda():
                value = loss(*(x.to("cuda") for x in inputs), block_size=block_size)
            torch.testing.assert_close(value.held, want)


def test_second_derivatives_of_the_block_wise_losses() -> None:
    with Cuda() as cuda:
        for loss in (losses.nt_xent, losses.info_nce):
            a = rand(8, 4).requires_grad_()
            gradient = torch.autograd.grad(loss(a, rand(8, 4), block_size=2), a, create_graph=True)[0]
            gradient.square().sum().backward()
            assert a.grad.device == CUDA
    assert not cuda.waits


def test_masked_l1_waits_once_to_look_at_the_mask() -> None:
    with Cuda() as cuda:
        losses.MaskedL1()(rand(2, 1, 8, 8), rand(2, 1, 8, 8), masks(2, 1, 8, 8))
    assert len(cuda.waits) == 1


def test_the_relation_network_waits_for_nothing() -> None:
    loss = losses.RelationContrastive(6)
    with Cuda() as cuda:
        loss.to("cuda", non_blocking=True)
        loss(rand(8, 6), rand(8, 6), rand(9, 6)).backward()
    assert not cuda.waits
    assert all(x.grad.device == CUDA for x in loss.parameters())


# Memory


def test_a_bank_waits_for_nothing_wherever_the_index_is() -> None:
    with Cuda() as cuda:
        bank = memory.MemoryBank(20, 4).to("cuda", non_blocking=True)
        for index in (torch.arange(5), whole(5, 5)):
            bank.fill(index, rand(5, 4))
            bank.update(index, rand(5, 4))
            drawn = bank.negatives(index, 3, generator=torch.Generator())
            for rows in (bank[index], bank.negatives(index), bank.negatives(index, 3), drawn):
                assert rows.device == CUDA
    assert not cuda.waits


def test_a_bank_on_the_cpu_waits_for_an_index_from_elsewhere() -> None:
    bank = memory.MemoryBank(20, 4)
    with Cuda() as cuda:
        assert torch.equal(bank[whole(5, 5)], bank.vectors[:5])
    assert len(cuda.waits) == 1  # it would read the index before it is there


def test_a_queue_waits_for_nothing() -> None:
    with Cuda() as cuda:
        queue = memory.MomentumQueue(10, 4, with_ids=True).to("cuda", non_blocking=True)
        for n in (3, 4, 5, 25):
            queue.enqueue(rand(n, 4), whole(n, 5))
            assert queue.negatives().device == queue.ids().device == CUDA
            assert len(queue) == min(queue._count, 10)
    assert not cuda.waits


def test_an_average_of_weights_waits_for_nothing() -> None:
    with Cuda() as cuda:
        online = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4)).to("cuda", non_blocking=True)
        target = copy.deepcopy(online)
        for buffers in ("copy", "ema", "keep"):
            for decay in (0.0, 0.9, 1.0):
                memory.update_ema(target, online, decay=decay, buffers=buffers)
    assert not cuda.waits
    assert all(x.device == CUDA for x in target.state_dict().values())


def test_a_gather_of_one_process_is_the_tensor() -> None:
    with Cuda():
        x = rand(3, 4)
        assert distributed.gather(x) is x


# Metrics: they look at values, and come back to where their input is

SCORES: dict[str, Callable[[Callable[..., Tensor]], Tensor]] = {
    **dict.fromkeys(
        (
            "average_surface_distance",
            "balanced_pixel_accuracy",
            "dice",
            "hausdorff",
            "jaccard",
            "pixel_accuracy",
            "pixel_counts",
            "precision",
            "recall",
        ),
        lambda score: score(masks(3, 12, 12), masks(3, 12, 12)),
    ),
    **dict.fromkeys(
        ("balanced_accuracy", "confusion_matrix", "mcc", "sensitivity", "specificity", "weighted_f1"),
        lambda score: score(whole(9, 3), whole(9, 3).flip(0), classes=3),
    ),
    "alignment": lambda score: score(rand(9, 3), rand(9, 3)),
    "average_precision": lambda score: score(rand(9, 3), whole(9, 3)),
    "effective_rank": lambda score: score(rand(9, 3)),
    "feature_std": lambda score: score(rand(9, 3)),
    "roc_auc": lambda score: score(rand(9), whole(9, 2)),
    "surface_dice": lambda score: score(
        masks(3, 12, 12), masks(3, 12, 12), tolerance_mm=1.0, spacing_mm=rand(3, 2) + 0.5
    ),
    "uniformity": lambda score: score(rand(9, 3)),
}


@pytest.mark.parametrize("name", sorted(public(metrics, type(metrics.dice)) - {"summarize"}))
def test_metrics_come_back_to_their_device(name: str) -> None:
    with Cuda():
        assert SCORES[name](getattr(metrics, name)).device == CUDA


def test_summaries_and_comparisons_take_values_of_any_device() -> None:
    with Cuda():
        pred, target = masks(3, 12, 12), masks(3, 12, 12)
        counts = metrics.pixel_counts(pred, target)
        assert metrics.summarize({"dice": metrics.dice(pred, target)}, counts=counts).rows[0].cases == 3
        assert 0 <= compare.paired(rand(9), rand(9)).p_value <= 1


# Networks

NETWORKS: dict[str, Callable[[], list[tuple[nn.Module, tuple[int, ...]]]]] = {
    "ImageHead": lambda: [(models.ImageHead(8), (4, 8, 2, 2))],
    "PatchHead": lambda: [
        (models.PatchHead(8, patches=9, style=style), (4, 9, 8)) for style in ("concat_linear", "two_stage")
    ],
    "PredictionHead": lambda: [(models.PredictionHead(8, 8), (4, 8))],
    "ProjectionHead": lambda: [(models.ProjectionHead(8, 8, 4, batch_norm=True), (4, 8))],
    "ResNetEncoder": lambda: [
        (models.ResNetEncoder(name, width=4), (2, 1, 36, 40)) for name in ("resnet18", "resnet50")
    ],
    "ResUNet": lambda: [(models.ResUNet(width=4), (2, 1, 36, 40))],
    "UNet": lambda: [(models.UNet(width=4), (2, 1, 36, 40))],
}


@pytest.mark.parametrize("name", sorted(public(models, type) - {"MatchReport"}))
def test_networks_wait_for_nothing(name: str) -> None:
    for network, shape in NETWORKS[name]():
        with Cuda() as cuda:
            network.to("cuda", non_blocking=True)
            y = network(rand(*shape))
            y = y[-1] if isinstance(y, list) else y
            y.square().mean().backward()
        assert not cuda.waits
        assert y.device == CUDA
        assert all(x.grad is None or x.grad.device == CUDA for x in network.parameters())


def test_weights_come_from_either_device() -> None:
    saved = models.ResNetEncoder(width=4)
    with Cuda():
        first = models.ResNetEncoder(width=4).to("cuda")
        models.load_encoder(first, saved.state_dict())
        second = models.ResNetEncoder(width=4)
        models.load_encoder(second, first.state_dict())
        assert next(first.parameters()).device == CUDA
    for name, value in saved.state_dict().items():
        assert torch.equal(second.state_dict()[name], value)


# The examples' pretext methods


@pytest.mark.parametrize("name", pretexts.METHODS)
def test_training_steps_of_the_examples(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    logged: dict[str, Any] = {}
    monkeypatch.setattr(L.LightningModule, "log_dict", lambda self, terms, **_: logged.update(terms))
    monkeypatch.setattr(L.LightningModule, "log", lambda self, key, value, **_: logged.update({key: value}))
    recipe = views.intensity_only() if name == "regional" else views.simclr(32)
    module = pretexts.method(name, views=recipe, plain=name != "regional")
    with Cuda() as cuda:
        module.to("cuda")
        cuda.waits.clear()
        for _ in range(2):  # the queue is empty at the first
            loss = module.training_step([rand(4, 1, 32, 32), whole(4, 4)], 0)
            loss.backward()
    # Of hidden pixels there is a mask that was drawn on the CPU, and the loss looks at it.
    assert not [wait for wait in cuda.waits if name != "masked"]
    assert loss.device == CUDA
    assert all(not isinstance(x, Tensor) or x.device == CUDA for x in logged.values())
    assert all(x.grad is None or x.grad.device == CUDA for x in module.parameters())
