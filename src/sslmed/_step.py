"""The result of one training step, of a method or of a task."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Step(NamedTuple):
    """The result of one step.

    Attributes:
        loss: what to call `backward` on, a scalar. Under DistributedDataParallel its gradients, averaged over the
            processes, are those of the whole batch, even where the processes hold different numbers of images.
        terms: scalars to log, without gradients: means over this process's images. `loss` is always there;
            `feature_std` near 0 means that the embeddings have collapsed, 1 / sqrt(D) is ideal.
    """

    loss: Tensor
    terms: dict[str, Tensor]
