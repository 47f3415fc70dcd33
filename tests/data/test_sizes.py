"""Sizes: antialiased, in step with the mask, and the aspect kept where it is asked for."""

from __future__ import annotations

import pytest
import torch

from sslmed.data._sizes import Sizing, resize_image, resize_mask


def test_stretching() -> None:
    image = torch.rand(1, 60, 90)
    small = resize_image(image, 32)
    assert small.shape == (1, 32, 32)
    assert small.min() >= 0
    assert small.max() <= 1
    assert (small.mean() - image.mean()).abs() < 0.01  # antialiased: no pixel is skipped
    torch.testing.assert_close(resize_image(torch.ones(1, 37, 91), 32), torch.ones(1, 32, 32))
    mask = torch.zeros(1, 64, 96, dtype=torch.bool)
    mask[:, 16:48, 24:72] = True
    expected = torch.zeros(1, 32, 32, dtype=torch.bool)
    expected[:, 8:24, 8:24] = True
    assert torch.equal(resize_mask(mask, 32), expected)
    assert resize_mask(mask, 32).dtype == torch.bool


def test_padding_keeps_the_aspect_and_the_centre() -> None:
    image, mask = torch.zeros(1, 60, 120), torch.zeros(1, 60, 120, dtype=torch.bool)
    image[:, 14:46, 44:76], mask[:, 14:46, 44:76] = 1, True  # a square
    small, part = resize_image(image, 60, fit="pad"), resize_mask(mask, 60, fit="pad")
    expected = torch.zeros(1, 60, 60, dtype=torch.bool)
    expected[:, 22:38, 22:38] = True
    assert torch.equal(part, expected)
    torch.testing.assert_close(small.sum(), torch.tensor(256.0), rtol=0.01, atol=0)
    assert not small[:, :14].any()
    assert torch.equal(resize_image(image.mT, 60, fit="pad"), small.mT)


@pytest.mark.parametrize("shape", [(1, 7, 12), (1, 12, 7), (3, 8, 9)])
def test_padding_to_the_own_size_moves_no_pixel(shape: tuple[int, ...]) -> None:
    image, side = torch.rand(shape), max(shape[1:])
    square = resize_image(image, side, fit="pad")
    assert square.shape == (shape[0], side, side)
    assert square.sum() == pytest.approx(image.sum().item(), rel=1e-5)
    top, left = (side - shape[1]) // 2, (side - shape[2]) // 2
    assert torch.equal(square[:, top : top + shape[1], left : left + shape[2]], image)


def test_label_maps_keep_their_numbers() -> None:
    labels = torch.randint(0, 5, (1, 40, 30))
    small = resize_mask(labels, 20, fit="pad")
    assert small.dtype == torch.int64
    assert set(small.unique().tolist()) <= set(range(5))


def test_settings() -> None:
    image = torch.rand(1, 5, 9)
    assert torch.equal(Sizing(None, "pad").image(image), image)
    assert Sizing(4, "pad").mask(image > 0.5, "a").shape == (1, 4, 4)
    with pytest.raises(ValueError, match="size must be"):
        Sizing(0, "pad")
    with pytest.raises(ValueError, match="fit must be"):
        Sizing(8, "crop")
