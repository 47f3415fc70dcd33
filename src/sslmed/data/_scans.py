"""One file of any scan format as a stack of gray frames."""

from __future__ import annotations

from pathlib import Path

import torch

from .dicom import dicom_shape, is_dicom, read_dicom
from .images import FORMATS, image_size, read_image
from .nifti import ENDINGS, nifti_shape, read_nifti, unit_range

SUPPORTED = (*FORMATS, ".dcm", *ENDINGS)

_DICOM = {".dcm", ".dicom", ".ima"}
# Formats that hold scans too, of which none must be left out unseen; DICOM without its mark has no ending at all.
_UNSUPPORTED = {
    "",
    ".mha",
    ".mhd",
    ".nrrd",
    ".gif",
    ".webp",
    ".mp4",
    ".avi",
    ".mov",
    ".mpg",
    ".wmv",
    ".gz",
    ".img",
}


def scan_kind(path: Path) -> str | None:
    """Tell "image", "dicom", "nifti" or "unsupported" from a file's name and mark; None for what is no scan."""
    ending = path.suffix.lower()
    if ending in FORMATS:
        return "image"
    if path.name.lower().endswith(ENDINGS):
        return "nifti"
    # DICOM exports often have no ending at all, or numbers with dots for a name.
    if ending in _DICOM or is_dicom(path):
        return "dicom"
    return "unsupported" if ending in _UNSUPPORTED else None


def count_frames(path: Path, kind: str) -> int:
    """Return the number of frames from the header; raise ValueError naming a file whose header is damaged."""
    if kind == "image":
        image_size(path)
        return 1
    if kind == "dicom":
        return dicom_shape(path)[0]
    channels, slices, _, _ = nifti_shape(path)
    return channels * slices


def read_frames(path: Path, kind: str, *, window: str) -> torch.Tensor:
    """Decode all frames: (F, 1, H, W) float32 in [0, 1].

    Slices of a volume follow one another upward, channel after channel, each channel scaled from its least to its
    greatest value.
    """
    if kind == "image":
        return read_image(path)[None]
    if kind == "dicom":
        return read_dicom(path, window=window)
    return unit_range(read_nifti(path).values).flatten(0, 1)[:, None]
