"""The states of torch on which no result may depend."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch


@contextmanager
def changed(setter: Callable[[Any], Any], value: Any, back: Any) -> Iterator[None]:
    setter(value)
    try:
        yield
    finally:
        setter(back)


def default(dtype: torch.dtype) -> AbstractContextManager[None]:
    return changed(torch.set_default_dtype, dtype, torch.float32)


STATES: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "default dtype float16": lambda: default(torch.float16),
    "default dtype bfloat16": lambda: default(torch.bfloat16),
    "default dtype float64": lambda: default(torch.float64),
    "autocast float16": lambda: torch.autocast("cpu", dtype=torch.float16),
    "autocast bfloat16": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "matmul precision": lambda: changed(torch.set_float32_matmul_precision, "medium", "highest"),
    "default device": lambda: torch.device("meta"),  # on which nothing can be looked at
    "deterministic algorithms": lambda: changed(torch.use_deterministic_algorithms, True, False),
}
