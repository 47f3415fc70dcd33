"""The plain expressions that stand beside the kernels of the losses, and serve where a kernel cannot."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from torch import Tensor

from sslmed.losses import _paired, _shared


def plainly(loss: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The same loss by its plain expression."""

    def call(*inputs: Tensor, **settings: object) -> Tensor:
        with pytest.MonkeyPatch.context() as patch:
            for kernels in (_paired, _shared):
                patch.setattr(kernels, "plain_is_needed", lambda: True)
            return loss(*inputs, **settings)

    return call
