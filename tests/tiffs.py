"""TIFF files written byte by byte, for the variants that Pillow does not write."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

RAW, LZW, DEFLATE, PACKBITS = 1, 5, 8, 32773
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB = 0, 1, 2
UNSIGNED, SIGNED, FLOAT = 1, 2, 3


def write_tiff(
    path: Path,
    values: np.ndarray[Any, Any],
    *,
    bits: int,
    photometric: int | None = None,
    big: bool = False,
    planar: bool = False,
    compression: int = RAW,
    predictor: int = 1,
    tile: int | None = None,
    rows_per_strip: int | None = None,
    kind: int = UNSIGNED,
    extra: Sequence[int] = (),
    orientation: int | None = None,
    pages: int = 1,
) -> Path:
    """Write values (H, W, S) of `bits` bits each as a TIFF of one or more equal pages.

    Args:
        photometric: by default black is zero with one or two samples and RGB with more.
        big: big-endian.
        planar: each sample in strips or tiles of its own.
        predictor: 2 stores horizontal differences.
        tile: side of square tiles; strips without it.
        kind: sample format.
        extra: meaning of the samples beyond gray or RGB: 0 unspecified, 1 premultiplied alpha, 2 alpha.
    """
    order = ">" if big else "<"
    height, width, samples = values.shape
    planes = [values[..., k : k + 1] for k in range(samples)] if planar else [values]
    rows, columns = (tile, tile) if tile else (rows_per_strip or height, width)
    blocks = [
        _compressed(_packed(_block(plane, y, x, rows, columns, tile), bits, order, kind, predictor), compression)
        for plane in planes
        for y in range(0, height, rows)
        for x in range(0, width, columns)
    ]
    if photometric is None:
        photometric = RGB if samples - len(extra) == 3 else BLACK_IS_ZERO
    content = bytearray((b"MM" if big else b"II") + struct.pack(order + "HI", 42, 0))
    offsets = []
    for block in blocks:
        offsets.append(len(content))
        content += block + b"\0" * (len(block) % 2)
    fields: dict[int, tuple[str, Sequence[int]]] = {
        256: ("I", [width]),
        257: ("I", [height]),
        258: ("H", [bits] * samples),
        259: ("H", [compression]),
        262: ("H", [photometric]),
        277: ("H", [samples]),
        284: ("H", [1 + planar]),
        339: ("H", [kind] * samples),
    }
    if tile:
        fields |= {322: ("I", [tile]), 323: ("I", [tile])}
        fields |= {324: ("I", offsets), 325: ("I", [len(block) for block in blocks])}
    else:
        fields |= {273: ("I", offsets), 278: ("I", [rows]), 279: ("I", [len(block) for block in blocks])}
    fields |= {317: ("H", [predictor])} if predictor != 1 else {}
    fields |= {338: ("H", extra)} if extra else {}
    fields |= {274: ("H", [orientation])} if orientation else {}
    link = 4
    for _ in range(pages):
        link = _directory(content, fields, order, link)
    path.write_bytes(content)
    return path


def _directory(content: bytearray, fields: dict[int, tuple[str, Sequence[int]]], order: str, link: int) -> int:
    """Append a page's directory, let the place `link` point there, and return the place of its own link."""
    entries = b""
    for tag, (code, numbers) in sorted(fields.items()):
        value = struct.pack(f"{order}{len(numbers)}{code}", *numbers)
        if len(value) > 4:
            place, value = len(content), value + b"\0" * (len(value) % 2)
            content += value
            value = struct.pack(order + "I", place)
        entries += struct.pack(order + "HHI", tag, {"H": 3, "I": 4}[code], len(numbers)) + value.ljust(4, b"\0")
    content[link : link + 4] = struct.pack(order + "I", len(content))
    content += struct.pack(order + "H", len(fields)) + entries + bytes(4)
    return len(content) - 4


def _block(
    plane: np.ndarray[Any, Any], y: int, x: int, rows: int, columns: int, tile: int | None
) -> np.ndarray[Any, Any]:
    block = plane[y : y + rows, x : x + columns]
    if tile:  # tiles at the edges are filled up
        block = np.pad(block, ((0, rows - block.shape[0]), (0, columns - block.shape[1]), (0, 0)))
    return block


def _packed(block: np.ndarray[Any, Any], bits: int, order: str, kind: int, predictor: int) -> bytes:
    if bits < 8 or bits == 12:  # rows begin on whole bytes
        numbers = block.reshape(len(block), -1).astype(np.uint16)
        digits = (numbers[..., None] >> np.arange(bits - 1, -1, -1, dtype=np.uint16)) & 1
        return np.packbits(digits.reshape(len(block), -1).astype(np.uint8), axis=1).tobytes()
    letter = {UNSIGNED: "u", SIGNED: "i", FLOAT: "f"}[kind]
    numbers = block.astype(f"{letter}{bits // 8}")
    if predictor == 2:
        numbers = np.concatenate([numbers[:, :1], np.diff(numbers, axis=1)], axis=1)
    return numbers.astype(numbers.dtype.newbyteorder(order)).tobytes()


def _compressed(data: bytes, compression: int) -> bytes:
    if compression == DEFLATE:
        return zlib.compress(data)
    if compression == PACKBITS:  # literal runs only
        parts = [data[k : k + 128] for k in range(0, len(data), 128)]
        return b"".join(bytes([len(part) - 1]) + part for part in parts)
    if compression == LZW:  # the table is cleared before its codes need ten bits
        codes = [256]
        for k, value in enumerate(data):
            codes += [256, value] if k and k % 200 == 0 else [value]
        digits = np.array([*codes, 257])[:, None] >> np.arange(8, -1, -1) & 1
        return np.packbits(digits.astype(np.uint8).ravel()).tobytes()
    return data
