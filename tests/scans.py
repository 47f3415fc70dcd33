"""Small DICOM and NIfTI files, for the tests of what reads them."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

RAMP = np.array([[0, 1024, 2048], [3072, 4000, 4095]], dtype=np.uint16)


SYNTAXES = {
    "explicit": "1.2.840.10008.1.2.1",
    "implicit": "1.2.840.10008.1.2",
    "big": "1.2.840.10008.1.2.2",
    "deflated": "1.2.840.10008.1.2.1.99",
    "rle": "1.2.840.10008.1.2.5",
    "jpeg": "1.2.840.10008.1.2.4.50",
}


def write_dicom(path: Path, stored: np.ndarray[Any, Any], *, syntax: str = "explicit", **tags: Any) -> Path:
    """A gray file; `stored` (H, W) or (F, H, W) of uint16 or int16, or bytes of pixels in the tags."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import UltrasoundImageStorage

    header = Dataset()
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = SYNTAXES[syntax]
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
    if "PixelData" not in tags:
        header.PixelData = stored.astype(stored.dtype.newbyteorder(">" if syntax == "big" else "<")).tobytes()
    header.save_as(path, enforce_file_format=True)
    return path


def compressed(path: Path, stored: np.ndarray[Any, Any], syntax: str, **tags: Any) -> Path:
    """An 8-bit gray file of "rle" or "jpeg"; `stored` (H, W) or (F, H, W) of uint8."""
    from PIL import Image
    from pydicom import dcmread
    from pydicom.encaps import encapsulate
    from pydicom.uid import RLELossless

    depth = {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7}
    write_dicom(path, stored, PixelData=stored.tobytes(), **depth)
    header = dcmread(path)
    if syntax == "rle":
        header.compress(RLELossless, generate_instance_uid=False)
    else:
        frames = []
        for frame in stored.reshape(-1, *stored.shape[-2:]):
            frames.append(BytesIO())
            Image.fromarray(frame).save(frames[-1], "JPEG")
        header.file_meta.TransferSyntaxUID = SYNTAXES["jpeg"]
        header.PixelData = encapsulate([frame.getvalue() for frame in frames])
    for name, value in tags.items():
        setattr(header, name, value)
    header.save_as(path)
    return path


def dataset(**elements: Any) -> Any:
    """An item of a sequence."""
    from pydicom.dataset import Dataset

    item = Dataset()
    for name, value in elements.items():
        setattr(item, name, value)
    return item


def words(values: Any, *, syntax: str = "explicit", packed: bool = False) -> bytes:
    """Values as 16-bit words of a file, one in each or `packed` two, the first in the lower byte."""
    values = np.asarray(values, dtype=np.uint16)
    if packed:
        values = np.pad(values, (0, len(values) % 2)).reshape(-1, 2)
        values = values[:, 0] | values[:, 1] << 8
    return values.astype(">u2" if syntax == "big" else "<u2").tobytes()


def write_nifti(path: Path, values: Any, affine: Any = None, dtype: str = "<f4") -> Path:
    import nibabel

    affine = np.eye(4) if affine is None else affine
    image = nibabel.Nifti1Image(np.asarray(values, dtype=dtype), affine)
    image.header.set_data_dtype(dtype)
    image.to_filename(path)
    return path
