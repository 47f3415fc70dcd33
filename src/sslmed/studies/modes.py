"""Evaluation mode for a while, and batch statistics for a while."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


@contextlib.contextmanager
def evaluation_mode(module: nn.Module) -> Iterator[None]:
    """Put a module into evaluation mode, without gradients; afterwards each of its parts has its own mode again.

    Parts may be in evaluation mode on purpose while the module is in training.
    """
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for part, training in modes:
            part.training = training


def running_statistics(module: nn.Module) -> list[_BatchNorm]:
    """The batch normalisation layers that keep running statistics."""
    return [part for part in module.modules() if isinstance(part, _BatchNorm) and part.running_mean is not None]


@contextlib.contextmanager
def batch_statistics(module: nn.Module, run: Callable[[Tensor], object], batches: Iterable[Tensor]) -> Iterator[None]:
    """Give batch normalisation the means and variances of these images; afterwards it has its own again.

    Each layer normalises a batch by the statistics of that batch, as in training, and then keeps their mean over the
    batches. No layer is in training mode, which would wait for other processes where batches are synchronised.

    Args:
        module: has the layers; those without running statistics are left alone.
        run: passes a batch through the module.
        batches: images of at least two values a channel at every layer.
    """
    norms = running_statistics(module)
    own = [{name: value.clone() for name, value in norm.state_dict().items()} for norm in norms]
    sums = dict[_BatchNorm, tuple[Any, Any, int]]()  # of means and variances, and the number of batches

    def gather(norm: Any, inputs: tuple[Tensor]) -> None:
        x = inputs[0].float()
        count = x.numel() // x.shape[1]
        variance, mean = torch.var_mean(x, dim=[d for d in range(x.ndim) if d != 1], correction=0)
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(variance)
        means, variances, batches = sums.get(norm, (0, 0, 0))
        sums[norm] = means + mean, variances + variance * (count / (count - 1)), batches + 1

    hooks = [norm.register_forward_pre_hook(gather) for norm in norms]
    try:
        with evaluation_mode(module):
            try:
                for batch in batches if norms else ():
                    run(batch)
            finally:
                for hook in hooks:
                    hook.remove()
            for norm, (means, variances, seen) in sums.items():
                norm.running_mean.copy_(means / seen)  # type: ignore[union-attr]
                norm.running_var.copy_(variances / seen)  # type: ignore[union-attr]
        yield
    finally:
        for norm, state in zip(norms, own, strict=True):
            norm.load_state_dict(state)
