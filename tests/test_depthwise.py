"""The convolutions that spare the study of few labels time have the gradients of torch's own."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
import torch
from torch.nn import functional

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("channels", "side", "kernel", "stride", "padding"),
    [(6, 4, 5, 1, 2), (6, 7, 5, 2, 0), (8, 2, 3, 1, 1), (3, 5, 3, 2, 1), (4, 12, 5, 1, 2), (6, 16, 3, 1, 1)],
)
def test_gradients_are_those_of_torch(channels: int, side: int, kernel: int, stride: int, padding: int) -> None:
    conv2d = runpy.run_path(str(ROOT / "benchmarks" / "depthwise.py"))["_conv2d"]
    torch.manual_seed(0)
    x = torch.randn(3, channels, side, side, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(channels, 1, kernel, kernel, dtype=torch.float64, requires_grad=True)
    found = conv2d(x, weight, None, (stride, stride), (padding, padding), (1, 1), channels)
    expected = functional.conv2d(x, weight, None, stride, padding, 1, channels)
    torch.testing.assert_close(found, expected)
    upstream = torch.randn_like(expected)
    for a, b in zip(
        torch.autograd.grad(found, (x, weight), upstream),
        torch.autograd.grad(expected, (x, weight), upstream),
        strict=True,
    ):
        torch.testing.assert_close(a, b)
    quick = "_Depthwise" in type(found.grad_fn).__name__
    assert quick == (expected[0, 0].numel() <= (49 if kernel == 5 else 4))
