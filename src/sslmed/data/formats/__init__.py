"""Files of one format each, as tensors or rows of text: pictures, DICOM, NIfTI, MetaImage, tables."""

from __future__ import annotations

from .dicom import read_dicom
from .images import read_image, read_mask
from .nifti import read_nifti

__all__ = [
    "read_dicom",
    "read_image",
    "read_mask",
    "read_nifti",
]
