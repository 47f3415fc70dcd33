"""What differs between installations: one door to torchvision, and one way for tensors from the CPU to a GPU.

A mismatched pair of torch and torchvision fails with the lines that mend it.
"""

from __future__ import annotations

import importlib
from types import ModuleType

import torch

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
        raise ImportError(_REPAIR.format(reason=error, torch=torch.__version__)) from error


def moved(x: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Return `x` on `device`; on its way from the CPU to CUDA it does not wait for the work that is queued there.

    A plain `x.to(device)` does. CUDA keeps a copy of what it is to fetch from pageable memory, so the source may be
    freed at once. Pinned memory, which it fetches later, is waited for, and so are copies to the CPU, which could be
    read before they are there, those to other devices, and those in compiled graphs, where Inductor may let the
    source go too early.

    Args:
        x: any tensor.
        device: where it is needed.

    Returns:
        `x` itself where it is there already.
    """
    fetched = device.type == "cuda" and x.device.type == "cpu"
    waits = torch.compiler.is_compiling() or not fetched or x.is_pinned()
    return x.to(device, non_blocking=not waits)
