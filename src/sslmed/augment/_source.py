"""Where the draws of a call come from, without touching torch's global generator.

In this order: the generator of the module itself, that of the MultiView around it, torch's global one. A MultiView
hands its generator down through a variable of the calling thread, so calls in several threads do not mix.

In a worker process of a DataLoader each generator is first moved to a stream of its own. Every worker holds a copy of
the main process's generator, so without that all workers would draw the same, and the same again in the next epoch.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, ClassVar

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import get_worker_info

from .._checks import generator as check_generator

_thread = threading.local()
_worker_seeds: dict[torch.Generator, int] = {}  # filled in worker processes, which end with their loader


class Seeded:
    """A module that may own a generator: it can be pickled, also for worker processes that are spawned.

    Attributes:
        generator: on the CPU, or None.
        draws_by_generator: whether all that the module itself draws comes from `source`.
    """

    generator: torch.Generator | None
    draws_by_generator = True

    def source(self) -> torch.Generator | None:
        """The generator to draw from here and now; None for torch's global one."""
        if self.generator is not None:
            return _of_this_worker(self.generator)
        # torch.compile traces no thread's variables; a MultiView with a generator is not compiled as a whole.
        return None if torch.compiler.is_compiling() else getattr(_thread, "generator", None)

    def __getstate__(self) -> dict[str, Any]:
        state = dict(self.__dict__)
        if state.get("generator") is not None:
            state["generator"] = _packed(state["generator"])
        return state


def cpu_generator(generator: torch.Generator | None) -> torch.Generator | None:
    """Return `generator`; raise unless it is None or a generator on the CPU."""
    check_generator(generator)
    if generator is not None and generator.device.type != "cpu":
        raise ValueError(f"generator must be on the CPU, where all draws are made, got {generator.device}")
    return generator


@contextmanager
def drawing_from(generator: torch.Generator, transforms: nn.Module) -> Iterator[None]:
    """Take the draws of `transforms` on the CPU, made in this thread, from `generator`."""
    before = getattr(_thread, "generator", None)
    _thread.generator = generator
    try:
        if all(_is_known(module) for module in transforms.modules()):
            yield
        else:
            with _Redirected(generator):
                yield
    finally:
        _thread.generator = before


def _is_known(module: nn.Module) -> bool:
    """Whether a module draws nothing or from `Seeded.source`."""
    return getattr(module, "draws_by_generator", False) or type(module) in (
        nn.Sequential,
        nn.ModuleList,
        nn.Identity,
    )


class _Redirected(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Give each random operation on the CPU that names no generator this one.

    Modules of others, such as kornia's, draw from torch's global generator. To seed that one would disturb all other
    threads; a dispatch mode acts on the calling thread alone.

    But torch notes for the whole process whether it is in a mode, and each mode puts back what it found. Where two
    threads overlap, the last to leave would put back "in a mode" for good, and torch.compile would from then on do
    nothing. One stack for all threads ends with what the first of them found.
    """

    _turn = threading.Lock()
    _found: ClassVar[tuple[deque[bool], ...]] = (deque(), deque(), deque())

    def __init__(self, generator: torch.Generator) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.generator = generator
        (
            self.old_dispatch_mode_flags,
            self.old_non_infra_dispatch_mode_flags,
            self.old_without_ignore_compile_internals_dispatch_mode_flags,
        ) = self._found

    def __enter__(self) -> _Redirected:
        with self._turn:
            return super().__enter__()  # type: ignore[no-untyped-call, no-any-return]

    def __exit__(self, *error: object) -> None:
        with self._turn:
            super().__exit__(*error)  # type: ignore[no-untyped-call]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if torch.Tag.nondeterministic_seeded not in func.tags or not _on_cpu(args, kwargs):
            return func(*args, **kwargs)
        if any(argument.name == "generator" for argument in func._schema.arguments):
            if kwargs.get("generator") is None:
                kwargs = {**kwargs, "generator": self.generator}
            return func(*args, **kwargs)
        packet, overload = func.overloadpacket, func._overloadname
        seeded = "generator" if overload == "default" else overload.replace("low", "low_generator")
        if "generator" in seeded and seeded in packet.overloads():
            return getattr(packet, seeded)(*args, **kwargs, generator=self.generator)
        fill = {"rand_like": "uniform_", "randn_like": "normal_", "randint_like": "random_"}
        if packet.__name__ in fill:  # torch before 2.9 knows no generator for them
            place = torch.empty_like(args[0], **kwargs)
            bounds = (0, *args[1:]) if len(args) == 2 else args[1:]
            return getattr(place, fill[packet.__name__])(*bounds, generator=self.generator)
        raise ValueError(f"generator cannot be used for {func}, which a transform calls and which takes no generator")


def _on_cpu(args: Any, kwargs: dict[str, Any]) -> bool:
    device = kwargs.get("device") or next((x.device for x in args if isinstance(x, torch.Tensor)), "cpu")
    return torch.device(device).type == "cpu"


def _of_this_worker(generator: torch.Generator) -> torch.Generator:
    """Return `generator`, in a DataLoader's worker moved once to that worker's and epoch's own stream."""
    worker = get_worker_info()
    if worker is not None and _worker_seeds.get(generator) != worker.seed:
        drawn = int(torch.randint(2**63 - 1, (), device="cpu", generator=generator))
        generator.manual_seed((drawn + worker.seed) % 2**63)
        _worker_seeds[generator] = worker.seed
    return generator


class _Packed:
    """A generator as pickle takes it: by its state as bytes.

    torch's own way puts the state's tensor into shared memory, which a spawned process cannot open while it unpickles
    its arguments.
    """

    def __init__(self, generator: torch.Generator) -> None:
        self.generator = generator

    def __reduce__(self) -> tuple[Any, tuple[bytes]]:
        return _unpacked, (self.generator.get_state().numpy().tobytes(),)


@lru_cache(maxsize=256)  # for one pickling; torch 2.9 has no weak references to generators
def _packed(generator: torch.Generator) -> _Packed:
    """One object for each generator, so that copies of modules that share one share one again."""
    return _Packed(generator)


def _unpacked(state: bytes) -> torch.Generator:
    generator = torch.Generator()
    generator.set_state(torch.frombuffer(bytearray(state), dtype=torch.uint8))
    return generator
