"""Self-supervised losses and augmentations for medical images.

"Ellis et al." in the docstrings is their paper "A Self-Supervised Framework for Improved Generalisability in Ultrasound
B-mode Image Segmentation", whose relation contrastive loss, band-stop filter and cross-patch jigsaw are here.

Every room of the package loads on first use, so `import sslmed` costs little over `import torch`:

    >>> import sslmed
    >>> sslmed.losses.InfoNCE(temperature=0.07)
    InfoNCE(temperature=0.07)
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import TYPE_CHECKING

__version__ = "0.1.0"

__all__ = [
    "__version__",
    "augment",
    "data",
    "distributed",
    "losses",
    "memory",
    "methods",
    "metrics",
    "models",
    "plots",
    "tasks",
]

if TYPE_CHECKING:
    from . import augment, data, distributed, losses, memory, methods, metrics, models, plots, tasks

_ROOMS = frozenset(__all__) - {"__version__"}


def __getattr__(name: str) -> ModuleType:
    if name in _ROOMS:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
