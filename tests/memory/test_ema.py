"""Moving average of weights and its schedule: closed forms, buffers, precision, bad input."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import nn

from sslmed.memory import cosine_decay, ema, update_ema
from sslmed.models import ResNetEncoder


def network(seed: int, dtype: torch.dtype = torch.float64) -> nn.Module:
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5)).to(dtype)
    net(torch.randn(8, 4, dtype=dtype))
    return net


@pytest.mark.parametrize("decay", [0.0, 0.3, 0.9, 0.999, 1.0])
def test_one_step_equals_the_formula(decay: float) -> None:
    target, online = network(0), network(1)
    expected = [decay * t + (1 - decay) * o for t, o in zip(target.parameters(), online.parameters(), strict=True)]
    update_ema(target, online, decay=decay)
    for got, want in zip(target.parameters(), expected, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-14, atol=1e-15)
        assert got.requires_grad


def test_the_ends_are_exact() -> None:
    online = network(1)
    frozen, copied = network(0), network(0)
    before = copy.deepcopy(frozen)
    update_ema(frozen, online, decay=1.0, buffers="ema")
    update_ema(copied, online, decay=0.0)
    for name, value in frozen.state_dict().items():
        if value.is_floating_point():
            assert torch.equal(value, before.state_dict()[name])
    for name, value in copied.state_dict().items():
        assert torch.equal(value, online.state_dict()[name])


def test_at_the_ends_the_side_without_weight_does_not_count() -> None:
    frozen, online = network(0), network(1)
    before = copy.deepcopy(frozen.state_dict())
    torch.nn.init.constant_(online[0].weight, torch.nan)
    update_ema(frozen, online, decay=1.0, buffers="keep")
    assert all(torch.equal(value, before[name]) for name, value in frozen.state_dict().items())
    update_ema(online, frozen, decay=0.0)
    assert all(torch.equal(value, before[name]) for name, value in online.state_dict().items())


def test_many_steps_towards_a_constant() -> None:
    target, online = network(0), network(1)
    start = [t.detach().clone() for t in target.parameters()]
    for _ in range(1000):
        update_ema(target, online, decay=0.999)
    for t, t0, w in zip(target.parameters(), start, online.parameters(), strict=True):
        torch.testing.assert_close(t, w + 0.999**1000 * (t0 - w), rtol=0, atol=1e-13)
    assert pytest.approx(0.367695, abs=1e-6) == 0.999**1000


def test_buffers() -> None:
    online = network(1)
    online(torch.randn(8, 4, dtype=torch.float64))
    for mode in ("copy", "ema", "keep"):
        target = network(0)
        before = copy.deepcopy(target[1])
        update_ema(target, online, decay=0.75, buffers=mode)
        weight = {"copy": 0.0, "ema": 0.75, "keep": 1.0}[mode]
        for name in ("running_mean", "running_var"):
            expected = weight * getattr(before, name) + (1 - weight) * getattr(online[1], name)
            torch.testing.assert_close(getattr(target[1], name), expected)
        assert target[1].num_batches_tracked == (1 if mode == "keep" else 2)


def test_a_float32_target_of_a_half_precision_network_keeps_small_steps() -> None:
    target, online = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
    target.weight.data.fill_(1.0)
    online.weight.data.fill_(1.5)
    online = online.half()
    for _ in range(100):
        update_ema(target, online, decay=0.9999)
    assert target.weight.item() == pytest.approx(1.5 - 0.5 * 0.9999**100, abs=1e-5)


def test_no_gradient_reaches_the_online_network() -> None:
    target, online = network(0), network(1)
    update_ema(target, online, decay=0.5)
    target(torch.randn(8, 4, dtype=torch.float64)).sum().backward()
    assert all(p.grad is None for p in online.parameters())


def test_shared_weights_move_once() -> None:
    target, online = network(0), network(1)
    before, new = target[0].weight.detach().clone(), online[0].weight.detach()
    for net in (target, online):
        net.append(nn.Linear(4, 5).double())
        net[2].weight = net[0].weight
    update_ema(target, online, decay=0.5)
    torch.testing.assert_close(target[2].weight, (before + new) / 2)


class Ordered(nn.Module):
    """Two weights of one shape and a block used twice, registered in the order of `names`; a bias is left out."""

    def __init__(self, names: str, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        values = {"a": torch.randn(3), "b": torch.randn(3)}
        block = nn.Sequential(nn.Linear(2, 2, bias=False))
        for name in names:
            self.register_parameter(name, nn.Parameter(values[name]))
        self.first, self.second, self.gap = block, block, None
        self.register_module("none", None)


def test_tensors_are_paired_by_name_whatever_the_order() -> None:
    target, online = Ordered("ab", 0), Ordered("ba", 1)
    before = copy.deepcopy(target)
    update_ema(target, online, decay=0.5)
    for name, value in target.named_parameters():
        expected = (before.get_parameter(name) + online.get_parameter(name)) / 2
        torch.testing.assert_close(value, expected)


def test_modules_without_tensors_may_differ() -> None:
    target, online = nn.Sequential(nn.Linear(2, 2)), nn.Sequential(nn.Linear(2, 2), nn.Dropout())
    update_ema(target, online, decay=0.0)
    assert torch.equal(target[0].weight, online[0].weight)


def test_a_module_that_holds_itself_does_not_hang() -> None:
    target, online = network(0), network(1)
    for net in (target, online):
        net._modules["itself"] = net
    update_ema(target, online, decay=0.0)
    assert torch.equal(target[0].weight, online[0].weight)


def quick_walk_serves(target: nn.Module, online: nn.Module) -> bool:
    return ema._aligned(target, online) is not None


@pytest.mark.parametrize("buffers", ["copy", "ema", "keep"])
def test_the_quick_walk_equals_the_named_path(buffers: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    online, quick = (ResNetEncoder("resnet18", width=8) for _ in range(2))
    online(torch.randn(4, 1, 32, 32))
    named = copy.deepcopy(quick)
    assert quick_walk_serves(quick, online)
    update_ema(quick, online, decay=0.9, buffers=buffers)
    with monkeypatch.context() as patch:
        patch.setattr(ema, "_aligned", lambda *_: None)
        update_ema(named, online, decay=0.9, buffers=buffers)
    for name, value in quick.state_dict().items():
        torch.testing.assert_close(value, named.state_dict()[name], msg=name)


class Shared(nn.Module):
    """A leaf and a block used twice, and a weight with two names, in one order everywhere."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.leaf = self.leaf_again = nn.Linear(3, 3)
        self.block = self.block_again = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
        self.tied, self.untied = nn.Linear(3, 3), nn.Linear(3, 3)
        self.tied.weight = self.untied.weight


