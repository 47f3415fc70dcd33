"""Masks in every file format and colour mode: the area that was drawn is read, or the file is refused."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sslmed.data import read_image, read_mask
from sslmed.data.formats.images import FORMATS

Y, X = np.mgrid[:60, :80]
DISC = (Y - 30) ** 2 + (X - 38) ** 2 < 12**2
COLOURS: dict[str, list[Any]] = {
    "1": [True],
    "L": [1, 128, 255],
    "LA": [1, 255],
    "I;16": [1, 300, 65535],
    "P": [(255, 0, 0), (0, 0, 255), (255, 255, 255), (1, 1, 1)],
    "RGB": [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (255, 255, 255), (128, 0, 0), (0, 40, 40)],
    "RGBA": [(255, 0, 0), (255, 255, 255)],
}
# Of the area: half resolution of the colours moves the outline by parts of a pixel.
BOUND = {50: 0.08, 75: 0.05, 95: 0.02, None: 0.0}


def drawn(mode: str, colour: Any, shape: np.ndarray[Any, Any] = DISC) -> Image.Image:
    values = shape.astype(np.uint8)
    if mode == "1":
        return Image.fromarray(shape)
    if mode == "P":
        image = Image.fromarray(values)
        image.putpalette([0, 0, 0, *colour])
        return image
    if mode == "I;16":
        return Image.fromarray(values.astype(np.uint16) * colour)
    if mode in ("L", "LA"):
        return Image.fromarray(values * np.uint8(colour)).convert(mode)
    return Image.fromarray(values[..., None] * np.array(colour, dtype=np.uint8)).convert(mode)


def saved(image: Image.Image, path: Path, quality: int | None) -> bool:
    try:
        image.save(path, **({} if quality is None else {"quality": quality}))
    except OSError:  # the format has no such mode
        return False
    return True


@pytest.mark.parametrize("ending", [*FORMATS, ".gif"])
@pytest.mark.parametrize("mode", COLOURS)
def test_the_area_stays(tmp_path: Path, ending: str, mode: str) -> None:
    lossy = FORMATS.get(ending) in ("JPEG", "WEBP")
    for colour, quality in itertools.product(COLOURS[mode], (50, 75, 95) if lossy else (None,)):
        path = tmp_path / f"{colour}{quality}{ending}"
        if not saved(drawn(mode, colour), path, quality):
            continue
        faint = lossy and mode != "1" and colour in (1, (1, 1, 1))
        if faint and not np.asarray(Image.open(path)).any():
            continue  # compression has left nothing of it in the file
        if faint or ending not in FORMATS or (ending in (".bmp", ".dib") and colour == (255, 255, 255) and mode == "P"):
            with pytest.raises(ValueError, match=re.escape(str(path))):
                read_mask(path)
            continue
        found = int(read_mask(path).sum()) / DISC.sum()
        assert abs(found - 1) <= BOUND[quality], (colour, quality, found)


@pytest.mark.parametrize("ending", [*FORMATS])
@pytest.mark.parametrize("mode", COLOURS)
def test_an_empty_mask_stays_empty(tmp_path: Path, ending: str, mode: str) -> None:
    path = tmp_path / f"empty{ending}"
    if saved(drawn(mode, COLOURS[mode][0], np.zeros_like(DISC)), path, None):
        assert not read_mask(path).any()


def test_a_red_mask_with_the_compression_in_a_tiff(tmp_path: Path) -> None:
    for quality in (50, 75, 95):
        drawn("RGB", (255, 0, 0)).save(tmp_path / "red.tif", compression="jpeg", quality=quality)
        assert abs(int(read_mask(tmp_path / "red.tif").sum()) / DISC.sum() - 1) <= BOUND[quality]


def test_a_mask_of_ones_is_refused_as_jpeg(tmp_path: Path) -> None:
    drawn("L", 1).save(tmp_path / "ones.jpg", quality=75)
    with pytest.raises(ValueError, match=r"ones\.jpg: the largest value is \d+, which lossy compression does not keep"):
        read_mask(tmp_path / "ones.jpg")


def test_a_bmp_whose_palette_is_black_and_white(tmp_path: Path) -> None:
    drawn("P", (255, 255, 255)).save(tmp_path / "two.bmp")  # Pillow reads its bytes as bits: all black
    for read in (read_image, read_mask):
        with pytest.raises(ValueError, match=r"two\.bmp: a gray palette with 8 bits a pixel, which would be misread"):
            read(tmp_path / "two.bmp")
