"""DICOM files to gray frames: every photometric interpretation the right way up, no header data kept."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from .. import _checks
from ._reading import Unreadable, reading

if TYPE_CHECKING:
    from pydicom import Dataset

Pixels = Any  # arrays that come out of pydicom, which gives them no types

_LUMA = np.array((0.299, 0.587, 0.114), dtype=np.float32)  # ITU-R 601, as `read_image`
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
    "PhotometricInterpretation",
    "PixelData",
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
    "VOILUTFunction",
    "VOILUTSequence",
    "WindowCenter",
    "WindowWidth",
]


def read_dicom(path: str | os.PathLike[str], *, window: str = "full") -> torch.Tensor:
    """Read the frames of a DICOM file as gray values.

    Stored values pass through the rescale slope or the modality table; MONOCHROME1 is turned so that white is bright;
    palettes and YBR become RGB, and colours luma (ITU-R 601). Overlays, frame order and timing are not read, and
    nothing of the header is kept.

    Args:
        path: a DICOM file with pixel data; compressed ones need the decoder that pydicom asks for.
        window: what becomes [0, 1] in gray files; colours always use the range of their bits. "full": the range of
            the stored bits, whatever the largest value in the file, which suits ultrasound and mammograms; "header":
            the window of the file's own header (WindowCenter and WindowWidth, with its function, or its table), beyond
            which values are clipped, as on a viewing station; "own": from the least to the greatest value of the file,
            for CT and MR, which use few of their bits.

    Returns:
        (F, 1, H, W) float32 in [0, 1], one row a frame.

    Raises:
        FileNotFoundError: there is no such file.
        ImportError: pydicom is not installed.
        ValueError: the file is no DICOM file, has no pixels, is truncated or corrupt, lacks the window asked for, or
            holds floating point pixels, or 32-bit ones with window="full".

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
        raise ImportError(f"{path}: DICOM files need pydicom: pip install 'sslmed[medical]'") from error
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
    from pydicom.pixels import apply_color_lut, pixel_array

    if "FloatPixelData" in header or "DoubleFloatPixelData" in header:
        raise ValueError("floating point pixels have no agreed white")
    photometric = str(header.PhotometricInterpretation)
    pixels = pixel_array(header)  # YBR comes as RGB
    frames = pixels.reshape(int(header.get("NumberOfFrames") or 1), int(header.Rows), int(header.Columns), -1)
    if photometric == "PALETTE COLOR":
        frames = apply_color_lut(frames[..., 0], header)
        return np.dot(frames / np.float32(np.iinfo(frames.dtype).max), _LUMA)
    if frames.shape[-1] > 1:
        white = np.float32(2 ** int(header.BitsStored) - 1)
        return np.dot(frames[..., :3] / white, _LUMA)
    values = {"full": _full, "header": _windowed, "own": _own}[window](header, frames[..., 0])
    return 1 - values if photometric == "MONOCHROME1" else values


def _full(header: Dataset, stored: Pixels) -> Pixels:
    """Scale the range of the stored bits to [0, 1]; a modality table has a range of its own."""
    bits, signed = int(header.BitsStored), bool(header.PixelRepresentation)
    slope = float(header.get("RescaleSlope", 1))
    if "ModalityLUTSequence" in header:
        from pydicom.pixels import apply_modality_lut

        stored, bits, signed = apply_modality_lut(stored, header), 16, False
        bits = int(header.ModalityLUTSequence[0].LUTDescriptor[2])
    if bits > 16:
        raise ValueError(f"{bits}-bit pixels have no agreed white; use window='own'")
    low = -(2 ** (bits - 1)) if signed else 0
    white = np.float32(2**bits - 1)
    values = (stored.astype(np.float32) - low) / white
    return 1 - values if slope < 0 else values  # a rescale keeps the range of the bits, but may turn it over


def _windowed(header: Dataset, stored: Pixels) -> Pixels:
    """Apply the modality's rescale and the header's first window or table."""
    from pydicom.pixels import apply_modality_lut, apply_voi_lut

    if "VOILUTSequence" in header:
        values = apply_voi_lut(apply_modality_lut(stored, header), header)
        return values.astype(np.float32) / np.float32(2 ** int(header.VOILUTSequence[0].LUTDescriptor[2]) - 1)
    if "WindowCenter" not in header or "WindowWidth" not in header:
        raise ValueError("the header holds no window; use window='full' or 'own'")
    centre, width = (np.ravel(header[key].value).astype(float)[0] for key in ("WindowCenter", "WindowWidth"))
    values = apply_modality_lut(stored, header).astype(np.float64)
    function = str(header.get("VOILUTFunction", "LINEAR") or "LINEAR")
    if function == "LINEAR":  # DICOM PS3.3 C.11.2.1.2.1; the others C.11.2.1.3.1 and 2. All on [0, 1].
        shown = (values - (centre - 0.5)) / max(width - 1, 1e-9) + 0.5
    elif function == "LINEAR_EXACT":
        shown = (values - centre) / max(width, 1e-9) + 0.5
    elif function == "SIGMOID":
        shown = 0.5 + 0.5 * np.tanh(2 * (values - centre) / max(width, 1e-9))
    else:
        raise ValueError(f"an unknown function of the window, {function}; use window='full' or 'own'")
    return shown.clip(0, 1).astype(np.float32)


def _own(header: Dataset, stored: Pixels) -> Pixels:
    """Scale the values of the file from least to greatest; a constant file becomes black."""
    from pydicom.pixels import apply_modality_lut

    values = apply_modality_lut(stored, header).astype(np.float64)
    low, extent = values.min(), np.ptp(values)
    return ((values - low) / (extent or 1)).astype(np.float32)
