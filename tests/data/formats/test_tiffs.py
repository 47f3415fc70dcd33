"""TIFF in all its variants: read right, or refused with the file's name."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from sslmed.data import LabelledImages, read_image, read_mask
from sslmed.data.formats.images import image_size
from tiffs import (
    BLACK_IS_ZERO,
    DEFLATE,
    FLOAT,
    LZW,
    PACKBITS,
    RAW,
    SIGNED,
    UNSIGNED,
    WHITE_IS_ZERO,
    write_tiff,
)

HEIGHT, WIDTH = 20, 24
LUMA = np.array((0.299, 0.587, 0.114))
SAMPLES = [(1, ()), (2, (2,)), (2, (1,)), (2, (0,)), (3, ()), (4, (2,)), (4, (1,)), (4, (0,)), (5, (2, 0))]
NUMBERS = [(k, UNSIGNED) for k in (1, 2, 4, 8, 12, 16, 32)] + [(8, SIGNED), (16, SIGNED), (16, FLOAT)]
NUMBERS += [(32, FLOAT), (64, FLOAT)]
# Every reader of pictures must read these; all else may be refused.
PLAIN = {(k, UNSIGNED) for k in (1, 2, 4, 8, 16)} | {(32, FLOAT)}


def variants(samples: int, extra: tuple[int, ...]) -> Iterator[dict[str, Any]]:
    """Every number of bits, layout, compression and byte order; strips, rows and tiles take turns."""
    blocks = itertools.cycle([{}, {"rows_per_strip": 7}, {"tile": 16}])
    for (bits, kind), compression, big in itertools.product(NUMBERS, (RAW, LZW, DEFLATE, PACKBITS), (False, True)):
        for planar in (False, True)[: min(samples, 2)]:
            for photometric in (BLACK_IS_ZERO, WHITE_IS_ZERO) if samples == 1 else (None,):
                common = {"bits": bits, "kind": kind, "compression": compression, "big": big, "extra": extra}
                yield common | next(blocks) | {"planar": planar, "photometric": photometric}
        if compression in (LZW, DEFLATE) and kind == UNSIGNED and bits in (8, 16):
            yield common | next(blocks) | {"predictor": 2}


def pixels(samples: int, bits: int, kind: int, extra: tuple[int, ...]) -> tuple[Any, Any]:
    """Stored values (H, W, S), and the same on [0, 1]."""
    rng = np.random.default_rng(0)
    white = 1.0 if kind == FLOAT else 2.0**bits - 1
    unit = rng.random((HEIGHT, WIDTH, samples)) * (0.4 if kind == SIGNED else 1)
    if 1 in extra:  # premultiplied colours are no brighter than their alpha
        unit[..., : -len(extra)] *= unit[..., samples - len(extra), None]
    stored = np.float32(unit) if kind == FLOAT else np.round(unit * white).astype(np.uint64)
    return stored, stored / white


def luma(unit: Any, extra: tuple[int, ...]) -> Any:
    colours = unit.shape[-1] - len(extra)
    gray = unit[..., 0] if colours == 1 else unit[..., :3] @ LUMA
    return gray * unit[..., colours] if 2 in extra else gray


def attempt(path: Path) -> tuple[torch.Tensor | None, str]:
    try:
        return read_image(path), ""
    except ValueError as error:
        return None, str(error)


@pytest.mark.parametrize(("samples", "extra"), SAMPLES)
def test_a_tiff_is_read_right_or_refused(tmp_path: Path, samples: int, extra: tuple[int, ...]) -> None:
    path = tmp_path / "scan.tif"
    for variant in variants(samples, extra):
        bits, kind = variant["bits"], variant["kind"]
        stored, unit = pixels(samples, bits, kind, extra)
        write_tiff(path, stored, **variant)
        image, refusal = attempt(path)
        if image is None:
            assert "scan.tif" in refusal, variant
            plain = samples == 1 and variant["photometric"] == BLACK_IS_ZERO and (bits, kind) in PLAIN
            assert not plain or "compressed big-endian floats" in refusal, variant
            continue
        expected = luma(unit, extra)
        if variant.get("photometric") == WHITE_IS_ZERO:
            expected = 1 - expected
        # Pillow rounds deep colours and alpha to 8 bits.
        tolerance = 1e-6 if samples == 1 else 2.5 / 255
        assert image.shape == (1, HEIGHT, WIDTH), variant
        assert np.abs(image[0].numpy() - expected).max() <= tolerance, variant
        assert image_size(path) == (HEIGHT, WIDTH)


@pytest.mark.parametrize(
    ("samples", "variant", "words"),
    [
        (3, {"bits": 16, "planar": True}, "3 values of 16 bits lie in separate planes"),
        (2, {"bits": 8, "planar": True, "extra": (2,), "compression": LZW}, "separate planes"),
        (1, {"bits": 32, "kind": FLOAT, "big": True, "compression": DEFLATE}, "compressed big-endian floats"),
        (1, {"bits": 8, "pages": 2}, "holds 2 frames"),
    ],
)
def test_what_pillow_misreads_is_refused(tmp_path: Path, samples: int, variant: dict[str, Any], words: str) -> None:
    path = write_tiff(tmp_path / "scan.tif", np.ones((4, 5, samples)), **variant)
    for read in (read_image, read_mask, image_size):
        with pytest.raises(ValueError, match=rf"scan\.tif: .*{words}"):
            read(path)


def test_eight_bit_planes_are_read(tmp_path: Path) -> None:
    stored, unit = pixels(3, 8, UNSIGNED, ())
    for compression in (RAW, LZW):
        image = read_image(write_tiff(tmp_path / "a.tif", stored, bits=8, planar=True, compression=compression))
        assert np.abs(image[0].numpy() - luma(unit, ())).max() < 1 / 255


@pytest.mark.parametrize("unit", [1, 257])
def test_a_palette_of_8_bits_in_words_of_16(tmp_path: Path, unit: int) -> None:
    """Old programs store 0 to 255 where 0 to 65535 is meant; libtiff takes them for that too."""
    ramp = np.arange(12, dtype=np.uint8).reshape(3, 4)
    path = tmp_path / "a.tif"
    image = Image.fromarray(ramp).convert("P")
    image.putpalette([k for value in range(256) for k in (255 - value,) * 3])
    image.save(path)
    content = path.read_bytes()
    written = np.array([255 - k for k in range(256)] * 3, dtype="<u2")
    for stored in (written * 257, written * 256):
        content = content.replace(stored.tobytes(), (written * unit).astype("<u2").tobytes())
    path.write_bytes(content)
    assert torch.equal(read_image(path)[0], torch.from_numpy(255 - ramp) / 255)
    assert read_mask(path).all()


# PNG, JPEG and the others keep the rows and columns of the file; TIFF must do so too.
FORMATS = [("tif", {}), ("tif", {"compression": "tiff_lzw"}), ("png", {}), ("jpg", {"quality": 100})]
FORMATS += [("webp", {"lossless": True})]


def save(path: Path, stored: Any, orientation: int | None, **options: Any) -> Path:
    image = Image.fromarray(stored)
    if orientation is not None:
        exif = Image.Exif()
        exif[274] = orientation
        options |= {"exif": exif}
    (image.convert("RGB") if path.suffix == ".webp" else image).save(path, **options)
    return path


@pytest.mark.parametrize(("ending", "options"), FORMATS)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_no_orientation_is_applied(tmp_path: Path, orientation: int, ending: str, options: dict[str, Any]) -> None:
    stored = (np.add.outer(np.arange(12) * 9, np.arange(9) * 16)).astype(np.uint8)
    path = save(tmp_path / f"scan.{ending}", stored, orientation, **options)
    assert image_size(path) == (12, 9)
    assert read_image(path)[0].sub(torch.from_numpy(stored) / 255).abs().max() <= 3 / 255
    assert torch.equal(read_mask(path)[0], read_mask(save(tmp_path / f"b.{ending}", stored, None, **options))[0])


@pytest.mark.parametrize("mode", [np.uint8, np.uint16, np.float32, np.bool_])
def test_no_orientation_is_applied_to_any_kind_of_tiff(tmp_path: Path, mode: type) -> None:
    stored = np.arange(12).reshape(3, 4) % 2 == np.arange(4) % 3 % 2
    for orientation, compression in itertools.product(range(1, 9), (None, "packbits")):
        for tag in ({274: orientation}, {700: b'<x tiff:Orientation="%d"/>' % orientation}):
            image = Image.fromarray(stored.astype(mode) if mode != np.bool_ else stored)
            image.save(tmp_path / "a.tif", tiffinfo=tag, compression=compression)
            assert torch.equal(read_mask(tmp_path / "a.tif")[0], torch.from_numpy(stored))
            assert torch.equal(read_image(tmp_path / "a.tif")[0] > 0, torch.from_numpy(stored))


@pytest.mark.parametrize("tagged", ["image", "mask", "both"])
def test_image_and_mask_stay_aligned(tmp_path: Path, tagged: str) -> None:
    stored = np.zeros((7, 5), dtype=np.uint8)
    stored[1:3, 1] = 255
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    for orientation, endings in itertools.product(range(1, 9), itertools.product(("tif", "png"), repeat=2)):
        for folder, kind, ending in zip(("images", "masks"), ("image", "mask"), endings, strict=True):
            for old in (tmp_path / folder).iterdir():
                old.unlink()
            save(tmp_path / folder / f"a.{ending}", stored, orientation if tagged in (kind, "both") else None)
        (case,) = LabelledImages(tmp_path)
        assert torch.equal(case["image"] > 0.5, case["mask"])
        assert torch.equal(case["mask"][0], torch.from_numpy(stored > 0))


def test_a_mask_drawn_on_the_turned_image_is_refused_with_the_reason(tmp_path: Path) -> None:
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    save(tmp_path / "images" / "a.tif", np.ones((7, 5), dtype=np.uint8), 6)
    save(tmp_path / "masks" / "a.png", np.ones((5, 7), dtype=np.uint8), None)
    with pytest.raises(ValueError, match=r"a\.png: the mask has 5 x 7.*orientation in the header is not applied"):
        LabelledImages(tmp_path)
