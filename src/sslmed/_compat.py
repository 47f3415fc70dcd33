"""One door to torchvision, so that a mismatched pair of builds fails with the lines that mend it."""

from __future__ import annotations

import importlib
from types import ModuleType

_REPAIR = """torchvision cannot be imported: {reason}
sslmed needs a torchvision built for the installed torch ({torch}). A CPU-only torch beside a CUDA torchvision fails
exactly like this. Install a matching pair, letting pip choose both:
    python -m pip uninstall -y torch torchvision
    python -m pip install torch torchvision
(for CPU-only builds add PyTorch's CPU index, as on https://pytorch.org/get-started/locally)"""


def torchvision(submodule: str = "models") -> ModuleType:
    """Import `torchvision.<submodule>`.

    Args:
        submodule: dotted name below `torchvision`, as "models.resnet".

    Returns:
        The submodule.

    Raises:
        ImportError: torchvision is missing or was built for another torch; the message says how to mend it. The
            second call says the same as the first.
    """
    try:
        return importlib.import_module(f"torchvision.{submodule}")
    # A mismatched build fails with RuntimeError ("operator torchvision::nms does not exist") at the first import and
    # with AttributeError (partially initialised module) at the next one.
    except (ImportError, RuntimeError, AttributeError, OSError) as error:
        import torch

        raise ImportError(_REPAIR.format(reason=error, torch=torch.__version__)) from error