@pytest.mark.parametrize("buffers", ["copy", "ema"])
def test_what_is_shared_moves_once(buffers: str) -> None:
    target, online = Shared(0), Shared(1)
    online.block(torch.randn(8, 2))
    before, new = copy.deepcopy(target), online.state_dict()
    update_ema(target, online, decay=0.75, buffers=buffers)
    averaged = {name for name, _ in target.named_parameters(remove_duplicate=False)}
    for name, value in target.state_dict().items():
        old = before.state_dict()[name]
        weight = 0.75 if name in averaged or (buffers == "ema" and value.is_floating_point()) else 0
        torch.testing.assert_close(value, (weight * old + (1 - weight) * new[name]).to(value.dtype), msg=name)


def test_sharing_on_one_side_is_refused() -> None:
    shared, own = Shared(0), Shared(1)
    own.leaf_again = copy.deepcopy(own.leaf)
    with pytest.raises(ValueError, match=r"parameter leaf_again\.bias of online is not in target"):
        update_ema(shared, own, decay=0.5)
    with pytest.raises(ValueError, match=r"parameter leaf_again\.bias of target is not in online"):
        update_ema(own, shared, decay=0.5)


@pytest.mark.parametrize("module", [False, True])
def test_none_on_both_sides_is_left_out(module: bool) -> None:
    target, online = (nn.Sequential(nn.Linear(2, 2, bias=False), nn.BatchNorm1d(2)) for _ in range(2))
    for net in (target, online):
        net[1].running_mean = None
        if module:
            net.register_module("none", None)
    assert quick_walk_serves(target, online) is not module
    update_ema(target, online, decay=0.0)
    assert torch.equal(target[0].weight, online[0].weight)


