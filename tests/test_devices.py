"""Every piece on simulated CUDA tensors: no devices mix, results stay there, and hot paths wait for nothing."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from kornia.augmentation import AugmentationSequential, RandomHorizontalFlip
from torch import Tensor, nn

import collected
import pieces
import pretexts
from pieces import AUGMENTATIONS, FUNCTIONS, LOSSES, NETWORKS, SCORES, masks, public, rand, whole
from simulated import CUDA, Cuda, MixedDevices, UnfinishedCopy
from sslmed import distributed, losses, memory, metrics, models
from sslmed.augment import SyntheticLesions, views
from sslmed.augment import functional as F
from sslmed.augment._base import _OneDraw
from sslmed.metrics import compare


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    torch.manual_seed(0)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)  # asks the driver
    pieces.begin(device="cuda")
    yield
    pieces.begin()


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
            torch.rand(3, device="cuda", generator=torch.Generator())
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


@pytest.mark.parametrize("name", sorted(set(views.__all__) - {"correspond", "segmentation"}))
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


def test_images_and_masks_wait_for_nothing_and_are_those_of_the_cpu() -> None:
    x, lesions, view = torch.rand(4, 1, 40, 48), SyntheticLesions(), views.segmentation(32)
    params, joint = lesions.forward_parameters(x.shape), view.forward_parameters(x.shape)
    want = view(*lesions(x, params=params), params=joint)
    with Cuda() as cuda:
        there = x.to("cuda", non_blocking=True)
        got = view(*lesions(there, params=params), params=joint)
        images, masks = view(*lesions(there))
    assert not cuda.waits
    assert images.device == masks.device == CUDA
    for y, expected in zip(got, want, strict=True):
        torch.testing.assert_close(y.held, expected)


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


@pytest.mark.parametrize("name", F.__all__)
def test_functions_of_images_wait_for_nothing(name: str) -> None:
    with Cuda() as cuda:
        result = FUNCTIONS[name](rand(2, 1, 12, 18))
    assert not cuda.waits
    assert all(y.device == CUDA for y in (result if isinstance(result, tuple) else (result,)))


# Losses


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


def test_a_queue_waits_for_its_count_until_it_is_surely_full() -> None:
    with Cuda() as cuda:
        queue = memory.MomentumQueue(10, 4, with_ids=True).to("cuda", non_blocking=True)
        came = 0
        for n in (3, 4, 5, 25, 1, 9):
            queue.enqueue(rand(n, 4), whole(n, 5))
            came += n
            assert not cuda.waits
            assert queue.negatives().device == queue.ids().device == CUDA
            assert len(queue) == min(came, 10)
            assert len(cuda.waits) == (3 if came < 20 else came == 37)  # the one that found it full
            cuda.waits.clear()


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


@pytest.mark.parametrize("name", sorted(public(metrics, type(metrics.dice)) - {"summarize"}))
def test_metrics_come_back_to_their_device(name: str) -> None:
    with Cuda():
        assert SCORES[name](getattr(metrics, name)).device == CUDA


@pytest.mark.parametrize("name", collected.NAMES)
def test_collected_metrics_stay_where_their_cases_are_and_move_with_the_network(name: str) -> None:
    metric, batch = collected.make(name), collected.cases(name)
    with Cuda():
        metric.update(*(x.to("cuda") for x in batch))
        assert metric.compute().device == CUDA
        assert metric.to("cpu").compute().device == torch.device("cpu")


def test_summaries_and_comparisons_take_values_of_any_device() -> None:
    with Cuda():
        pred, target = masks(3, 12, 12), masks(3, 12, 12)
        counts = metrics.pixel_counts(pred, target)
        assert metrics.summarize({"dice": metrics.dice(pred, target)}, counts=counts).rows[0].cases == 3
        assert 0 <= compare.paired(rand(9), rand(9)).p_value <= 1


# Networks


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


# Pretext methods


@pytest.mark.parametrize("name", [*pretexts.METHODS, *pretexts.OUTLINING])
def test_steps_of_methods(name: str) -> None:
    module = pretexts.usual(name)
    with Cuda() as cuda:
        module.to("cuda")
        for queue in (part for part in module.modules() if isinstance(part, memory.MomentumQueue)):
            queue.enqueue(rand(2 * queue.size, queue.keys.shape[1]), whole(2 * queue.size, 5))
            assert len(queue) == queue.size  # from here on it does not read its count
        cuda.waits.clear()
        for _ in range(2):
            loss, logged = module(rand(4, 1, 32, 32), whole(4, 4))
            loss.backward()
            module.after_step()
    # Of hidden pixels there is a mask that was drawn on the CPU, and the loss looks at it; a teacher's outlines that do
    # not count are left out.
    assert not cuda.waits or name in ("masked", "teacher", "self-training")
    assert loss.device == CUDA
    assert all(x.device == CUDA for x in logged.values())
    assert all(x.grad is None or x.grad.device == CUDA for x in module.parameters())


def test_validation_leaves_the_random_numbers_of_its_device_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    forked: list[torch.device] = []

    @contextmanager
    def fork_rng(devices: list[torch.device]) -> Iterator[None]:
        forked.extend(devices)
        yield

    monkeypatch.setattr(torch.random, "fork_rng", fork_rng)
    module = pretexts.usual("simclr")
    with Cuda():
        module.to("cuda").validate([(rand(4, 1, 32, 32), whole(4, 4))])
    assert forked == [CUDA]
