"""Lookup tables of DICOM files: palettes, modality tables and VOI tables, however their entries are stored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ._reading import Unreadable

if TYPE_CHECKING:
    from pydicom import Dataset

Pixels = Any  # arrays that come out of pydicom, which gives them no types

_COLOURS = ("Red", "Green", "Blue")


@dataclass(frozen=True)
class Table:
    """A lookup table.

    Attributes:
        entries: (N,) uint16.
        first: the pixel value that the first entry maps.
        white: the greatest value that an entry of its bits can have.
    """

    entries: npt.NDArray[np.uint16]
    first: int
    white: int

    def __call__(self, values: Pixels) -> Pixels:
        """Map values to float32 in [0, 1]; values beyond either end get the entry at that end."""
        index = np.rint(values).astype(np.int64) - self.first
        return (self.entries.astype(np.float32) / self.white)[index.clip(0, len(self.entries) - 1)]


def table_of(header: Dataset, item: Dataset, *, signed: bool) -> Table:
    """Read a modality or VOI table (PS3.3 C.11.1 and C.11.2); `signed` says whether values below 0 can be mapped."""
    count, first, bits = _descriptor(item.LUTDescriptor, signed=signed)
    entries, bits = _entries(_words(header, item["LUTData"]), count, bits)
    return _tables([entries], first, bits)[0]


def palette_of(header: Dataset) -> list[Table]:
    """Read the palette (PS3.3 C.7.6.3.1.5 and 6, C.7.9.2): red, green, blue."""
    signed = bool(header.PixelRepresentation)
    columns = []
    for colour in _COLOURS:
        name = f"{colour}PaletteColorLookupTable"
        count, first, bits = _descriptor(header[f"{name}Descriptor"].value, signed=signed)
        if header.get(f"{name}Data"):
            entries, bits = _entries(_words(header, header[f"{name}Data"]), count, bits)
        else:
            words = _words(header, header[f"Segmented{name}Data"])
            entries = _expanded(_bytes(words) if bits == 8 else words, count, bits)
        columns.append(entries)
    return _tables(columns, first, bits)


def _descriptor(values: Sequence[int], *, signed: bool) -> tuple[int, int, int]:
    """Return the number of entries, the first value mapped and the bits of an entry."""
    count, first, bits = (int(value) for value in values)
    if signed and first >= 2**15:
        first -= 2**16
    if not 8 <= bits <= 16:
        raise Unreadable(f"lookup tables of 8 to 16 bits were expected, got {bits}")
    return count % 2**16 or 2**16, first, bits


def _tables(columns: Sequence[npt.NDArray[np.uint16]], first: int, bits: int) -> list[Table]:
    """Give tables that belong together one white."""
    greatest = max(int(entries.max()) for entries in columns)
    if bits == 8 and greatest > 255:
        bits = 16  # as some machines write it
    if greatest >= 2**bits:
        raise Unreadable(f"a lookup table of {bits} bits holds {greatest}")
    return [Table(entries, first, 2**bits - 1) for entries in columns]


def _words(header: Dataset, element: Any) -> npt.NDArray[np.uint16]:
    """Return the 16-bit words of an element, whose type is bytes or numbers, in either byte order."""
    if isinstance(element.value, bytes):
        little = header.original_encoding[1] or element.VR == "OB"
        return np.frombuffer(element.value, "<u2" if little else ">u2").astype(np.uint16)
    return np.atleast_1d(np.asarray(element.value)).astype(np.uint16)


def _bytes(words: npt.NDArray[np.uint16]) -> npt.NDArray[np.uint16]:
    """Split words into the two bytes that each holds, the lower first (PS3.5 7.3: in either byte order)."""
    return np.stack([words & 255, words >> 8], axis=1).ravel()


def _entries(words: npt.NDArray[np.uint16], count: int, bits: int) -> tuple[npt.NDArray[np.uint16], int]:
    """Return entries and their bits: a word each, or packed two in a word, which only the length tells for sure."""
    if len(words) >= count:
        return words[:count], bits
    if 2 * len(words) < count:
        raise Unreadable(f"a lookup table of {count} entries was expected, got {2 * len(words)} bytes")
    return _bytes(words)[:count], 8


def _expanded(stream: npt.NDArray[np.uint16], count: int, bits: int) -> npt.NDArray[np.uint16]:
    """Expand the segments of a table: values as they are, straight lines, and copies of earlier segments."""
    values = stream.tolist()
    unit = 1 if bits == 8 else 2  # bytes of a value
    entries: list[int] = []

    def expand(at: int, segments: int, *, copied: bool = False) -> None:
        for _ in range(segments):
            if at + 2 >= len(values) or len(entries) >= count:  # one value may be left, as padding
                return
            kind, length = values[at : at + 2]
            at += 2
            if kind == 0:
                entries.extend(values[at : at + length])
                at += length
            elif kind == 1:
                line = np.linspace(entries[-1], values[at], length + 1)[1:]
                entries.extend(np.rint(line).astype(int).tolist())
                at += 1
            elif kind == 2 and not copied:
                size = 4 // unit
                start = sum(part << 8 * unit * k for k, part in enumerate(values[at : at + size]))
                expand(start // unit, length, copied=True)
                at += size
            else:
                raise Unreadable(f"a lookup table has a segment of kind {kind}")

    expand(0, len(values))
    if len(entries) != count:
        raise Unreadable(f"a lookup table of {count} entries was expected, its segments give {len(entries)}")
    return np.array(entries, dtype=np.uint16)
