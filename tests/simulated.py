"""CUDA tensors without a GPU: CPU tensors that say they are on CUDA, mix with no others and count what a GPU waits for.

    with Cuda() as cuda:
        x = torch.rand(2, 3, device="cuda")
        y = piece(x)
    assert y.device == CUDA and not cuda.waits

Values are worked out on the CPU, so results can be compared. torch's own FakeTensorMode has none: there a branch on a
draw fails, be it made on the CPU, and without a driver no backward pass runs.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import lru_cache
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.autograd.function import BackwardCFunction
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import return_and_correct_aliasing
from torch.utils._pytree import tree_flatten, tree_map_only

CUDA = torch.device("cuda", 0)

# Operations whose result the host has to see before it can go on.
WAITING = {
    "_local_scalar_dense",
    "bincount",
    "equal",
    "is_nonzero",
    "linalg_cholesky",
    "linalg_eigh",
    "linalg_eigvalsh",
    "_linalg_eigh",
    "_linalg_svd",
    "linalg_inv",
    "linalg_solve",
    "masked_select",
    "nonzero",
    "_unique2",
    "unique_consecutive",
    "unique_dim",
}
NO_INTEGERS = {"addmm", "addmv", "baddbmm", "bmm", "convolution", "dot", "mm", "mv"}  # on CUDA
# The kernels below do not look at these views' marks.
RESOLVED = {
    torch.ops.aten._conj.default: torch.ops.aten._conj_physical.default,
    torch.ops.aten._neg_view.default: torch.ops.aten.neg.default,
}


class MixedDevices(RuntimeError):
    """Tensors of two devices in one operation."""


class UnfinishedCopy(RuntimeError):
    """A copy to the CPU that nobody waits for."""


class OnCuda(Tensor):
    """What `held`, a CPU tensor, is on CUDA."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> OnCuda:
        return Tensor._make_wrapper_subclass(  # the device is CPU to torch itself, which finds no driver
            cls, held.shape, strides=held.stride(), storage_offset=held.storage_offset(), dtype=held.dtype
        )

    def __init__(self, held: Tensor) -> None:
        self.held = held.detach()

    device = property(lambda self: CUDA)
    is_cuda = property(lambda self: True)
    is_cpu = property(lambda self: False)
    __torch_function__ = torch._C._disabled_torch_function_impl

    def __repr__(self) -> str:
        return f"OnCuda({self.held!r})"

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        if id(self) not in memo:
            copy = self.detach().clone().requires_grad_(self.requires_grad)
            if isinstance(self, torch.nn.Parameter):
                copy = torch.nn.Parameter(copy, self.requires_grad)
            memo[id(self)] = copy
        return memo[id(self)]

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        _check(func, args, kwargs)
        inner = tree_map_only(OnCuda, lambda x: x.held, (args, kwargs))
        result = tree_map_only(Tensor, OnCuda, RESOLVED.get(func, func)(*inner[0], **inner[1]))
        return return_and_correct_aliasing(func, args, kwargs, result)


class Cuda(TorchFunctionMode):
    """Simulates one CUDA device; `waits` tells what made the host wait for it, and where."""

    running: ClassVar[list[Cuda]] = []

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[str] = []

    def __enter__(self) -> Cuda:
        self.running.append(self)
        # `backward` itself runs outside of the mode, as all of torch's Python functions do.
        backward = self._backward = BackwardCFunction.apply

        def apply(node: Any, *gradients: Any) -> Any:
            with _Again(self):
                return backward(node, *gradients)

        BackwardCFunction.apply = apply
        # A module's parameters are replaced: the data of one cannot come to lie on the other device.
        self._overwrite = torch.__future__.get_overwrite_module_params_on_conversion()
        torch.__future__.set_overwrite_module_params_on_conversion(True)
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        BackwardCFunction.apply = self._backward
        torch.__future__.set_overwrite_module_params_on_conversion(self._overwrite)
        self.running.pop()
        super().__exit__(*error)

    def __torch_function__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func is Tensor.to:
            return _to(*args, **kwargs)
        if func in (Tensor.cpu, Tensor.cuda):
            return _moved(args[0], torch.device("cpu") if func is Tensor.cpu else CUDA, False)
        here = any(isinstance(x, OnCuda) for x in tree_flatten((args, kwargs))[0])
        if func is Tensor.tolist and here:
            _waited("tolist")
            return args[0].held.tolist()
        if func is Tensor.numpy and here and kwargs.get("force"):
            return _moved(args[0].detach(), torch.device("cpu"), False).numpy()
        if func in (Tensor.numpy, Tensor.__array__) and here:
            raise TypeError("can't convert cuda:0 device type tensor to numpy")
        if func is Tensor.new_tensor and here and kwargs.get("device") is None:
            kwargs["device"] = CUDA
        if kwargs.get("device") is None:
            return func(*args, **kwargs)
        device = torch.device(kwargs["device"])
        generator = kwargs.get("generator")
        if generator is not None and generator.device.type != device.type:
            raise RuntimeError(f"Expected a {device.type!r} device type for generator")
        if func in (torch.tensor, torch.as_tensor, Tensor.new_tensor):
            del kwargs["device"]
            args = tuple(x.held if isinstance(x, OnCuda) else x for x in args)
            return _moved(func(*args, **kwargs), device, False)
        result = func(*args, **{**kwargs, "device": "cpu"})
        if device.type == "cuda":
            return tree_map_only(Tensor, lambda x: x if isinstance(x, OnCuda) else OnCuda(x), result)
        return tree_map_only(OnCuda, lambda x: x.held, result)


