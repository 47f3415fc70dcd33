"""One file of any scan format as a stack of gray frames."""

from __future__ import annotations

from pathlib import Path

import torch

from ._gif import gif_frames, gif_shape
from ._metaimage import metaimage_pixels, metaimage_shape, read_metaimage
from .dicom import dicom_shape, is_dicom, read_dicom
from .images import FORMATS, image_size, read_image
from .nifti import ENDINGS, nifti_shape, read_nifti, unit_range

SUPPORTED = (*FORMATS, ".gif", ".dcm", *ENDINGS, ".mhd")

_DICOM = {".dcm", ".dicom", ".ima"}
# Texts, tables, programs and what systems leave behind. Whatever else is there may hold a scan.
_NO_SCANS = {
    *(
        ".txt",
        ".md",
        ".rst",
        ".rtf",
        ".tex",
        ".bib",
        ".pdf",
        ".doc",
        ".docx",
        ".odt",
        ".ppt",
        ".pptx",
        ".odp",
    ),
    *(
        ".htm",
        ".html",
        ".css",
        ".js",
        ".url",
        ".webloc",
        ".lnk",
        ".csv",
        ".tsv",
        ".xls",
        ".xlsx",
        ".ods",
        ".json",
    ),
    *(
        ".jsonl",
        ".xml",
        ".yaml",
        ".yml",
        ".toml",
        ".ini",
        ".cfg",
        ".conf",
        ".log",
        ".db",
        ".sqlite",
        ".py",
        ".pyc",
    ),
    *(
        ".ipynb",
        ".r",
        ".m",
        ".sh",
        ".bat",
        ".ps1",
        ".c",
        ".cpp",
        ".h",
        ".java",
        ".md5",
        ".sha1",
        ".sha256",
        ".sig",
    ),
    *(".asc", ".cff", ".license"),
}
_TEXTS = {
    "LICENSE",
    "README",
    "COPYING",
    "CHANGES",
    "CHANGELOG",
    "NOTICE",
    "MAKEFILE",
    "DICOMDIR",
    "SHA256SUMS",
}


def scan_kind(path: Path) -> str | None:
    """Tell "image", "gif", "dicom", "nifti" or "metaimage" from a file's name and mark.

    Returns:
        The kind; None for what is known to hold no scan, such as a text; "unsupported" for all the rest.
    """
    ending = path.suffix.lower()
    if path.name.upper() in _TEXTS:  # DICOMDIR bears the mark of DICOM and is a table of contents
        return None
    if ending in FORMATS:
        return "image"
    if ending == ".gif":
        return "gif"
    if path.name.lower().endswith(ENDINGS):
        return "nifti"
    if ending == ".mhd":
        return "metaimage"
    # DICOM exports often have no ending at all, or numbers with dots for a name.
    if ending in _DICOM or is_dicom(path):
        return "dicom"
    return None if ending in _NO_SCANS else "unsupported"


def companions(path: Path, kind: str | None) -> list[Path]:
    """Return the files beside a scan that hold a part of it; none where its header cannot be read."""
    if kind != "metaimage":
        return []
    try:
        return [metaimage_pixels(path)]
    except (ValueError, OSError):
        return []


def count_frames(path: Path, kind: str) -> int:
    """Return the number of frames from the header; raise ValueError naming a file whose header is damaged."""
    if kind == "image":
        image_size(path)
        return 1
    if kind == "gif":
        return gif_shape(path)[0]
    if kind == "dicom":
        return dicom_shape(path)[0]
    if kind == "metaimage":
        return metaimage_shape(path)[0]
    channels, slices, _, _ = nifti_shape(path)
    return channels * slices


def read_frames(path: Path, kind: str, *, window: str) -> torch.Tensor:
    """Decode all frames: (F, 1, H, W) float32 in [0, 1].

    Slices of a volume follow one another upward (of a MetaImage in the order of the file), channel after channel, each
    channel scaled from its least to its greatest value.
    """
    if kind == "image":
        return read_image(path)[None]
    if kind == "gif":
        return gif_frames(path)
    if kind == "dicom":
        return read_dicom(path, window=window)
    volume = read_metaimage(path) if kind == "metaimage" else read_nifti(path)
    return unit_range(volume.values).flatten(0, 1)[:, None]
