"""Small DICOM and NIfTI files, for the tests of what reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

RAMP = np.array([[0, 1024, 2048], [3072, 4000, 4095]], dtype=np.uint16)


def write_dicom(path: Path, stored: np.ndarray[Any, Any], **tags: Any) -> Path:
    """A gray file; `stored` (H, W) or (F, H, W) of uint16 or int16."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, UltrasoundImageStorage

    header = Dataset()
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header.file_meta.MediaStorageSOPClassUID = UltrasoundImageStorage
    header.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    header.PatientName = "Secret^Name"
    header.PhotometricInterpretation = "MONOCHROME2"
    header.SamplesPerPixel = 1
    header.Rows, header.Columns = stored.shape[-2:]
    if stored.ndim == 3:
        header.NumberOfFrames = len(stored)
    header.BitsAllocated, header.BitsStored, header.HighBit = 16, 12, 11
    header.PixelRepresentation = int(stored.dtype.kind == "i")
    for name, value in tags.items():
        setattr(header, name, value)
    header.PixelData = stored.tobytes()
    header.save_as(path, enforce_file_format=True)
    return path


def write_nifti(path: Path, values: Any, affine: Any = None, dtype: str = "<f4") -> Path:
    import nibabel

    affine = np.eye(4) if affine is None else affine
    image = nibabel.Nifti1Image(np.asarray(values, dtype=dtype), affine)
    image.header.set_data_dtype(dtype)
    image.to_filename(path)
    return path
