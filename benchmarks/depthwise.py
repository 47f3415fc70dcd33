"""Depthwise convolutions whose weight gradient is not slow on CPUs.

oneDNN's weight gradient of a depthwise convolution is slow where the maps are small. The sum below is faster there, and
gives the same up to rounding. `python benchmarks/depthwise.py` times a training step of the study's encoder with both.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

_native = functional.conv2d
_FEW = 49  # positions of the output, up to which the sum is faster


class _Depthwise(torch.autograd.Function):
    """A depthwise convolution without bias and dilation."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
        x = x.contiguous(memory_format=torch.channels_last)
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.padding = stride, padding
        return _native(x, weight, None, stride, padding, 1, x.shape[1])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        x, weight = ctx.saved_tensors
        stride, padding = [ctx.stride] * 2, [ctx.padding] * 2
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        of_x = torch.ops.aten.convolution_backward(
            gradient, x, weight, None, stride, padding, [1, 1], False, [0, 0], x.shape[1], [True, False, False]
        )[0]
        return of_x, weight_gradient(x, gradient, weight.shape[-1], ctx.stride, ctx.padding), None, None


def weight_gradient(x: Tensor, gradient: Tensor, kernel: int, stride: int, padding: int) -> Tensor:
    """The gradient of a depthwise convolution's weight, (C, 1, kernel, kernel): one sum for each position."""
    x = functional.pad(x, (padding,) * 4)
    rows, columns = (stride * (n - 1) + 1 for n in gradient.shape[-2:])
    sums = [
        (gradient * x[:, :, i : i + rows : stride, j : j + columns : stride]).sum((0, 2, 3))
        for i in range(kernel)
        for j in range(kernel)
    ]
    return torch.stack(sums, 1).view(-1, 1, kernel, kernel)


def _conv2d(
    x: Tensor, weight: Tensor, bias: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1
) -> Tensor:
    if groups > 1 and _applies(x, weight, bias, stride, padding, dilation, groups):
        return _Depthwise.apply(x, weight, _one(stride), _one(padding))  # type: ignore[no-any-return]
    return _native(x, weight, bias, stride, padding, dilation, groups)


def _one(value: Any) -> int:
    """The value of both axes; -1 where they differ."""
    if isinstance(value, int):
        return value
    return value[0] if not isinstance(value, str) and len(set(value)) == 1 else -1


def _applies(x: Tensor, weight: Tensor, bias: Any, stride: Any, padding: Any, dilation: Any, groups: int) -> bool:
    s, p, kernel = _one(stride), _one(padding), weight.shape[-1]
    if bias is not None or s < 1 or p < 0 or _one(dilation) != 1 or groups != x.shape[1] or groups != weight.shape[0]:
        return False
    if x.device.type != "cpu" or x.is_inference() or not weight.requires_grad or not torch.is_grad_enabled():
        return False
    if x.dtype != weight.dtype:
        return False
    few = _FEW if kernel == 5 else 4
    positions = ((x.shape[-2] + 2 * p - kernel) // s + 1) * ((x.shape[-1] + 2 * p - kernel) // s + 1)
    return weight.shape[-2] == kernel and kernel in (3, 5) and positions <= few


def install() -> None:
    """Make every convolution of this process use it where it is faster."""
    functional.conv2d = _conv2d


def main() -> None:
    """Time a step of EfficientNet-Lite0 on 16 images of 64 pixels, with torch's convolutions and with these."""
    import timm

    from measure import interleaved, settle

    settle(threads=1)
    network = timm.create_model("tf_efficientnet_lite0", in_chans=1).to(memory_format=torch.channels_last)
    images = torch.rand(16, 1, 64, 64)

    def step(conv2d: Any) -> None:
        functional.conv2d = conv2d
        network(images).mean().backward()

    ways = {"torch": lambda: step(_native), "with the sum": lambda: step(_conv2d)}
    for name, row in interleaved(ways, 15, "cpu").items():
        print(f"{name:15s} {row['median_ms']:.0f} ms ({row['q1_ms']:.0f} to {row['q3_ms']:.0f})")


if __name__ == "__main__":
    main()
