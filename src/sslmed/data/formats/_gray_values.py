"""From the stored values of gray DICOM files to [0, 1]: padding, rescale and window of each frame."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from ._lookup import table_of
from ._reading import Unreadable

if TYPE_CHECKING:
    from pydicom import Dataset

Pixels = Any  # arrays that come out of pydicom, which gives them no types

# The sequences of functional groups that hold these values, of enhanced multi-frame files (PS3.3 C.7.6.16.2).
_RESCALE = "PixelValueTransformationSequence"
_WINDOW = "FrameVOILUTSequence"


def gray_values(header: Dataset, stored: Pixels, window: str) -> Pixels:
    """Turn stored values (F, H, W) into float32 of that shape in [0, 1], where 1 is white; padding is 0.

    Args:
        header: of the file.
        stored: the pixels.
        window: "full", "header" or "own", as in `read_dicom`.
    """
    padding = _padding(header, stored)
    values = {"full": _full, "header": _windowed, "own": _own}[window](header, stored, ~padding)
    if header.PhotometricInterpretation == "MONOCHROME1":
        values = 1 - values
    values[padding] = 0
    return values.astype(np.float32)


def _full(header: Dataset, stored: Pixels, inside: Pixels) -> Pixels:
    """Scale the range of the stored bits to [0, 1]; a modality table has a range of its own."""
    if header.get("ModalityLUTSequence"):
        return _rescaled(header, stored, unit=True)
    bits = int(header.BitsStored)
    if bits > 16:
        raise Unreadable(f"{bits}-bit pixels have no agreed white; use window='own'")
    low = -(2 ** (bits - 1)) if header.PixelRepresentation else 0
    values = (stored.astype(np.float32) - low) / np.float32(2**bits - 1)
    # A rescale keeps the range of the bits, but may turn it over.
    falling = np.array([slope < 0 for slope, _ in _rescales(header, len(stored))])
    values[falling] = 1 - values[falling]
    return values


def _own(header: Dataset, stored: Pixels, inside: Pixels) -> Pixels:
    """Scale the values of the file from least to greatest; a constant file becomes black."""
    values = _rescaled(header, stored)
    if not inside.any():
        return np.zeros_like(values)
    low, high = values[inside].min(), values[inside].max()
    return (values - low) / ((high - low) or 1)


def _windowed(header: Dataset, stored: Pixels, inside: Pixels) -> Pixels:
    """Apply each frame's first window or table to its rescaled values."""
    values = _rescaled(header, stored)
    places = [_place(header, k, _WINDOW, "VOILUTSequence", "WindowCenter") for k in range(len(stored))]
    for place in {id(place): place for place in places}.values():
        frames = [other is place for other in places]
        values[frames] = _shown(header, place, values[frames])
    return values


def _shown(header: Dataset, place: Dataset, values: Pixels) -> Pixels:
    """Apply the window or table that a part of the header holds."""
    if place.get("VOILUTSequence"):
        signed = bool(header.PixelRepresentation) or bool((values < 0).any())
        return table_of(header, place.VOILUTSequence[0], signed=signed)(values)
    centre, width = _number(place, "WindowCenter"), _number(place, "WindowWidth")
    if centre is None or width is None:
        raise Unreadable("the header holds no window; use window='full' or 'own'")
    function = str(place.get("VOILUTFunction") or "LINEAR")
    if function not in ("LINEAR", "LINEAR_EXACT", "SIGMOID"):
        raise Unreadable(f"an unknown function of the window, {function}; use window='full' or 'own'")
    if not (width >= 1 if function == "LINEAR" else width > 0):
        raise Unreadable(
            f"a window {width:g} wide, which is too narrow for its function {function}; use window='full' or 'own'"
        )
    # PS3.3 C.11.2.1.2.1, C.11.2.1.3.1 and C.11.2.1.3.2, all on [0, 1].
    if function == "SIGMOID":
        return 0.5 + 0.5 * np.tanh(2 * (values - centre) / width)
    if function == "LINEAR":
        centre, width = centre - 0.5, width - 1
    if not width:
        return (values > centre).astype(values.dtype)
    return ((values - centre) / width + 0.5).clip(0, 1)


def _rescaled(header: Dataset, stored: Pixels, *, unit: bool = False) -> Pixels:
    """Apply the modality's table or each frame's rescale; `unit` scales a table's entries to [0, 1]."""
    if header.get("ModalityLUTSequence"):
        table = table_of(header, header.ModalityLUTSequence[0], signed=bool(header.PixelRepresentation))
        return table(stored).astype(np.float64) * (1 if unit else table.white)
    values = stored.astype(np.float64)
    for frame, (slope, intercept) in zip(values, _rescales(header, len(stored)), strict=True):
        if not slope:
            raise Unreadable("RescaleSlope is 0, which leaves no differences; use window='full'")
        frame *= slope
        frame += intercept
    return values


def _rescales(header: Dataset, frames: int) -> Iterator[tuple[float, float]]:
    """Yield slope and intercept of each frame; what is absent or empty changes nothing."""
    for k in range(frames):
        place = _place(header, k, _RESCALE, "RescaleSlope", "RescaleIntercept")
        slope, intercept = _number(place, "RescaleSlope"), _number(place, "RescaleIntercept")
        yield 1.0 if slope is None else slope, intercept or 0.0


def _place(header: Dataset, frame: int, sequence: str, *names: str) -> Dataset:
    """Return the part of the header that holds one of the names for a frame: its own, the shared, or the top."""
    own, shared = header.get("PerFrameFunctionalGroupsSequence"), header.get("SharedFunctionalGroupsSequence")
    for group in (own and own[frame], shared and shared[0]):
        for item in (group and group.get(sequence)) or ():
            if any(item.get(name) not in (None, "") for name in names):
                return item
    return header


def _number(place: Dataset, name: str) -> float | None:
    """Return the first number of an element; None where it is absent or empty."""
    value = np.ravel(place.get(name))[:1].tolist()
    if value in ([], [None], [""]):
        return None
    number = float(value[0])
    if not math.isfinite(number):
        raise Unreadable(f"{name} is {number}; a finite number was expected")
    return number


def _padding(header: Dataset, stored: Pixels) -> Pixels:
    """Tell which pixels are padding (PS3.3 C.7.5.1.1.2): those of one value, or of a range that begins with it."""
    if header.get("PixelPaddingValue") is None:
        return np.zeros(stored.shape, dtype=bool)
    bits = int(header.BitsStored)
    ends: list[int] = []
    for name in ("PixelPaddingValue", "PixelPaddingRangeLimit"):
        value = header.get(name)
        value = int(ends[0] if value is None else value) % 2**bits  # as the pixels, without unused bits
        ends.append(value - 2**bits if header.PixelRepresentation and value >= 2 ** (bits - 1) else value)
    return (stored >= min(ends)) & (stored <= max(ends))
