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

Columns = tuple[list[torch.Tensor], list[torch.Tensor]]  # of the target and, row by row, of the online network

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
        TypeError: a network is no module.
        ValueError: networks whose names, shapes or kinds of dtype differ or that lie on two devices, parameters not of
            floating point, a target without a parameter of its own, a decay outside [0, 1], or an unknown `buffers`.
            Nothing has changed then.

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
    for name, network in (("target", target), ("online", online)):
        if not isinstance(network, nn.Module):
            raise TypeError(f"{name} must be a torch.nn.Module, got {type(network).__name__}")
    averaged, copied = _aligned(target, online) or _matched(target, online)
    if averaged[0] and all(old is new for old, new in zip(*averaged, strict=True)):
        raise ValueError("target must have parameters of its own, got online's; start from copy.deepcopy(online)")
    if buffers == "keep":
        copied = ([], [])
    elif buffers == "ema":
        statistics, copied = copied, ([], [])
        for old, new in zip(*statistics, strict=True):
            olds, news = averaged if old.is_floating_point() else copied
            olds.append(old)
            news.append(new)
    if decay == 0:
        copied = (copied[0] + averaged[0], copied[1] + averaged[1])
    elif averaged[0] and decay < 1:  # at 1 and 0, lerp gives nan where the side without weight is not finite
        torch._foreach_lerp_(*averaged, 1 - decay)
    if copied[0]:
        torch._foreach_copy_(*copied)


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


def _aligned(target: nn.Module, online: nn.Module) -> tuple[Columns, Columns] | None:
    """Parameters and buffers by one walk over both networks side by side, which needs no names.

    The names of all tensors would cost a fifth of the update of a ResNet-50. None where the networks differ in anything
    or share tensors between modules: `_matched` then says what is wrong, or pairs them by name.
    """
    parameters: tuple[list[Any], list[Any]] = ([], [])
    buffers: tuple[list[Any], list[Any]] = ([], [])
    modules: list[tuple[Any, Any]] = [(target, online)]
    parents = set()
    for old, new in modules:  # grows while it is walked
        if old is None or new is None:
            return None
        for found, a, b in (
            (parameters, old._parameters, new._parameters),
            (buffers, old._buffers, new._buffers),
        ):
            if a or b:
                if [*a] != [*b]:
                    return None
                found[0].extend(a.values())
                found[1].extend(b.values())
        a, b = old._modules, new._modules
        if a or b:
            if [*a] != [*b] or id(old) in parents:
                return None
            parents.add(id(old))
            modules += zip(a.values(), b.values(), strict=True)
    averaged, copied = _alike(*parameters), _alike(*buffers)
    if averaged is None or copied is None or not all(map(_can_be_averaged, {x.dtype for x in averaged[0]})):
        return None
    return averaged, copied


def _alike(olds: list[Any], news: list[Any]) -> Columns | None:
    """The columns without rows of None; None unless each row has one shape, device and dtype and none comes twice."""
    for old, new in zip(olds, news, strict=True):
        if old is None or new is None:
            if old is not new:
                return None
        elif old.shape != new.shape or old.device != new.device or old.dtype != new.dtype:
            return None
    olds, news = [x for x in olds if x is not None], [x for x in news if x is not None]
    return (olds, news) if len(set(map(id, olds))) == len(olds) == len(set(map(id, news))) else None


def _matched(target: nn.Module, online: nn.Module) -> tuple[Columns, Columns]:
    """As `_aligned`, by name and in the target's dtypes; raises where the networks do not fit."""
    result: list[Columns] = []
    for kind, olds, news in zip(("parameter", "buffer"), _tensors(target), _tensors(online), strict=True):
        if olds.keys() != news.keys():
            name = min(olds.keys() ^ news.keys())
            owner, other = ("target", "online") if name in olds else ("online", "target")
            raise ValueError(
                f"target and online must be of one architecture, but {kind} {name} of {owner} is not in {other}"
            )
        for name, old in olds.items():
            new = news[name]
            if old.shape != new.shape or old.device != new.device:
                raise ValueError(
                    f"target and online must have the same shapes and device, but {kind} {name} is "
                    f"{tuple(old.shape)} on {old.device} in target and {tuple(new.shape)} on {new.device} in online"
                )
            kinds = [(x.is_floating_point(), x.is_complex()) for x in (old, new)]
            if old.dtype != new.dtype and (kinds[0] != kinds[1] or not any(kinds[0])):
                raise ValueError(
                    f"target and online must have dtypes of one kind, but {kind} {name} is {old.dtype} in target "
                    f"and {new.dtype} in online"
                )
            if kind == "parameter" and not _can_be_averaged(old.dtype):
                raise ValueError(f"target must have parameters of floating point, but {name} is {old.dtype}")
        result.append((list(olds.values()), [news[name].to(old.dtype) for name, old in olds.items()]))
    return result[0], result[1]


def _can_be_averaged(dtype: torch.dtype) -> bool:
    return dtype.is_floating_point or dtype.is_complex


def _tensors(network: nn.Module) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Parameters and buffers by name, shared ones once."""
    return dict(network.named_parameters()), dict(network.named_buffers())
