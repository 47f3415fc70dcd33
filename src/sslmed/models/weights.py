"""Loading pretrained encoder weights, with a report and a floor under how much must match.

A state dict whose names do not fit loads nothing and says nothing under `strict=False`; the run that follows
is then one from random weights, reported as pretrained. Here the match is counted from both sides, named, and refused
when it is poor, when the first convolution would stay random, or when the checkpoint continues the model's stages.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .. import _checks
from .._tensor import compute_dtype
from ._checkpoints import COUNTER as _COUNTER
from ._checkpoints import equally_likely, find_candidates, read_checkpoint
from .encoders import FeatureEncoder, can_sum_channels


@dataclass(frozen=True)
class MatchReport:
    """What `load_encoder` found.

    Attributes:
        matched: tensors of the model that got a value, by the model's names.
        missing: tensors of the model that the checkpoint lacks.
        unexpected: tensors of the checkpoint's state dict that the model lacks, by the checkpoint's names.
        mismatched: tensors of both whose shapes differ; they were not loaded.
        adapted: those of `matched` that were summed over three input channels to fit one.
        prefix: what was cut off the checkpoint's names; those of the dicts that hold a state dict come first, as in
            "state_dict.module.encoder_q.".
        others: the prefixes of the checkpoint's other networks that fit equally well and were not loaded.
    """

    matched: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    mismatched: tuple[str, ...]
    adapted: tuple[str, ...] = ()
    prefix: str = ""
    others: tuple[str, ...] = ()

    @property
    def fraction(self) -> float:
        """The matched share of the model's tensors, 0 to 1."""
        total = len(self.matched) + len(self.missing) + len(self.mismatched)
        return len(self.matched) / max(total, 1)

    def __str__(self) -> str:
        total = len(self.matched) + len(self.missing) + len(self.mismatched)
        lines = [f"matched {len(self.matched)} of {total} tensors ({self.fraction:.0%})"]
        if self.prefix:
            lines.append(f"prefix cut from the checkpoint's names: {self.prefix}")
        if self.others:
            lines.append(f"not loaded, though it fits equally well: {', '.join(self.others)}")
        for label in ("adapted", "missing", "unexpected", "mismatched"):
            names: tuple[str, ...] = getattr(self, label)
            if names:
                rest = f" and {len(names) - 5} more" if len(names) > 5 else ""
                lines.append(f"{label}: {', '.join(names[:5])}{rest}")
        return "\n".join(lines)