@pytest.mark.parametrize(
    ("empty", "named"),
    [
        (lambda net: setattr(net[0], "bias", None), r"parameter 0\.bias"),
        (lambda net: setattr(net[1], "running_mean", None), r"buffer 1\.running_mean"),
        (lambda net: net._modules.update({"0": None}), r"parameter 0\.bias"),
    ],
    ids=["parameter", "buffer", "module"],
)
def test_none_on_one_side_is_refused(empty: Callable[[nn.Module], object], named: str) -> None:
    target, online = network(0), network(1)
    before = copy.deepcopy(online.state_dict())
    empty(target)
    with pytest.raises(ValueError, match=f"{named} of online is not in target"):
        update_ema(target, online, decay=0.5)
    with pytest.raises(ValueError, match=f"{named} of target is not in online"):
        update_ema(online, target, decay=0.5)
    assert all(torch.equal(value, before[name]) for name, value in online.state_dict().items())


def test_none_under_another_name_on_each_side_is_refused() -> None:
    target, online = nn.Module(), nn.Module()
    for net, held in ((target, "b"), (online, "a")):
        for name in "ab":
            net.register_parameter(name, nn.Parameter(torch.ones(3)) if name == held else None)
    with pytest.raises(ValueError, match="parameter a of online is not in target"):
        update_ema(target, online, decay=0.5)


def named_like(*names: str) -> nn.Module:
    return nn.ModuleDict({name: nn.Linear(3, 3) for name in names})


@pytest.mark.parametrize("names", [("a", "c"), ("b", "c"), ("a", "b", "c")])
def test_other_names_of_equal_shapes_are_refused(names: tuple[str, ...]) -> None:
    target, online = named_like("a", "b"), named_like(*names)
    with pytest.raises(ValueError, match=r"one architecture, but parameter [abc]\.bias of (target|online) is"):
        update_ema(target, online, decay=0.5)
    target, online = nn.Module(), nn.Module()
    target.register_parameter("a", nn.Parameter(torch.zeros(3)))
    online.register_parameter("b", nn.Parameter(torch.ones(3)))
    with pytest.raises(ValueError, match="parameter a of target is not in online"):
        update_ema(target, online, decay=0.5)
    assert torch.equal(target.a, torch.zeros(3))


def test_modules_in_another_order_are_paired_by_name() -> None:
    target, online = named_like("a", "b"), named_like("b", "a")
    update_ema(target, online, decay=0.0)
    for name, value in target.state_dict().items():
        assert torch.equal(value, online.state_dict()[name])
    assert not torch.equal(target["a"].weight, target["b"].weight)


def test_modules_swapped_between_calls_are_found() -> None:
    target, online = network(0), network(1)
    update_ema(target, online, decay=0.5)
    left, kept = target[0], copy.deepcopy(target[0].state_dict())
    target[0] = nn.Linear(4, 5).double()
    online[0].bias = nn.Parameter(torch.full((5,), 7.0, dtype=torch.float64))
    update_ema(target, online, decay=0.0)
    assert torch.equal(target[0].weight, online[0].weight)
    assert (target[0].bias == 7).all()
    assert all(torch.equal(value, kept[name]) for name, value in left.state_dict().items())
    online[0] = nn.Linear(4, 6).double()
    with pytest.raises(ValueError, match=r"parameter 0\.weight is \(5, 4\) on cpu in target and \(6, 4\)"):
        update_ema(target, online, decay=0.5)


