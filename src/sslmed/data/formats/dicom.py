"""DICOM files to gray frames: every photometric interpretation the right way up, no header data kept."""

from __future__ import annotations

import os
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ... import _checks
from ..._compat import install_hint
from ._gray_values import gray_values
from ._lookup import palette_of
from ._reading import Unreadable, reading

if TYPE_CHECKING:
    from pydicom import Dataset

Pixels = Any  # arrays that come out of pydicom, which gives them no types

_LUMA = np.array((0.299, 0.587, 0.114), dtype=np.float32)  # ITU-R 601, as `read_image`
# Samples of a pixel by photometric interpretation; others, all retired, pydicom would hand over as if they were RGB.
_SAMPLES = {"MONOCHROME1": 1, "MONOCHROME2": 1, "PALETTE COLOR": 1, "RGB": 3} | dict.fromkeys(
    ("YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT"), 3
)
_WINDOWS = ("full", "header", "own")
_TAGS = [
    "BitsAllocated",
    "BitsStored",
    "BluePaletteColorLookupTableData",
    "BluePaletteColorLookupTableDescriptor",
    "Columns",
    "DoubleFloatPixelData",
    "ExtendedOffsetTable",
    "ExtendedOffsetTableLengths",
    "FloatPixelData",
    "GreenPaletteColorLookupTableData",
    "GreenPaletteColorLookupTableDescriptor",
    "HighBit",
    "ModalityLUTSequence",
    "NumberOfFrames",
    "PerFrameFunctionalGroupsSequence",
    "PhotometricInterpretation",
    "PixelData",
    "PixelPaddingRangeLimit",
    "PixelPaddingValue",
    "PixelRepresentation",
    "PlanarConfiguration",
    "RedPaletteColorLookupTableData",
    "RedPaletteColorLookupTableDescriptor",
    "RescaleIntercept",
    "RescaleSlope",
    "Rows",
    "SamplesPerPixel",
    "SegmentedBluePaletteColorLookupTableData",
    "SegmentedGreenPaletteColorLookupTableData",
    "SegmentedRedPaletteColorLookupTableData",
    "SharedFunctionalGroupsSequence",
    "VOILUTFunction",
    "VOILUTSequence",
    "WindowCenter",
    "WindowWidth",
]


def read_dicom(path: str | os.PathLike[str], *, window: str = "full") -> torch.Tensor:
    """Read the frames of a DICOM file as gray values.

    Stored values pass through the rescale slope or the modality table; MONOCHROME1 is turned so that white is bright;
    palettes and YBR become RGB, and colours luma (ITU-R 601). In enhanced multi-frame files each frame's own rescale
    and window come before shared ones, and those before the file's. Padding (PixelPaddingValue) becomes 0. Overlays,
    frame order and timing are not read, and nothing of the header is kept.

    Args:
        path: a DICOM file with pixel data; compressed ones need the decoder that pydicom asks for.
        window: what becomes [0, 1] in gray files; colours always use the range of their bits. "full": the range of
            the stored bits, whatever the largest value in the file, which suits ultrasound and mammograms; "header":
            the first window of the file's own header (WindowCenter and WindowWidth, with its function, or its table),
            beyond which values are clipped, as on a viewing station; "own": from the least to the greatest value of
            the file without its padding, for CT and MR, which use few of their bits.

    Returns:
        (F, 1, H, W) float32 in [0, 1], one row a frame.

    Raises:
        FileNotFoundError: there is no such file.
        ImportError: pydicom is not installed.
        ValueError: the file is no DICOM file, has no pixels, is truncated or corrupt, lacks the window asked for, or
            holds floating point pixels, or 32-bit ones with window="full", or its pixels are of another number, size or
            kind than its header says.

    Example:
        >>> from pydicom.data import get_testdata_file  # doctest: +SKIP
        >>> read_dicom(get_testdata_file("examples_palette.dcm")).shape  # doctest: +SKIP
        torch.Size([1, 1, 350, 800])
    """
    _checks.choice("window", window, _WINDOWS)
    path = Path(path)
    with reading(path, "DICOM file"):
        frames = _gray(_opened(path), window)
    # Rounding of the luma's weights may leave [0, 1] by an ulp.
    return torch.from_numpy(np.ascontiguousarray(frames, dtype=np.float32))[:, None].clamp_(0, 1)


def dicom_shape(path: str | os.PathLike[str]) -> tuple[int, int, int]:
    """Return (frames, H, W) from the header, without reading pixels; raise as `read_dicom`."""
    path = Path(path)
    with reading(path, "DICOM file"):
        return _shape(_opened(path, stop_before_pixels=True))


