"""MetaImage files written here, header by header."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import pytest
import torch

from sslmed.data.formats._metaimage import metaimage_shape, read_metaimage

RAMP = np.arange(24, dtype=np.int16).reshape(2, 3, 4) - 5


def write(folder: Path, content: bytes, **changes: str | None) -> Path:
    fields: dict[str, str | None] = {
        "ObjectType": "Image",
        "NDims": "3",
        "BinaryData": "True",
        "BinaryDataByteOrderMSB": "False",
        "CompressedData": "False",
        "ElementSpacing": "0.308 0.154 1.54",
        "DimSize": "4 3 2",
        "ElementType": "MET_SHORT",
        "ElementDataFile": "a b.raw",
    } | changes
    (folder / "a b.raw").write_bytes(content)
    lines = [f"{key} = {value}" for key, value in fields.items() if value is not None]
    (folder / "é.mhd").write_text("\n".join(lines), encoding="utf-8")
    return folder / "é.mhd"


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("kind", ["MET_UCHAR u1", "MET_CHAR i1", "MET_USHORT u2", "MET_SHORT i2"])
def test_types_orders_and_compression(tmp_path: Path, order: str, compressed: bool, kind: str) -> None:
    name, dtype = kind.split()
    values = (np.abs(RAMP) if dtype[0] == "u" else RAMP).astype(order + dtype)
    content = zlib.compress(values.tobytes()) if compressed else values.tobytes()
    path = write(
        tmp_path,
        content,
        BinaryDataByteOrderMSB=str(order == ">"),
        CompressedData=str(compressed),
        ElementType=name,
    )
    volume = read_metaimage(path)
    assert torch.equal(volume.values[0], torch.from_numpy(values.astype(np.float32)))
    assert volume.spacing_mm == (1.54, 0.154, 0.308)
    assert metaimage_shape(path) == (2, 3, 4)


def test_headers_inside_the_pixel_file_and_flat_images(tmp_path: Path) -> None:
    path = write(tmp_path, b"header" + RAMP.tobytes(), HeaderSize="6")
    assert read_metaimage(path).values[0, 1, 2, 3] == 18
    path = write(tmp_path, b"any" + RAMP.tobytes(), HeaderSize="-1")
    assert read_metaimage(path).values[0, 0, 0, 0] == -5
    path = write(tmp_path, RAMP[0].tobytes(), DimSize="4 3", ElementSpacing=None)
    assert read_metaimage(path).values.shape == (1, 1, 3, 4)
    assert read_metaimage(path).spacing_mm == (1, 1, 1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"DimSize": None}, "not a readable MetaImage header"),
        ({"DimSize": "4 x 2"}, "not a readable MetaImage header"),
        ({"DimSize": "4 0 2"}, "two or three sizes"),
        ({"DimSize": "4 3 2 1"}, "two or three sizes"),
        ({"ElementType": "MET_DOUBLE"}, "gray pixels of MET_UCHAR.*got MET_DOUBLE"),
        ({"ElementNumberOfChannels": "3"}, "gray pixels"),
        ({"ElementDataFile": "LOCAL"}, "got 'LOCAL'"),
        ({"ElementDataFile": "../a b.raw"}, "beside the header"),
        ({"ElementDataFile": "none.raw"}, r"none\.raw are missing"),
        ({"DimSize": "4 3 3"}, "72 bytes of pixels were expected.*got 48"),
        ({"HeaderSize": "4"}, "got 44"),
        ({"CompressedData": "True"}, "not a readable MetaImage pixel file"),
    ],
)
def test_damage_is_named(tmp_path: Path, changes: dict[str, str | None], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_metaimage(write(tmp_path, RAMP.tobytes(), **changes))


def test_empty_and_missing(tmp_path: Path) -> None:
    (tmp_path / "a.mhd").touch()
    with pytest.raises(ValueError, match=r"a\.mhd: the file is empty"):
        read_metaimage(tmp_path / "a.mhd")
    with pytest.raises(FileNotFoundError):
        read_metaimage(tmp_path / "b.mhd")