def test_errors_come_before_any_change() -> None:
    for change, message in (
        (
            lambda net: net[1].register_buffer("more", torch.zeros(1)),
            r"buffer 1\.more of online is not in target",
        ),
        (
            lambda net: net[1].register_buffer("running_var", torch.zeros(6)),
            r"buffer 1\.running_var is \(5,\)",
        ),
        (lambda net: setattr(net[1], "bias", None), r"parameter 1\.bias of target is not in online"),
        (
            lambda net: net[1].register_buffer("running_var", torch.zeros(5, dtype=torch.int64)),
            r"dtypes of one kind, but buffer 1\.running_var is torch\.float64 in target and torch\.int64 in online",
        ),
        (
            lambda net: setattr(net[0], "weight", nn.Parameter(net[0].weight.detach().cfloat())),
            r"parameter 0\.weight is torch\.float64 in target and torch\.c",
        ),
    ):
        target, online = network(0), network(1)
        before = copy.deepcopy(target.state_dict())
        change(online)
        with pytest.raises(ValueError, match=message):
            update_ema(target, online, decay=0.5)
        assert all(torch.equal(value, before[name]) for name, value in target.state_dict().items())


def test_integers_cannot_be_averaged() -> None:
    target = nn.Sequential(nn.Linear(2, 2), nn.Module())
    target[1].codes = nn.Parameter(torch.zeros(2, dtype=torch.int8), requires_grad=False)
    with pytest.raises(ValueError, match=r"parameters of floating point, but 1\.codes is torch\.int8"):
        update_ema(target, copy.deepcopy(target), decay=0.5)


def test_networks_that_do_not_match() -> None:
    target = network(0)
    with pytest.raises(ValueError, match=r"parameter 1\.bias of target is not in online"):
        update_ema(target, nn.Sequential(nn.Linear(4, 5)).double(), decay=0.5)
    with pytest.raises(ValueError, match=r"parameter 0\.weight is \(5, 4\) on cpu in target and \(5, 3\) on cpu"):
        update_ema(target, nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5)), decay=0.5)
    with pytest.raises(ValueError, match="on meta in online"):
        update_ema(target, copy.deepcopy(target).to("meta"), decay=0.5)
    with pytest.raises(ValueError, match=r"decay must be a finite number in \[0, 1\]"):
        update_ema(target, target, decay=1.1)
    with pytest.raises(ValueError, match="buffers must be one of 'copy', 'ema', 'keep', got 'average'"):
        update_ema(target, target, decay=0.5, buffers="average")


@pytest.mark.parametrize("alias", [lambda net: net, copy.copy])
def test_a_target_that_is_the_online_network(alias: Callable[[nn.Module], nn.Module]) -> None:
    online = network(0)
    with pytest.raises(ValueError, match="target must have parameters of its own, got online's"):
        update_ema(alias(online), online, decay=0.5)


def test_what_is_no_network() -> None:
    with pytest.raises(TypeError, match=r"online must be a torch\.nn\.Module, got OrderedDict"):
        update_ema(network(0), network(1).state_dict(), decay=0.5)
    with pytest.raises(TypeError, match=r"target must be a torch\.nn\.Module, got NoneType"):
        update_ema(None, network(1), decay=0.5)


def test_the_schedule() -> None:
    values = [cosine_decay(step, 1000, start=0.9) for step in range(1001)]
    assert values[0] == pytest.approx(0.9)
    assert values[500] == pytest.approx(0.95)
    assert values[1000] == 1
    assert values == sorted(values)
    with pytest.raises(ValueError, match=r"step must be in 0\.\.10"):
        cosine_decay(11, 10)
    with pytest.raises(ValueError, match="steps must be at least 1"):
        cosine_decay(0, 0)
    with pytest.raises(ValueError, match="start must be a finite number"):
        cosine_decay(0, 10, start=1.5)
