"""Sizes: antialiased, in step with the mask, and the aspect kept where it is asked for."""

from __future__ import annotations

import pytest
import torch

from sslmed.data.formats._sizes import Sizing, resize_image, resize_labels, resize_mask


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


@pytest.mark.parametrize("fit", ["stretch", "pad"])
@pytest.mark.parametrize("size", [8, 32, 100])
def test_a_lesion_of_three_pixels_stays_where_it_is(size: int, fit: str) -> None:
    mask = torch.zeros(1, 1000, 1200, dtype=torch.bool)
    mask[0, 617, 903:906] = True
    small = resize_mask(mask, size, fit=fit)
    assert small.sum() == 1
    row, column = small[0].nonzero()[0].tolist()
    top, side = (100, 1200) if fit == "pad" else (0, 1000)
    assert (row, column) == ((617 + top) * size // side, 904 * size // 1200)
    assert not resize_mask(torch.zeros_like(mask), size, fit=fit).any()


def test_no_structure_of_a_label_map_vanishes_with_its_neighbour() -> None:
    labels = torch.zeros(2, 90, 90, dtype=torch.int64)
    labels[0, :10, :10] = 1
    labels[0, 10, 0], labels[0, 10, 2] = 2, 3  # which lie in one pixel of a size of 9
    labels[1, 40:42, 40] = 4
    small, lost = resize_labels(labels, (9, 9))
    assert lost
    assert small.dtype == torch.int64
    assert small[0].unique().tolist() == [0, 1, 2]  # of two in one pixel, the first
    assert small[1].nonzero().tolist() == [[4, 4]]
    assert resize_labels(torch.ones(1, 90, 90, dtype=torch.int64), (9, 9))[1] is False


def test_settings() -> None:
    image = torch.rand(1, 5, 9)
    assert torch.equal(Sizing(None, "pad").image(image), image)
    assert Sizing(4, "pad").mask(image > 0.5, "a").shape == (1, 4, 4)
    with pytest.raises(ValueError, match="size must be"):
        Sizing(0, "pad")
    with pytest.raises(ValueError, match="fit must be"):
        Sizing(8, "crop")
