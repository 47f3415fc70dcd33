"""MetaImage files, a text header `.mhd` beside raw or zlib-compressed pixels, as the older CAMUS download has them."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ._reading import reading
from .nifti import Volume

_TYPES = {"MET_UCHAR": "u1", "MET_CHAR": "i1", "MET_USHORT": "u2", "MET_SHORT": "i2"}


@dataclass(frozen=True)
class _Header:
    """What of a header is used: shape (D, H, W), NumPy type, spacing alike, and where and how the pixels lie."""

    shape: tuple[int, int, int]
    dtype: np.dtype[np.generic]
    spacing_mm: tuple[float, float, float]
    pixels: Path
    compressed: bool
    skip: int


def read_metaimage(path: Path) -> Volume:
    """Read a gray MetaImage of two or three dimensions with 8 or 16 bits, of either byte order.

    Returns:
        values (1, D, H, W) float32 as stored, the file's first axis being columns, its second rows, its third slices.

    Raises:
        FileNotFoundError: there is no such header.
        ValueError: the header is none, of another kind, or its pixels are missing, corrupt or of another number.
    """
    header = _header(path)
    if not header.pixels.is_file():
        raise ValueError(f"{path}: its pixels {header.pixels.name} are missing")
    with reading(header.pixels, "MetaImage pixel file"):
        return _pixels(header)


def _pixels(header: _Header) -> Volume:
    content = header.pixels.read_bytes()
    expected = int(np.prod(header.shape)) * header.dtype.itemsize
    skip = len(content) - expected if header.skip == -1 else header.skip
    if header.compressed:
        content = zlib.decompress(content[max(header.skip, 0) :])
        skip = 0
    if skip < 0 or len(content) - skip != expected:
        raise ValueError(
            f"{header.pixels}: {expected} bytes of pixels were expected for {header.shape} (D, H, W) of "
            f"{header.dtype.name}, got {len(content) - max(skip, 0)}"
        )
    values = np.frombuffer(content, header.dtype, offset=skip).reshape(header.shape).astype(np.float32)
    return Volume(torch.from_numpy(values)[None], header.spacing_mm)


def metaimage_shape(path: Path) -> tuple[int, int, int]:
    """Return (D, H, W) from the header alone; raise as `read_metaimage`."""
    return _header(path).shape


def metaimage_pixels(path: Path) -> Path:
    """Return the file beside the header that holds the pixels; raise as `read_metaimage`."""
    return _header(path).pixels


def _header(path: Path) -> _Header:
    with reading(path, "MetaImage header"):
        return _parsed(path)


def _parsed(path: Path) -> _Header:
    fields: dict[str, str] = {}
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        key, separator, value = line.partition("=")
        if separator:
            fields[key.strip()] = value.strip()
    sizes = [int(size) for size in fields["DimSize"].split()]
    kind, name = fields["ElementType"], fields["ElementDataFile"]
    spacing = [float(step) for step in fields.get("ElementSpacing", "1 1 1").split()]
    skip = int(fields.get("HeaderSize", "0"))
    if len(sizes) not in (2, 3) or min(sizes) < 1 or len(spacing) < len(sizes) or skip < -1:
        raise ValueError(f"{path}: two or three sizes with their spacing were expected, got {sizes}")
    if kind not in _TYPES or fields.get("ElementNumberOfChannels", "1") != "1":
        raise ValueError(f"{path}: gray pixels of {', '.join(_TYPES)} were expected, got {kind}")
    if name in ("LOCAL", "LIST") or Path(name).name != name:
        raise ValueError(f"{path}: pixels in one file beside the header were expected, got {name!r}")
    big = "true" in (fields.get(key, "").lower() for key in ("BinaryDataByteOrderMSB", "ElementByteOrderMSB"))
    columns, rows, slices = (*sizes, 1)[:3]
    x_mm, y_mm, z_mm = (*spacing, 1.0)[:3]
    return _Header(
        shape=(slices, rows, columns),
        dtype=np.dtype((">" if big else "<") + _TYPES[kind]),
        spacing_mm=(z_mm, y_mm, x_mm),
        pixels=path.with_name(name),
        compressed=fields.get("CompressedData", "").lower() == "true",
        skip=skip,
    )
