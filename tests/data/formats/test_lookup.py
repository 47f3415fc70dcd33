"""Lookup tables of DICOM files, in each way of storing them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from scans import dataset, words, write_dicom
from sslmed.data.formats.dicom import read_dicom

pytest.importorskip("pydicom")

LUMA = np.array((0.299, 0.587, 0.114))
COLOURS = ("Red", "Green", "Blue")
SYNTAXES = ("explicit", "implicit", "big")


def palette(entries: np.ndarray, descriptor: list[int], syntax: str, *, packed: bool) -> dict[str, Any]:
    """Elements of a palette; entries (3, N)."""
    tags: dict[str, Any] = {"PhotometricInterpretation": "PALETTE COLOR"}
    for colour, column in zip(COLOURS, entries, strict=True):
        tags[f"{colour}PaletteColorLookupTableDescriptor"] = descriptor
        tags[f"{colour}PaletteColorLookupTableData"] = words(column, syntax=syntax, packed=packed)
    return tags


def close(path: Path, expected: np.ndarray, **options: str) -> None:
    image = read_dicom(path, **options)[0, 0]
    torch.testing.assert_close(image.double(), torch.from_numpy(np.asarray(expected, dtype=np.float64)))


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize(
    ("bits", "scale", "packed", "white"),
    [
        (8, 1, True, 255),  # as the standard has it
        (8, 1, False, 255),  # a word for each entry, its high byte 0
        (16, 257, False, 65535),
        (16, 1, True, 255),  # a descriptor that the length contradicts
        (8, 256, False, 65535),  # a word for each entry, its low byte 0
    ],
)
def test_palettes(tmp_path: Path, syntax: str, bits: int, scale: int, packed: bool, white: int) -> None:
    entries = np.array([[0, 255, 10, 100, 30], [0, 255, 200, 90, 5], [0, 255, 7, 250, 60]]) * scale
    stored = np.array([[7, 8, 9], [10, 11, 12]], dtype=np.uint16)  # of which 12 lies beyond the table
    tags = palette(entries, [5, 7, bits], syntax, packed=packed)
    path = write_dicom(tmp_path / "a.dcm", stored, syntax=syntax, **tags)
    expected = LUMA @ (entries / white)
    close(path, expected[[[0, 1, 2], [3, 4, 4]]])


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("bits", [8, 16])
def test_segmented_palettes(tmp_path: Path, syntax: str, bits: int) -> None:
    white = 2**bits - 1
    # Three values, a line of four up to white, and a copy of both: the first one's offset is 0 bytes.
    segments = [0, 3, 5, 7, 11, 1, 4, white, 2, 2, 0, 0, *([0, 0] if bits == 8 else [])]
    line = np.linspace(11, white, 5)[1:]
    again = np.linspace(11, white, 5)[1:]
    entries = np.rint([5, 7, 11, *line, 5, 7, 11, *again])
    tags: dict[str, Any] = {"PhotometricInterpretation": "PALETTE COLOR"}
    for colour in COLOURS:
        tags[f"{colour}PaletteColorLookupTableDescriptor"] = [14, 0, bits]
        tags[f"Segmented{colour}PaletteColorLookupTableData"] = words(segments, syntax=syntax, packed=bits == 8)
    stored = np.arange(14, dtype=np.uint16).reshape(2, 7)
    path = write_dicom(tmp_path / "a.dcm", stored, syntax=syntax, **tags)
    close(path, (entries / white).reshape(2, 7))


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("vr", ["US", "OW"])
@pytest.mark.parametrize(("bits", "packed"), [(8, True), (8, False), (10, False), (16, False)])
def test_voi_and_modality_tables(tmp_path: Path, syntax: str, vr: str, bits: int, packed: bool) -> None:
    # More entries than 8 bits can count: an index of the entries' own type would wrap.
    entries = (np.arange(1000) * 37 % 2**bits).astype(np.uint16)
    entries[5] = 2**bits - 1
    stored = np.array([[0, 1, 7], [300, 900, 4095]], dtype=np.uint16)
    expected = entries[(stored.astype(int) - 2).clip(0, 999)] / (2**bits - 1)
    item = dataset(LUTDescriptor=[1000, 2, bits], ModalityLUTType="US")
    content = words(entries, syntax=syntax, packed=packed)
    plain = words(entries, packed=packed)
    item.add_new("LUTData", vr, content if vr == "OW" else np.frombuffer(plain, "<u2").tolist())
    path = write_dicom(tmp_path / "a.dcm", stored, syntax=syntax, VOILUTSequence=[item])
    close(path, expected, window="header")
    path = write_dicom(tmp_path / "b.dcm", stored, syntax=syntax, ModalityLUTSequence=[item])
    close(path, expected, window="full")
    tags = {"WindowCenter": 2 ** (bits - 1), "WindowWidth": 2**bits, "VOILUTFunction": "LINEAR_EXACT"}
    path = write_dicom(tmp_path / "c.dcm", stored, syntax=syntax, ModalityLUTSequence=[item], **tags)
    close(path, expected * (2**bits - 1) / 2**bits, window="header")


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_tables_may_begin_below_zero(tmp_path: Path, syntax: str) -> None:
    item = dataset(LUTDescriptor=[3, -2, 8], LUTData=words([0, 51, 255], syntax=syntax, packed=True))
    item["LUTData"].VR = "OW"
    stored = np.array([[-5, -2], [-1, 3]], dtype=np.int16)
    path = write_dicom(tmp_path / "a.dcm", stored, syntax=syntax, VOILUTSequence=[item])
    close(path, [[0, 0], [0.2, 1]], window="header")


@pytest.mark.parametrize(
    ("descriptor", "entries", "message"),
    [
        ([11, 0, 16], 5, "a lookup table of 11 entries was expected, got 10 bytes"),
        ([20, 0, 8], 5, "a lookup table of 20 entries was expected, got 10 bytes"),
        ([0, 0, 8], 5, "a lookup table of 65536 entries was expected"),
        ([5, 0, 4], 5, "8 to 16 bits were expected, got 4"),
        ([5, 0, 10], 5, "a lookup table of 10 bits holds 4000"),
    ],
)
def test_tables_that_deny_their_descriptor(tmp_path: Path, descriptor: list[int], entries: int, message: str) -> None:
    content = np.tile(np.arange(entries) * 1000, (3, 1))
    tags = palette(content, descriptor, "explicit", packed=False)
    path = write_dicom(tmp_path / "a.dcm", np.zeros((2, 2), dtype=np.uint16), **tags)
    with pytest.raises(ValueError, match=rf"a\.dcm: .*{message}"):
        read_dicom(path)


def test_segments_of_no_known_kind(tmp_path: Path) -> None:
    tags: dict[str, Any] = {"PhotometricInterpretation": "PALETTE COLOR"}
    for colour in COLOURS:
        tags[f"{colour}PaletteColorLookupTableDescriptor"] = [3, 0, 16]
    stored = np.zeros((2, 2), dtype=np.uint16)
    for segments, message in (([3, 1, 0, 0], "segment of kind 3"), ([0, 2, 1, 1], "its segments give 2")):
        for colour in COLOURS:
            tags[f"Segmented{colour}PaletteColorLookupTableData"] = words(segments)
        with pytest.raises(ValueError, match=rf"a\.dcm: .*{message}"):
            read_dicom(write_dicom(tmp_path / "a.dcm", stored, **tags))
