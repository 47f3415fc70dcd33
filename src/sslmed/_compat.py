"""What differs between installations and surroundings: torchvision, devices, autocast, subclasses and modes of torch.

A mismatched pair of torch and torchvision fails with the commands that fix it.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import re
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache, wraps
from types import ModuleType
from typing import ParamSpec, TypeVar

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
        ImportError: torchvision is missing or was built for another torch; the message says how to fix it. The
            second call says the same as the first.
    """
    try:
        return importlib.import_module(f"torchvision.{submodule}")
    # A mismatched build fails with RuntimeError ("operator torchvision::nms does not exist") at the first import and
    # with AttributeError (partially initialised module) at the next one.
    except (ImportError, RuntimeError, AttributeError, OSError) as error:
        raise ImportError(_REPAIR.format(reason=error, torch=torch.__version__)) from error


def install_hint(extra: str) -> str:
    """The command that installs what an extra needs.

    It names the packages themselves, as the installed metadata lists them, and so works wherever sslmed itself came
    from.

    Args:
        extra: of pyproject.toml, as "medical".

    Returns:
        A sentence, as "Install it with: python -m pip install ...".
    """
    try:
        needed = _requirements(extra)
    except importlib.metadata.PackageNotFoundError:  # a checkout on the path that is not installed
        needed = [f"sslmed[{extra}]"]
    listed = " ".join(f'"{requirement}"' for requirement in needed)
    return f"Install it with: python -m pip install {listed}"


def require(user: str, extra: str, *packages: str) -> None:
    """Check that the packages of an extra are installed, without importing them.

    Args:
        user: what needs them, for the message.
        extra: of pyproject.toml that installs them.
        packages: names as in `import`.

    Raises:
        ModuleNotFoundError: one is missing; the message says how to install it.
    """
    for package in packages:
        if package in sys.modules:
            found = sys.modules[package] is not None
        else:
            found = importlib.util.find_spec(package) is not None
        if not found:
            raise ModuleNotFoundError(f"{user} needs {package}. {install_hint(extra)}", name=package)


def _requirements(extra: str) -> list[str]:
    """Requirements of an extra, with those of the extras that it includes."""
    found: list[str] = []
    for line in importlib.metadata.requires("sslmed") or []:
        requirement, _, condition = line.partition(";")
        if re.search(rf"extra == ['\"]{extra}['\"]", condition) is None:
            continue
        included = re.fullmatch(r"sslmed\[([\w,]+)\]", requirement.strip())
        if included is None:
            found.append(requirement.strip())
        else:
            found += [more for name in included[1].split(",") for more in _requirements(name)]
    return list(dict.fromkeys(found))


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


def without_autocast(device: torch.device) -> AbstractContextManager[None]:
    """Switch autocast off for operations on `device`.

    The meta device, which has no autocast, refuses `torch.autocast("meta", enabled=False)`. Where autocast is off,
    switching it off would take longer than a small sum.
    """
    if device.type == "meta" or not torch.is_autocast_enabled(device.type):
        return nullcontext()
    return torch.autocast(device.type, enabled=False)


def plain(x: torch.Tensor) -> torch.Tensor:
    """Return `x` without the Python subclass that annotates it, such as MONAI's MetaTensor; gradients pass.

    Such a subclass follows every operation and copies its annotations, and not all operations are prepared for that
    (`out=`, autograd functions). Subclasses that are more than annotated data, such as DTensor and FakeTensor, stay.
    """
    kind = type(x)
    if torch.compiler.is_compiling() or kind in (torch.Tensor, torch.nn.Parameter):
        return x
    annotated = kind.__torch_dispatch__ is torch.Tensor.__torch_dispatch__
    return x.as_subclass(torch.Tensor) if annotated else x


_P = ParamSpec("_P")
_T = TypeVar("_T")


def cached_tensors(maxsize: int) -> Callable[[Callable[_P, _T]], Callable[_P, _T]]:
    """`functools.lru_cache` for functions that make constant tensors.

    Tensors made inside FakeTensorMode, another dispatch mode, a transform of torch.func or a compiled graph cannot be
    used outside of it, nor the other way round: there the function makes them anew. Those made in inference mode
    are made as outside of it, so that autograd can save them.
    """

    def decorate(make: Callable[_P, _T]) -> Callable[_P, _T]:
        kept = lru_cache(maxsize)(torch.inference_mode(False)(make))

        @wraps(make)
        def get(*args: _P.args, **kwargs: _P.kwargs) -> _T:
            passing = torch._C._len_torch_dispatch_stack() or torch._C._are_functorch_transforms_active()
            if torch.compiler.is_compiling() or passing:
                return make(*args, **kwargs)
            return kept(*args, **kwargs)  # type: ignore[arg-type]

        for name in ("cache_clear", "cache_info"):
            setattr(get, name, getattr(kept, name))
        return get

    return decorate
