"""Image and mask files: every kind of pixel, and every fault named."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sslmed.data import read_image, read_mask
from sslmed.data.formats.images import image_size

RAMP = np.arange(0, 240, 20, dtype=np.uint8).reshape(3, 4)


def save(path: Path, pixels: np.ndarray, mode: str | None = None) -> Path:
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(path)
    return path


def with_tag(path: Path, tag: int, value: int) -> Path:
    """Overwrite a number in the header of a TIFF."""
    content = path.read_bytes()
    entry = content.index(struct.pack("<HHI", tag, 3, 1)) + 8
    path.write_bytes(content[:entry] + struct.pack("<H", value) + content[entry + 2 :])
    return path


@pytest.mark.parametrize("ending", ["png", "bmp", "tif", "tiff", "PNG"])
def test_eight_bit_gray_is_divided_by_255(tmp_path: Path, ending: str) -> None:
    image = read_image(save(tmp_path / f"scan.{ending}", RAMP))
    assert image.dtype == torch.float32
    torch.testing.assert_close(image, torch.from_numpy(RAMP)[None] / 255, rtol=0, atol=0)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "P"])
def test_gray_stored_as_colour_is_the_same_gray(tmp_path: Path, mode: str) -> None:
    image = read_image(save(tmp_path / "scan.png", RAMP, mode))
    torch.testing.assert_close(image, torch.from_numpy(RAMP)[None] / 255, rtol=0, atol=0)


def test_colour_becomes_luma(tmp_path: Path) -> None:
    pure = np.diag([255, 255, 255]).astype(np.uint8)[None]
    luma = read_image(save(tmp_path / "colour.png", pure))[0, 0]
    torch.testing.assert_close(luma, torch.tensor([0.299, 0.587, 0.114]), atol=0.5 / 255, rtol=0)


def test_transparent_pixels_lie_over_black(tmp_path: Path) -> None:
    pixels = np.full((1, 3, 4), 200, dtype=np.uint8)
    pixels[0, :, 3] = [0, 51, 255]
    image = read_image(save(tmp_path / "scan.png", pixels))[0, 0]
    torch.testing.assert_close(image, torch.tensor([0.0, 40 / 255, 200 / 255]), atol=1 / 255, rtol=0)


def test_palette_and_transparency_of_gray_files(tmp_path: Path) -> None:
    image = Image.fromarray(RAMP)
    image.save(tmp_path / "hole.png", transparency=40)
    read = read_image(tmp_path / "hole.png")[0]
    assert read[0, 2] == 0
    assert read[0, 3].item() == pytest.approx(60 / 255)


def test_sixteen_bits_use_the_full_range_of_the_type(tmp_path: Path) -> None:
    deep = np.array([[0, 1000, 65535]], dtype=np.uint16)
    for name in ("scan.png", "scan.tif"):
        image = read_image(save(tmp_path / name, deep))
        torch.testing.assert_close(image[0], torch.tensor([[0, 1000 / 65535, 1]]))
    Image.fromarray(deep.astype(">u2")).save(tmp_path / "big_endian.tif")
    assert torch.equal(read_image(tmp_path / "big_endian.tif"), image)


def test_one_bit_and_jpeg(tmp_path: Path) -> None:
    Image.fromarray(RAMP > 100).save(tmp_path / "bits.png")
    assert read_image(tmp_path / "bits.png").unique().tolist() == [0, 1]
    flat = np.full((16, 16), 128, dtype=np.uint8)
    assert read_image(save(tmp_path / "scan.jpeg", flat)).sub(128 / 255).abs().max() < 2 / 255


def test_float_tiff_holds_unit_values(tmp_path: Path) -> None:
    values = np.array([[0, 0.25, 1]], dtype=np.float32)
    assert read_image(save(tmp_path / "scan.tif", values)).tolist() == [[[0, 0.25, 1]]]
    for bad, words in ((np.nan, "NaN or infinity"), (np.inf, "NaN or infinity"), (3.0, "from 0 to 3")):
        values[0, 2] = bad
        with pytest.raises(ValueError, match=rf"scan\.tif.*{words}"):
            read_image(save(tmp_path / "scan.tif", values))


@pytest.mark.parametrize(
    ("dtype", "tag", "value", "words"),
    [
        (np.uint16, 262, 0, "white is 0 in values of 16 bits"),
        (np.float32, 262, 0, "white is 0 in values of 32 bits"),
        (np.uint16, 258, 12, "values of 12 bits"),
    ],
)
def test_a_tiff_whose_values_pillow_takes_for_others_is_refused(
    tmp_path: Path, dtype: type, tag: int, value: int, words: str
) -> None:
    path = with_tag(save(tmp_path / "scan.tif", RAMP.astype(dtype)), tag, value)
    for read in (read_image, read_mask, image_size):
        with pytest.raises(ValueError, match=rf"scan\.tif: {words}; save the image"):
            read(path)


def test_a_tiff_of_8_bits_with_white_as_0_is_turned(tmp_path: Path) -> None:
    image = read_image(with_tag(save(tmp_path / "scan.tif", RAMP), 262, 0))
    assert torch.equal(image, torch.from_numpy(255 - RAMP)[None] / 255)


def test_signed_bytes_are_a_mask_but_no_image(tmp_path: Path) -> None:
    path = tmp_path / "scan.tif"
    Image.fromarray(RAMP).save(path, tiffinfo={339: 2})
    assert torch.equal(read_mask(path), torch.from_numpy(RAMP)[None] > 0)
    with pytest.raises(ValueError, match=r"scan\.tif: signed values have no agreed black; save the image"):
        read_image(path)


def test_32_bit_integers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"scan\.tif.*32-bit integers"):
        read_image(save(tmp_path / "scan.tif", RAMP.astype(np.int32)))


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def damage(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x10
    path.write_bytes(data)


def as_jpeg(path: Path) -> None:
    Image.open(path).save(path, format="JPEG")


def frames(path: Path) -> None:
    image = Image.open(path).copy()
    image.save(path, format="PNG", save_all=True, append_images=[Image.new("L", image.size, 9)])


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (truncate, "corrupt or truncated"),
        (damage, "corrupt or truncated"),
        (lambda path: path.write_bytes(b""), "empty"),
        (lambda path: path.write_bytes(b"no image at all"), "not a readable PNG"),
        (as_jpeg, "holds JPEG data"),
        (frames, "holds 2 frames"),
    ],
)
@pytest.mark.parametrize("read", [read_image, read_mask])
def test_a_broken_file_is_named(
    tmp_path: Path, spoil: Callable[[Path], None], words: str, read: Callable[[Path], torch.Tensor]
) -> None:
    rng = np.random.default_rng(0)
    path = save(tmp_path / "Aufnahme é 1.png", rng.integers(0, 255, (40, 40), dtype=np.uint8))
    spoil(path)
    with pytest.raises(ValueError, match=rf"Aufnahme é 1\.png.*{words}"):
        read(path)


def test_a_truncated_jpeg_is_named(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    path = save(tmp_path / "scan.jpg", rng.integers(0, 255, (64, 64), dtype=np.uint8))
    truncate(path)
    with pytest.raises(ValueError, match=r"scan\.jpg.*truncated"):
        read_image(path)


def test_an_unsupported_ending_and_a_missing_file(tmp_path: Path) -> None:
    (tmp_path / "scan.dcm").write_bytes(b"DICM")
    with pytest.raises(ValueError, match=r"scan\.dcm.*unsupported ending '.dcm'.*\.png, \.jpg"):
        read_image(tmp_path / "scan.dcm")
    with pytest.raises(FileNotFoundError, match=r"absent\.png"):
        read_image(tmp_path / "absent.png")


@pytest.mark.parametrize("foreground", [1, 255])
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "1"])
def test_masks_of_any_kind(tmp_path: Path, foreground: int, mode: str) -> None:
    truth = RAMP > 100
    pixels = np.where(truth, foreground, 0).astype(np.uint8)
    if mode == "1":
        Image.fromarray(truth).save(tmp_path / "mask.png")
    elif mode == "P":
        image = Image.fromarray(pixels).convert("P")
        image.putpalette([v for k in range(256) for v in (k, 0, 0)])
        image.save(tmp_path / "mask.png")
    else:
        save(tmp_path / "mask.png", pixels, mode)
    mask = read_mask(tmp_path / "mask.png")
    assert mask.dtype == torch.bool
    assert mask.shape == (1, 3, 4)
    assert torch.equal(mask[0], torch.from_numpy(truth))


def test_any_colour_is_foreground_and_alpha_is_not(tmp_path: Path) -> None:
    pixels = np.zeros((1, 5, 4), dtype=np.uint8)
    pixels[..., 3] = [255, 255, 255, 0, 255]
    pixels[0, 0, 0], pixels[0, 1, 1], pixels[0, 2, 2] = 3, 255, 90
    assert read_mask(save(tmp_path / "mask.png", pixels)).tolist() == [[[True, True, True, False, False]]]


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_a_mask_drawn_in_its_alpha_channel_alone_is_refused(tmp_path: Path, mode: str) -> None:
    drawn = np.zeros((4, 5, 4), dtype=np.uint8)
    drawn[1:3, 1:4, 3] = 255
    for alpha, empty in ((drawn[..., 3], False), (np.full((4, 5), 255, np.uint8), True), (drawn[..., 0], True)):
        mask = Image.fromarray(np.dstack([drawn[..., :3], alpha]))
        if mode == "P":  # of two blacks, one transparent
            mask = Image.fromarray(alpha // 255).convert("P")
            mask.putpalette([0] * 6)
            mask.info["transparency"] = 0
        mask.convert(mode).save(tmp_path / "m.png")
        if empty:
            assert not read_mask(tmp_path / "m.png").any()
        else:
            with pytest.raises(ValueError, match=r"m\.png: black all over, but transparent in parts"):
                read_mask(tmp_path / "m.png")


def test_soft_edges_are_cut_at_half_of_white_and_label_maps_are_not(tmp_path: Path) -> None:
    soft = np.array([[0, 3, 127, 128, 255]], dtype=np.uint8)
    assert read_mask(save(tmp_path / "soft.png", soft)).tolist() == [[[False, False, False, True, True]]]
    labels = np.array([[0, 1, 2, 3]], dtype=np.uint8)
    assert read_mask(save(tmp_path / "labels.png", labels)).tolist() == [[[False, True, True, True]]]
    deep = np.array([[0, 1, 40000, 65535]], dtype=np.uint16)
    assert read_mask(save(tmp_path / "deep.png", deep)).tolist() == [[[False, False, True, True]]]


def test_float_masks(tmp_path: Path) -> None:
    assert read_mask(save(tmp_path / "m.tif", np.array([[0, 0.5]], dtype=np.float32))).tolist() == [[[False, True]]]
    with pytest.raises(ValueError, match=r"m\.tif.*NaN"):
        read_mask(save(tmp_path / "m.tif", np.array([[0, np.nan]], dtype=np.float32)))


def test_the_size_comes_from_the_header(tmp_path: Path) -> None:
    assert image_size(save(tmp_path / "scan.png", RAMP)) == (3, 4)
