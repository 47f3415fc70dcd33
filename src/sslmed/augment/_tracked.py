"""When an operation has to be one that can be recorded."""

from __future__ import annotations

import torch
from torch import Tensor


def tracked(x: Tensor) -> bool:
    """Whether what is done with `x` is recorded: by autograd, by torch.compile or by a transform of torch.func.

    None of them follows results that are written to a given place (`out=`).
    """
    if torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active():
        return True
    return torch.is_grad_enabled() and x.requires_grad
