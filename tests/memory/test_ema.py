"""Moving average of weights and its schedule: closed forms, buffers, precision, bad input."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from sslmed.memory import cosine_decay, update_ema


def network(seed: int, dtype: torch.dtype = torch.float64) -> nn.Module:
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5)).to(dtype)
    net(torch.randn(8, 4, dtype=dtype))
    return net


@pytest.mark.parametrize("decay", [0.0, 0.3, 0.9, 0.999, 1.0])
def test_one_step_equals_the_formula(decay: float) -> None:
    target, online = network(0), network(1)
    expected = [
        decay * t + (1 - decay) * o for t, o in zip(target.parameters(), online.parameters(), strict=True)
    ]
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


def test_networks_that_do_not_match() -> None:
    target = network(0)
    with pytest.raises(ValueError, match=r"parameter 1\.bias of target is not in online"):
        update_ema(target, nn.Sequential(nn.Linear(4, 5)).double(), decay=0.5)
    with pytest.raises(
        ValueError, match=r"parameter 0\.weight is \(5, 4\) on cpu in target and \(5, 3\) on cpu"
    ):
        update_ema(target, nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5)), decay=0.5)
    with pytest.raises(ValueError, match="on meta in online"):
        update_ema(target, copy.deepcopy(target).to("meta"), decay=0.5)
    with pytest.raises(ValueError, match=r"decay must be a finite number in \[0, 1\]"):
        update_ema(target, target, decay=1.1)
    with pytest.raises(ValueError, match="buffers must be one of 'copy', 'ema', 'keep', got 'average'"):
        update_ema(target, target, decay=0.5, buffers="average")


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