def is_dicom(path: Path) -> bool:
    """Tell a DICOM file by its mark, whatever its name: exports often have no ending."""
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def _opened(path: Path, **options: Any) -> Dataset:
    try:
        from pydicom import dcmread
    except ImportError as error:
        raise ImportError(f"{path}: DICOM files need pydicom. {install_hint('medical')}") from error
    # Nothing but these is parsed: no name enters memory, or a message about a malformed element.
    header = dcmread(path, specific_tags=_TAGS, **options)
    if "Rows" not in header or "PhotometricInterpretation" not in header:
        raise Unreadable("a DICOM file without an image")
    return header


def _shape(header: Dataset) -> tuple[int, int, int]:
    """Frames, height and width, by the header."""
    shape = int(header.get("NumberOfFrames") or 1), int(header.Rows), int(header.Columns)
    if min(shape) < 1:
        raise Unreadable(f"frames, rows and columns were expected, got {shape}")
    return shape


def _gray(header: Dataset, window: str) -> Pixels:
    """Frames (F, H, W) in [0, 1]."""
    photometric = str(header.PhotometricInterpretation)
    if "FloatPixelData" in header or "DoubleFloatPixelData" in header:
        raise Unreadable("floating point pixels have no agreed white")
    if photometric not in _SAMPLES:
        raise Unreadable(f"pixels of {photometric}; read are {', '.join(_SAMPLES)}")
    frames = _decoded(header, _SAMPLES[photometric])
    if photometric == "PALETTE COLOR":
        return sum(weight * table(frames) for weight, table in zip(_LUMA, palette_of(header), strict=True))
    if _SAMPLES[photometric] == 3:
        return np.dot(frames / np.float32(2 ** int(header.BitsStored) - 1), _LUMA)
    return gray_values(header, frames, window)


def _decoded(header: Dataset, samples: int) -> Pixels:
    """Decode the stored values (F, H, W) or (F, H, W, 3); refuse pixels of another shape than the header's."""
    from pydicom.pixels import pixel_array

    shape = (*_shape(header), samples)
    if int(header.SamplesPerPixel) != samples:
        raise Unreadable(f"{header.SamplesPerPixel} samples a pixel, but {header.PhotometricInterpretation}")
    groups = header.get("PerFrameFunctionalGroupsSequence")
    if groups and len(groups) != shape[0]:
        raise Unreadable(f"NumberOfFrames is {shape[0]}, but the header describes {len(groups)} frames")
    bits = int(header.BitsStored)
    if header.file_meta.TransferSyntaxUID.is_encapsulated:
        _check_compressed(header, shape)
    elif header.PhotometricInterpretation in ("YBR_ICT", "YBR_RCT"):
        raise Unreadable(f"{header.PhotometricInterpretation}, which is of JPEG 2000, in pixels without compression")
    elif int(header.get("HighBit", bits - 1)) != bits - 1:
        raise Unreadable(f"{bits} bits up to bit {header.HighBit}; only values in the lowest bits are read")
    pixels = pixel_array(header)  # YBR comes as RGB
    if pixels.shape != tuple(n for k, n in enumerate(shape) if k in (1, 2) or n > 1):
        raise Unreadable(
            f"the header has {shape} (frames, rows, columns, samples), its pixels have the shape {pixels.shape}"
        )
    low = -(2 ** (bits - 1)) if header.PixelRepresentation else 0
    if pixels.min() < low or pixels.max() >= low + 2**bits:
        raise Unreadable(f"the header has {bits} bits, its pixels range from {pixels.min()} to {pixels.max()}")
    return pixels.reshape(shape if samples > 1 else shape[:3])


def _check_compressed(header: Dataset, shape: tuple[int, ...]) -> None:
    """Raise unless encapsulated frames have the header's number and size: a decoder only counts their pixels."""
    from PIL import Image, UnidentifiedImageError
    from pydicom.encaps import generate_frames
    from pydicom.uid import RLELossless

    count = 0
    for frame in generate_frames(header.PixelData, number_of_frames=shape[0]):
        count += 1
        try:
            columns, rows = Image.open(BytesIO(frame), formats=("JPEG", "JPEG2000")).size
        except UnidentifiedImageError:  # of a kind that says no size, or that Pillow does not read
            if header.file_meta.TransferSyntaxUID == RLELossless and shape[1] * shape[2] > 64 * len(frame):
                # Before memory is taken for what a damaged header claims: two bytes give at most 128 pixels.
                raise Unreadable(f"the header has {shape[1:3]} (rows, columns), a frame {len(frame)} bytes") from None
            continue
        if (rows, columns) != shape[1:3]:
            raise Unreadable(f"the header has {shape[1:3]} (rows, columns), a frame {(rows, columns)}")
    if count < shape[0]:
        raise Unreadable(f"the header has {shape[0]} frames, but there are {count}")
