"""Perceptual loss: closed forms, the literal loop, gradients, precision, bad input."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

import reference
from sslmed.losses import Perceptual, perceptual


def maps(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("match", ["pool", "adaptive"])
def test_equal_features_cost_nothing(match: str) -> None:
    constant = maps(2, 5, 1, 1)
    assert perceptual(constant.expand(2, 5, 7, 6), constant[:, None].expand(2, 9, 5, 3, 2), match=match) < 1e-30


def test_equal_averages_cost_nothing_when_pooled() -> None:
    image = maps(2, 5, 7, 6)
    patches = maps(2, 9, 5, 3, 2, seed=1)
    patches += (image.mean((2, 3))[:, None] - patches.mean((3, 4)))[..., None, None]
    assert perceptual(image, patches) < 1e-30


def test_pool_equals_the_loop() -> None:
    image, patches = maps(2, 5, 7, 6), maps(2, 4, 5, 3, 2, seed=1)
    torch.testing.assert_close(perceptual(image, patches), reference.perceptual(image, patches))


def test_adaptive_compares_position_by_position() -> None:
    image, patches = maps(2, 5, 6, 4), maps(2, 4, 5, 3, 2, seed=1)
    cells = F.avg_pool2d(image, 2)
    expected = torch.stack([F.mse_loss(patches[:, j], cells) for j in range(4)]).mean()
    torch.testing.assert_close(Perceptual(match="adaptive")(image, patches), expected)


@pytest.mark.parametrize("match", ["pool", "adaptive"])
def test_gradients_pass_through_both_arguments(match: str) -> None:
    inputs = maps(2, 3, 4, 4).requires_grad_(), maps(2, 2, 3, 2, 2, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda *x: perceptual(*x, match=match), inputs)


def test_the_order_of_patches_does_not_matter() -> None:
    image, patches = maps(2, 5, 7, 6), maps(2, 9, 5, 3, 2, seed=1)
    torch.testing.assert_close(perceptual(image, patches), perceptual(image, patches.flip(1)))


@pytest.mark.parametrize("match", ["pool", "adaptive"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_narrow_inputs_work_in_float32(match: str, dtype: torch.dtype, device: torch.device) -> None:
    image, patches = (1e4 * maps(2, 5, 7, 6)).to(device, dtype), (1e4 * maps(2, 4, 5, 3, 2)).to(device, dtype)
    loss = perceptual(image, patches, match=match)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(
        loss.double(), perceptual(image.double(), patches.double(), match=match), rtol=1e-5, atol=0
    )


def test_the_loss_compiles_in_one_graph() -> None:
    image, patches = maps(2, 5, 7, 6), maps(2, 4, 5, 3, 2, seed=1)
    for match in ("pool", "adaptive"):
        compiled = torch.compile(Perceptual(match=match), fullgraph=True, backend="aot_eager")
        torch.testing.assert_close(compiled(image, patches), perceptual(image, patches, match=match))


def test_bad_input() -> None:
    image, patches = torch.rand(2, 5, 7, 6), torch.rand(2, 4, 5, 3, 2)
    with pytest.raises(ValueError, match="match must be one of 'pool', 'adaptive', got 'resize'"):
        Perceptual(match="resize")
    with pytest.raises(ValueError, match=r"patches must have shape \(N, P, F, h', w'\) with N, F = \(2, 5\)"):
        perceptual(image, patches[:, :, :4])
    with pytest.raises(ValueError, match=r"patches must have shape"):
        perceptual(image, patches[:1])
    with pytest.raises(ValueError, match=r"image must have shape \(N, F, h, w\), got \(2, 5, 7\)"):
        perceptual(image[..., 0], patches)
    with pytest.raises(ValueError, match="must not be empty"):
        perceptual(image, patches[:, :0])
    with pytest.raises(ValueError, match="no larger than the image map"):
        perceptual(image[:, :, :2], patches, match="adaptive")
    with pytest.raises(TypeError, match="image must be a floating point tensor"):
        perceptual(image.to(torch.uint8), patches)
    with pytest.raises(ValueError, match="same device"):
        perceptual(image, patches.to("meta"))