class _Again(TorchFunctionMode):
    """A mode within itself."""

    def __init__(self, mode: Cuda) -> None:
        super().__init__()
        self.mode = mode

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return self.mode.__torch_function__(func, types, args, kwargs)


class _Crossed(torch.autograd.Function):
    """`x` on the other device."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.held.clone() if isinstance(x, OnCuda) else OnCuda(x.detach().clone())

    @staticmethod
    def backward(ctx: Any, incoming: Tensor) -> Tensor:
        return incoming.held if isinstance(incoming, OnCuda) else OnCuda(incoming)


def _moved(x: Tensor, device: torch.device, non_blocking: bool) -> Tensor:
    if x.device.type == device.type:
        return x
    if device.type == "cpu" and non_blocking:
        raise UnfinishedCopy(f"a copy to the CPU may be read before it is there{_place()}")
    if not non_blocking:
        _waited(f"copy to {device.type}")
    return _Crossed.apply(x)


def _to(x: Tensor, *args: Any, copy: bool = False, **kwargs: Any) -> Tensor:
    if args and isinstance(args[0], Tensor):
        device, dtype, non_blocking = args[0].device, args[0].dtype, kwargs.get("non_blocking", False)
    else:
        device, dtype, non_blocking, _ = torch._C._nn._parse_to(*args, **kwargs)
    y = x if dtype is None or dtype == x.dtype else x.to(dtype)
    y = y if device is None else _moved(y, device, non_blocking)
    return y.clone() if copy and y is x else y


@lru_cache
def _known(func: Any) -> tuple[str, bool]:
    """An operation's name, and whether it exists on CUDA, which torch built for CPUs alone cannot tell."""
    on_cuda = torch._C._dispatch_has_computed_kernel_for_dispatch_key(func.name(), "CUDA")
    return func._schema.name.removeprefix("aten::"), on_cuda or not torch.version.cuda


def _check(func: Any, args: Any, kwargs: Any) -> None:
    """Raise where CUDA would, and note where it would wait."""
    name, exists = _known(func)
    tensors = [x for x in tree_flatten((args, kwargs))[0] if isinstance(x, Tensor)]
    elsewhere = [x for x in tensors if not isinstance(x, OnCuda) and x.ndim]
    plain = name.removesuffix("_")
    if plain == "stack" and torch._C._current_graph_task_id() != -1:
        elsewhere = []  # zeros that autograd made itself, in the place that torch takes these tensors to be
    if plain == "copy":
        crosses = len({isinstance(x, OnCuda) for x in args[:2]}) > 1
        if crosses and not (args[2] if args[2:] else kwargs.get("non_blocking")):
            _waited("copy_")
    elif plain in ("index", "index_put", "_index_put_impl", "_unsafe_index"):
        indices = [x for x in args[1] if x is not None]
        if any(not isinstance(x, OnCuda) for x in indices) or any(
            x.dtype in (torch.bool, torch.uint8) for x in indices
        ):
            _waited(name)
        elsewhere = [x for x in elsewhere if not any(x is i for i in indices)]
    if elsewhere and plain != "copy":
        raise MixedDevices(f"{func} takes tensors on CUDA and on the CPU{_place()}")
    uncounted = func is torch.ops.aten.repeat_interleave.Tensor and kwargs.get("output_size") is None
    if name in WAITING or uncounted:
        _waited(name)
    if plain in NO_INTEGERS and not all(x.is_floating_point() or x.is_complex() for x in tensors):
        raise RuntimeError(f"{func} is not implemented on CUDA for integers{_place()}")
    if plain.startswith("_fft") and not tensors[0].numel():
        raise RuntimeError(f"{func}: cuFFT error: CUFFT_INVALID_SIZE{_place()}")
    if kwargs.get("generator") is not None:
        raise RuntimeError(f"{func} on CUDA takes a generator on CUDA{_place()}")
    if not exists:
        raise NotImplementedError(f"{func} does not exist on CUDA{_place()}")


def _waited(what: str) -> None:
    for mode in Cuda.running[-1:]:
        mode.waits.append(f"{what}{_place()}")


def _place() -> str:
    """The innermost line outside of torch and of this file."""
    frame = sys._getframe(1)
    while frame.f_back and (frame.f_code.co_filename == __file__ or "/torch/" in frame.f_code.co_filename):
        frame = frame.f_back
    return f" at {frame.f_code.co_filename.rpartition('site-packages/')[2]}:{frame.f_lineno}"