def load_encoder(
    model: nn.Module,
    state_or_path: Mapping[str, Any] | str | os.PathLike[str],
    *,
    part: str | None = None,
    minimum: float = 0.9,
) -> MatchReport:
    """Load pretrained weights into an encoder, all or nothing.

    Names are matched after cutting the one prefix that fits most of them ("module.", "backbone.",
    "model.encoder." ...). Heads of the checkpoint, as `fc.weight`, are reported as unexpected and left out. A
    first convolution for three channels is summed over them for an encoder with one: the same as repeating
    the gray image three times (with one mean and one standard deviation for all three channels). That holds for a plain
    `torch.nn.Conv2d`; for any other layer, such as timm's `StdConv2d`, which normalises its weight, it is refused.

    Checkpoints of MoCo, DINO, lightly, solo-learn, timm and Lightning are read as they are, and "module." and
    "_orig_mod." are ignored anywhere in a name. Where the network (query, student, online) and its moving average (key,
    teacher, target, momentum, EMA) fit equally well, the network is loaded, and the report names both prefixes; `part`
    chooses.

    Two kinds of checkpoints are refused whatever the `minimum`. One continues the encoder's stages, or has more inside
    one of its parts, as `layer1.2.conv1.weight` of a ResNet-34 for a ResNet-18: what would be loaded computes something
    else. In the other the first convolution is missing or does not fit, and all later weights rely on it. If that is
    intended, change the state dict: leave the surplus out, or put in a first convolution of your own,
    `state["conv1.weight"] = model.conv1.weight`.

    Args:
        model: the encoder, or a model with one at `.encoder`, as `ResUNet`: then that is loaded. For a
            `FeatureEncoder`, the network's own names are used.
        state_or_path: a state dict, a checkpoint that holds one under any key, or a file of either (read with
            `weights_only=True`).
        part: which of the checkpoint's networks to load, by a name in its prefix: "teacher", "encoder_k",
            "momentum_backbone", "state_dict_ema" ...; None loads the one that fits best.
        minimum: the share of the encoder's tensors, 0 to 1, that must match.

    Returns:
        What matched and what did not; printing it gives a readable summary.

    Raises:
        FileNotFoundError: there is no such file.
        TypeError: state_or_path is none of the things above.
        ValueError: the file cannot be read, too little matches, the checkpoint is of another architecture, the first
            convolution would stay random or cannot be summed over its channels, two networks fit equally well and no
            name says that one is the average of the other, nothing fits under `part`, or weights are not finite in the
            model's dtype. The model is unchanged then.

    Example:
        >>> from sslmed.models import ResNetEncoder, load_encoder
        >>> weights = ResNetEncoder(in_channels=3, width=8).state_dict()
        >>> pretrained = {f"module.{name}": w for name, w in weights.items()}
        >>> report = load_encoder(ResNetEncoder(in_channels=1, width=8), pretrained)
        >>> print(report)
        matched 100 of 100 tensors (100%)
        prefix cut from the checkpoint's names: module.
        adapted: conv1.weight
    """
    _checks.number("minimum", minimum, low=0.0, high=1.0)
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    inner = getattr(model, "encoder", model)
    encoder = inner if isinstance(inner, nn.Module) else model
    if isinstance(encoder, FeatureEncoder):
        encoder = encoder.network
    own = {k: v for k, v in encoder.state_dict().items() if isinstance(v, torch.Tensor)}
    states = read_checkpoint(state_or_path)
    named = isinstance(state_or_path, (str, os.PathLike))
    checkpoint = str(Path(state_or_path)) if named else "the checkpoint"  # type: ignore[arg-type]

    chosen, *others = find_candidates(states, encoder, part)
    prefix = chosen.prefix
    stem = _stem(own)
    if stem is not None and _needs_sum(chosen.tensors.get(prefix + stem), own[stem]):
        layer = _owner(encoder, stem)
        if layer is None or not can_sum_channels(layer):
            kind = "of an unknown layer" if layer is None else f"of a {type(layer).__name__}"
            key = repr((prefix + stem)[len(chosen.path) :])
            raise ValueError(
                f"the first convolution {stem} has three input channels in {checkpoint} and one in the model, and"
                f" cannot be summed over them: it is the weight {kind}, which may change it before use (only that of a"
                " plain torch.nn.Conv2d is summed); nothing was loaded. Give FeatureEncoder a network for three"
                " channels: it repeats gray images. If the layer uses its weight as it is, pass the sum:"
                f" state[{key}] = state[{key}].sum(1, keepdim=True)"
            )
    values, report, shapes = _match(chosen.tensors, own, prefix)
    within = [k for k in report.unexpected if k.startswith(prefix) and not k.endswith(_COUNTER)]
    continued = [chosen.sources.get(k, k) for k in within if _continues(encoder, k[len(prefix) :])]
    unexpected = tuple(chosen.sources.get(k, k) for k in report.unexpected)
    report = replace(report, unexpected=unexpected, others=tuple(c.prefix for c in others))
    if not report.matched or report.fraction < minimum:
        raise ValueError(
            f"only {report.fraction:.0%} of the encoder's tensors match {checkpoint}, the minimum is"
            f" {minimum:.0%}; nothing was loaded\n{report}{shapes}"
        )
    if continued:
        raise ValueError(
            f"{checkpoint} is of another architecture: the encoder lacks {len(continued)} tensors inside its parts, as"
            f" {continued[0]}; nothing was loaded. If the encoder ends earlier on purpose, or they are a head, leave"
            f" them out of the state dict\n{report}"
        )
    if stem is not None and stem not in values:
        own_stem = (prefix + stem)[len(chosen.path) :]
        raise ValueError(
            f"the first convolution {stem} would stay random, it does not match {checkpoint}; nothing was loaded."
            f" If it is to be your own, put it into the state dict: state[{own_stem!r}] = its weight\n{report}{shapes}"
        )
    rivals = equally_likely([chosen, *others])
    if len(rivals) > 1:
        raise ValueError(
            f"{checkpoint} holds {len(rivals)} encoders that fit equally well, under {rivals}; choose"
            f" one, as part={rivals[0]!r}"
        )
    # A value that the checkpoint holds may be infinite in the model's dtype.
    values = {k: v.to(own[k].dtype) for k, v in values.items()}
    broken = [k for k, v in values.items() if v.is_floating_point() and not bool(torch.isfinite(v).all())]
    if broken:
        names = ", ".join(broken[:5])
        dtype = own[broken[0]].dtype
        raise ValueError(
            f"{checkpoint} has NaN or infinite values in {names}; nothing was loaded into the model of {dtype}"
        )
    encoder.load_state_dict(values, strict=False)
    return report


