"""Reading checkpoints of other libraries: which of their tensors belong to an encoder, and by which of its names.

The layouts, as the libraries write them:

- MoCo (facebookresearch/moco, `moco/builder.py`): "state_dict" with `module.encoder_q.*`, `module.encoder_k.*` and the
  queue. MoCo v3 (facebookresearch/moco-v3): `module.base_encoder.*` and `module.momentum_encoder.*`.
- DINO (facebookresearch/dino, `main_dino.py`): "student" with `module.backbone.*`, "teacher" with `module.backbone.*`
  or, without batch norm, `backbone.*`, and the command line as an `argparse.Namespace`.
- lightly (lightly-ai/lightly, `examples/pytorch_lightning`): "state_dict" with `backbone.*` or `student_backbone.*`,
  and `backbone_momentum.*` or `teacher_backbone.*`. The backbone is a Sequential of a torchvision ResNet's children:
  `backbone.0.weight` is `conv1.weight`. Its `benchmarks/imagenet` call the momentum network `backbone`, and the online
  network `query_backbone` or `student_backbone`.
- solo-learn (vturrisi/solo-learn, `solo/methods/base.py`): "state_dict" with `backbone.*` and `momentum_backbone.*`, in
  older versions `encoder.*` and `momentum_encoder.*`.
- timm (huggingface/pytorch-image-models, `timm/utils/checkpoint_saver.py`, `timm/models/_features.py`): "state_dict"
  and "state_dict_ema" with plain names. With `features_only=True` some networks join names: `stages_0` for `stages.0`.
- Lightning: "state_dict" with the names of the user's module, beside "hyper_parameters"; its callback `WeightAveraging`
  stores the averages under "state_dict" and the network itself under "current_model_state".
- DistributedDataParallel and torch.compile: `module.` and `_orig_mod.` before the names of what they wrap.
"""

from __future__ import annotations

import argparse
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

COUNTER = "num_batches_tracked"  # absent from old checkpoints and without effect: never counted, never missed
_WRAPPERS = ("module", "_orig_mod")
_ONLINE = {"current", "online", "query", "student", "q"}
_MOMENTUM = {"averaged", "ema", "key", "momentum", "target", "teacher", "k"}


@dataclass(frozen=True)
class Candidate:
    """One network of a checkpoint that has names of the encoder.

    Attributes:
        path: the keys that lead to its state dict, as "state_dict.".
        prefix: what precedes the encoder's names in the checkpoint, the path included.
        tensors: all tensors of its state dict, those under `prefix` by the encoder's names.
        sources: the checkpoint's own names of the tensors that were renamed.
    """

    path: str
    prefix: str
    tensors: dict[str, Tensor]
    sources: dict[str, str]


def read_checkpoint(source: Mapping[str, Any] | str | os.PathLike[str]) -> dict[str, dict[str, Tensor]]:
    """All state dicts inside a state dict, a checkpoint or a file of either, by the keys that lead to them.

    The names of the tensors start with these keys: {"teacher.": {"teacher.backbone.conv1.weight": ...}}.
    """
    where = "state_or_path"
    content: Any = source
    if isinstance(source, (str, os.PathLike)):
        where, content = str(Path(source)), _read_file(Path(source))
    if not isinstance(content, Mapping):
        raise TypeError(f"{where} must be a state dict, or a path to one, got {type(content).__name__}")
    states = {path: state for path, state in _state_dicts(content, "") if state}
    if not states:
        raise ValueError(f"{where} holds no tensors, its keys are {[str(k) for k in content][:10]}")
    return states


def find_candidates(
    states: Mapping[str, Mapping[str, Tensor]], encoder: nn.Module, part: str | None
) -> list[Candidate]:
    """The networks that have most of the encoder's names, at least one: online first, moving averages last.

    Raises:
        ValueError: nothing under `part` has a name of the encoder.
    """
    own = {k for k in encoder.state_dict() if not k.endswith(COUNTER)}
    children = [name for name, _ in encoder.named_children()]
    counts: Counter[tuple[str, str]] = Counter()
    for path, state in states.items():
        for name in state:
            parts = name.split(".")
            for cut in range(len(parts)):
                rest = ".".join(parts[cut:])
                wrapped = parts[cut] in _WRAPPERS and rest not in own  # then it belongs to the prefix
                if not wrapped and _encoder_name(rest, own, children) in own:
                    counts[path, name[: len(name) - len(rest)]] += 1
    if part is not None:
        counts = _only_part(counts, part)
    most = max(counts.values(), default=0)
    best = [key for key, count in counts.items() if count == most] or [(next(iter(states)), "")]
    best.sort(key=lambda key: _rank(key[1]))
    return [_candidate(path, prefix, states[path], own, children) for path, prefix in best]


