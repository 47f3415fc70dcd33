"""Exponential moving average of a network's weights, and the schedule of its decay.

He et al., "MoCo", CVPR 2020, Eq. 2; Grill et al., "BYOL", NeurIPS 2020, section 3.1 and appendix J
(schedule).
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from .. import _checks

Pairs = list[tuple[torch.Tensor, torch.Tensor]]

_BUFFERS = ("copy", "ema", "keep")


@torch.no_grad()
def update_ema(target: nn.Module, online: nn.Module, *, decay: float, buffers: str = "copy") -> None:
    """Move the target network towards the online one: target <- decay target + (1 - decay) online, in place.

    Keep the target in float32 where the online network is in half precision: at a decay of 0.999 a step is
    smaller than half precision can add.

    Args:
        target: the averaged network.
        online: the trained network, of the same architecture.
        decay: weight of the target's old value, in [0, 1]: 0 copies, 1 freezes.
        buffers: what happens to buffers such as BatchNorm's statistics, which the moving average of MoCo's
            reference code leaves behind: "copy" takes the online ones, "ema" averages those of floating point
            and copies the others, "keep" leaves the target's.

    Raises:
        ValueError: networks whose names or shapes differ or that lie on two devices, a decay outside [0, 1],
            or an unknown `buffers`.

    Example:
        >>> import torch
        >>> target, online = torch.nn.Linear(2, 1, bias=False), torch.nn.Linear(2, 1, bias=False)
        >>> _ = target.weight.data.fill_(1.0), online.weight.data.fill_(3.0)
        >>> update_ema(target, online, decay=0.5)
        >>> target.weight
        Parameter containing:
        tensor([[2., 2.]], requires_grad=True)
    """
    decay = _checks.number("decay", decay, low=0, high=1)
    _checks.choice("buffers", buffers, _BUFFERS)
    parameters, statistics = _aligned(target, online) or _matched(target, online)
    averaged = list(parameters)
    copied: Pairs = []
    if buffers != "keep":
        for old, new in statistics:
            (averaged if buffers == "ema" and old.is_floating_point() else copied).append((old, new))
    if averaged:
        olds = [old for old, _ in averaged]
        ends = [new if new.dtype == old.dtype else new.to(old.dtype) for old, new in averaged]
        torch._foreach_lerp_(olds, ends, 1 - decay)
    if copied:
        torch._foreach_copy_([old for old, _ in copied], [new for _, new in copied])


def cosine_decay(step: int, steps: int, *, start: float = 0.996) -> float:
    """BYOL's schedule of the decay: 1 - (1 - start) (cos(pi step / steps) + 1) / 2, from `start` up to 1.

    Args:
        step: the current step, in 0..steps.
        steps: steps of the whole training.
        start: the decay at step 0, in [0, 1].

    Returns:
        The decay for `update_ema`.

    Raises:
        TypeError: `step` or `steps` is not an int.
        ValueError: a value outside its range.

    Example:
        >>> [round(cosine_decay(step, 100), 6) for step in (0, 50, 100)]
        [0.996, 0.998, 1.0]
    """
    _checks.integer("steps", steps, low=1)
    _checks.integer("step", step, low=0, high=steps)
    start = _checks.number("start", start, low=0, high=1)
    return 1 - (1 - start) * (math.cos(math.pi * step / steps) + 1) / 2


def _aligned(target: nn.Module, online: nn.Module) -> tuple[Pairs, Pairs] | None:
    """Pairs of parameters and pairs of buffers by one walk over both networks, without names.

    The names of all tensors of a ResNet-50 cost a sixth of its update. None where anything differs or is shared between
    modules: `_matched` then tells what.
    """
    found: tuple[Pairs, Pairs] = ([], [])
    modules: list[Any] = [(target, online)]
    try:
        for old, new in modules:  # grows while it is walked
            tables = ((old._parameters, new._parameters), (old._buffers, new._buffers))
            for pairs, (a, b) in zip(found, tables, strict=True):
                if len(a) != len(b):
                    return None
                pairs += [(x, b[name]) for name, x in a.items() if x is not None or b[name] is not None]
            a, b = old._modules, new._modules
            if len(a) != len(b):
                return None
            modules += [(x, b[name]) for name, x in a.items() if x is not None or b[name] is not None]
        fits = all((x.shape, x.device) == (y.shape, y.device) for pairs in found for x, y in pairs)
    except (KeyError, AttributeError):  # another name, or None on one side
        return None
    shared = any(len({id(pair[k]) for pair in pairs}) < len(pairs) for pairs in found for k in (0, 1))
    return found if fits and not shared else None


def _matched(target: nn.Module, online: nn.Module) -> tuple[Pairs, Pairs]:
    """Pairs of parameters and pairs of buffers by name, after a look at names, shapes and devices."""
    result = []
    for kind, olds, news in zip(("parameter", "buffer"), _tensors(target), _tensors(online), strict=True):
        if olds.keys() != news.keys():
            name = min(olds.keys() ^ news.keys())
            owner, other = ("target", "online") if name in olds else ("online", "target")
            raise ValueError(
                f"target and online must be of one architecture, but {kind} {name} of {owner} is not in {other}"
            )
        pairs = [(old, news[name]) for name, old in olds.items()]
        for name, (old, new) in zip(olds, pairs, strict=True):
            if old.shape != new.shape or old.device != new.device:
                raise ValueError(
                    f"target and online must have the same shapes and device, but {kind} {name} is "
                    f"{tuple(old.shape)} on {old.device} in target and {tuple(new.shape)} on {new.device} in online"
                )
        result.append(pairs)
    return result[0], result[1]


def _tensors(network: nn.Module) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Parameters and buffers by name, shared ones once."""
    return dict(network.named_parameters()), dict(network.named_buffers())