def _match(
    state: Mapping[str, torch.Tensor], own: Mapping[str, torch.Tensor], prefix: str
) -> tuple[dict[str, torch.Tensor], MatchReport, str]:
    """Sort the names; returns the values to load, the report, and a line on the first mismatched shape."""
    stem = _stem(own)
    values: dict[str, torch.Tensor] = {}
    missing, mismatched, adapted = [], [], []
    shapes = ""
    for name, mine in own.items():
        theirs = state.get(prefix + name)
        if theirs is None:
            missing.append(name)
        elif theirs.shape == mine.shape:
            values[name] = theirs
        elif name == stem and _needs_sum(theirs, mine):
            wide = compute_dtype(theirs)
            values[name] = theirs.sum(dim=1, keepdim=True, dtype=wide)
            adapted.append(name)
        else:
            mismatched.append(name)
            if not shapes:
                shapes = f"\n{name}: {tuple(theirs.shape)} in the checkpoint, {tuple(mine.shape)} in the model"
    unexpected = [k for k in state if not (k.startswith(prefix) and k[len(prefix) :] in own)]
    report = MatchReport(
        matched=tuple(k for k in values if not k.endswith(_COUNTER)),
        missing=tuple(k for k in missing if not k.endswith(_COUNTER)),
        unexpected=tuple(unexpected),
        mismatched=tuple(mismatched),
        adapted=tuple(adapted),
        prefix=prefix,
    )
    return values, report, shapes


def _stem(own: Mapping[str, torch.Tensor]) -> str | None:
    """The weight of the first convolution, in two or three dimensions; under weight norm its direction."""
    wide = [k for k, v in own.items() if v.ndim >= 4]
    layer = [k for k in wide if k.rpartition(".")[0] == wide[0].rpartition(".")[0]]
    return max(layer, key=lambda k: own[k].numel(), default=None)


def _continues(encoder: nn.Module, name: str) -> bool:
    """Whether a tensor of the checkpoint that the encoder lacks belongs inside it, as one more block of a stage does.

    A head does not: it lies beside the parts of the encoder, or beside those of a module that holds most of it.
    """
    module, step = encoder, name
    for step in name.split("."):
        inner = module._modules.get(step)
        if isinstance(inner, nn.Identity):  # the usual way to take a part out
            return False
        if inner is None or not inner.state_dict():
            break
        module = inner
    if step in module._buffers:  # not persistent, but written by an older version of the same network
        return False
    digits = "0123456789"
    # A norm alone continues nothing: timm's EfficientNets have `bn1` after the stem and `bn2` in the head.
    numbered = {
        k.rstrip(digits)
        for k, part in module.named_children()
        if k[-1] in digits and any(v.ndim > 1 for v in part.state_dict().values())
    }
    if step[-1] in digits and step.rstrip(digits) in numbered:
        return True
    return not module._modules or 2 * len(module.state_dict()) <= len(encoder.state_dict())


def _owner(encoder: nn.Module, name: str) -> nn.Module | None:
    """The layer whose weight has this name in the encoder's state dict; None where a hook renamed it."""
    try:
        return encoder.get_submodule(name.rpartition(".")[0])
    except AttributeError:
        return None


def _needs_sum(theirs: torch.Tensor | None, mine: torch.Tensor) -> bool:
    """Whether the checkpoint's first convolution differs from the model's by three input channels instead of one."""
    if theirs is None or theirs.ndim != 4 or mine.ndim != 4:
        return False
    same_rest = theirs.shape[0] == mine.shape[0] and theirs.shape[2:] == mine.shape[2:]
    return same_rest and theirs.shape[1] == 3 and mine.shape[1] == 1