def equally_likely(candidates: Sequence[Candidate]) -> list[str]:
    """The prefixes of those that may be the online network as well as the first."""
    return [c.prefix for c in candidates if _rank(c.prefix) == _rank(candidates[0].prefix)]


def _read_file(path: Path) -> Any:
    if not path.is_file():
        raise FileNotFoundError(f"no weights file at {path}")
    # DINO and timm store their command line, a Namespace: it holds values and runs no code. Where it is allowed already
    # it must stay so: the end of the context forbids it.
    command_line = {argparse.Namespace}.difference(torch.serialization.get_safe_globals())
    with torch.serialization.safe_globals(list(command_line)):
        try:
            return torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # the unpickler meets damage with errors of many kinds
            problem = f"{path} cannot be read as plain tensors (weights_only=True)"
            foreign = _foreign_objects(path)
            if not foreign:
                raise ValueError(
                    f"{problem}: it is damaged or holds other objects; save weights with"
                    " torch.save(model.state_dict(), path)"
                ) from error
            more = f" and {len(foreign) - 5} more" if len(foreign) > 5 else ""
            raise ValueError(
                f"{problem}: it also holds {', '.join(foreign[:5])}{more}, as Lightning's checkpoints do where hyper-"
                "parameters are objects, and reading objects can run code. If you trust the file, read it where these"
                " can be imported, checkpoint = torch.load(path, map_location='cpu', weights_only=False), and pass"
                " checkpoint['state_dict'], or .state_dict() of a model"
            ) from error


def _foreign_objects(path: Path) -> list[str]:
    """The names of the objects that `weights_only=True` refuses; none where the file is damaged."""
    try:
        return sorted(torch.serialization.get_unsafe_globals_in_checkpoint(path))
    except Exception:  # damaged, or of the format before torch 1.6
        return []


def _state_dicts(content: Mapping[Any, Any], path: str) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """The tensors of each dict inside, with the keys that lead to it."""
    named = {path + k: v for k, v in content.items() if isinstance(k, str)}
    yield path, {k: v for k, v in named.items() if isinstance(v, Tensor)}
    for k, v in named.items():
        if isinstance(v, Mapping):
            yield from _state_dicts(v, f"{k}.")


def _only_part(counts: Counter[tuple[str, str]], part: str) -> Counter[tuple[str, str]]:
    """Those with this prefix; where none has it, those with this name in their prefix."""
    chosen = {key: n for key, n in counts.items() if key[1] == part}
    chosen = chosen or {key: n for key, n in counts.items() if f".{part.strip('.')}." in f".{key[1]}"}
    if not chosen:
        known = [prefix for (_, prefix), _ in counts.most_common(10)]
        raise ValueError(f"part must be a name in a prefix of the encoder's tensors, got {part!r}; there are {known}")
    return Counter(chosen)


def _encoder_name(name: str, own: set[str], children: Sequence[str]) -> str:
    """The encoder's name of a tensor; the encoder need not have it."""
    if name in own:
        return name
    first, *rest = [step for step in name.split(".") if step not in _WRAPPERS] or [name]
    if first not in children and rest:
        if f"{first}_{rest[0]}" in children:  # timm joins them
            first, *rest = f"{first}_{rest[0]}", *rest[1:]
        elif first.isdecimal() and int(first) < len(children):  # lightly's Sequential of the children
            first = children[int(first)]
    return ".".join((first, *rest))


def _candidate(
    path: str, prefix: str, state: Mapping[str, Tensor], own: set[str], children: Sequence[str]
) -> Candidate:
    """Rename what is under the prefix; a tensor whose new name is taken already keeps its own."""
    tensors, sources = dict(state), {}
    for name in state:
        if name.startswith(prefix):
            new = prefix + _encoder_name(name[len(prefix) :], own, children)
            if new not in tensors:
                tensors[new] = tensors.pop(name)
                sources[new] = name
    return Candidate(path, prefix, tensors, sources)


def _rank(prefix: str) -> int:
    """0 for the online network of a pair, 1 for any network, 2 for the moving average of one."""
    words = set(prefix.replace(".", "_").split("_"))
    return 2 if words & _MOMENTUM else 0 if words & _ONLINE else 1
