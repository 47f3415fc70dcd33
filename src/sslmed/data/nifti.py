"""NIfTI volumes as stacks of slices, turned the way a radiologist looks at them."""

from __future__ import annotations

import gzip
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from .. import _checks
from ._reading import Unreadable, reading

ENDINGS = (".nii", ".nii.gz")

_MISSING = "{}: NIfTI files need nibabel: pip install 'sslmed[medical]'"


@dataclass(frozen=True)
class Volume:
    """A stack of slices.

    Attributes:
        values: (C, D, H, W) float32 in the file's units (its slope and intercept applied): channels or sequences,
            slices, rows, columns.
        spacing_mm: (D, H, W) millimetres from slice to slice, row to row, column to column.
    """

    values: torch.Tensor
    spacing_mm: tuple[float, float, float]


def read_nifti(path: str | os.PathLike[str], *, axes: str = "anatomical") -> Volume:
    """Read a NIfTI file of either byte order, plain or gzipped.

    Voxels are reordered, never interpolated, and a label volume read alike stays in step with its image.

    Args:
        path: a `.nii` or `.nii.gz` file with two to four dimensions; the fourth gives the channels.
        axes: "anatomical" turns and flips the axes to the nearest anatomical ones: slices are axial, from feet to
            head, with the patient's front up and right side on the left. "file" takes the file's first axis for
            columns, its second for rows and its third for slices, as they are, which suits images without anatomy in
            their headers, such as ultrasound.

    Returns:
        The volume.

    Raises:
        FileNotFoundError: there is no such file.
        ImportError: nibabel is not installed.
        ValueError: the file is no NIfTI file, is truncated or corrupt, has other dimensions, holds complex, colour or
            no values, or NaN or infinity, or its header does not say which way the axes run.

    Example:
        >>> import nibabel, numpy, tempfile  # doctest: +SKIP
        >>> with tempfile.TemporaryDirectory() as folder:  # doctest: +SKIP
        ...     nibabel.Nifti1Image(numpy.ones((5, 4, 3)), numpy.diag([0.5, 0.5, 2, 1])).to_filename(f"{folder}/a.nii")
        ...     volume = read_nifti(f"{folder}/a.nii")
        >>> volume.values.shape, volume.spacing_mm  # doctest: +SKIP
        (torch.Size([1, 3, 4, 5]), (2.0, 0.5, 0.5))
    """
    _checks.choice("axes", axes, ("anatomical", "file"))
    path = Path(path)
    with reading(path, "NIfTI file"):
        return _volume(path, axes)


def _volume(path: Path, axes: str) -> Volume:
    image = _opened(path)
    if not 2 <= len(image.shape) <= 4 and not (len(image.shape) == 5 and 1 in image.shape[3:]):
        raise ValueError(f"{path}: a volume of two to four dimensions was expected, got shape {image.shape}")
    if 0 in image.shape or image.get_data_dtype().kind not in "iuf":
        raise ValueError(
            f"{path}: real numbers were expected, got {image.get_data_dtype()}, shape {image.shape}"
        )
    values = np.asarray(image.get_fdata(dtype=np.float32, caching="unchanged"))
    spacing = [float(step) for step in image.header.get_zooms()[:3]]
    if not np.isfinite(values).all():
        raise ValueError(
            f"{path}: the volume holds {int((~np.isfinite(values)).sum())} values of NaN or infinity"
        )
    values = values.reshape(*values.shape[:3], *(1,) * (3 - values.ndim), -1)
    spacing += [1.0] * (3 - len(spacing))
    if axes == "anatomical":
        try:
            values, spacing = _turned(values, spacing, image.affine)
        except ValueError as error:
            raise ValueError(f"{path}: {error}; axes='file' needs none") from error
    stack = torch.from_numpy(np.ascontiguousarray(values.transpose(3, 2, 1, 0)))
    return Volume(stack, (spacing[2], spacing[1], spacing[0]))


def nifti_shape(path: str | os.PathLike[str]) -> tuple[int, int, int, int]:
    """Return (C, D, H, W) of `read_nifti`, with anatomical axes, from the header alone; raise as it does."""
    path = Path(path)
    with reading(path, "NIfTI file"):
        image = header_of(path)
        shape = (*image.shape, *(1,) * (4 - len(image.shape)))
        axes = [int(axis) for axis in _orientation(image.affine)[:, 0]]
    left, back, up = (shape[axes.index(k)] for k in range(3))
    return shape[3], up, back, left


def header_of(path: Path) -> Any:
    """Open a NIfTI file with nibabel, its pixels unread; for a body of `reading`."""
    _check_name(path)
    try:
        import nibabel
    except ImportError as error:
        raise ImportError(_MISSING.format(path)) from error
    return nibabel.load(path)


def unit_range(values: torch.Tensor) -> torch.Tensor:
    """Scale each channel of (C, D, H, W) from its least to its greatest value to [0, 1]; a constant one is 0.

    MR has no unit: intensities of two files may differ by orders of magnitude.
    """
    low = values.amin(dim=(1, 2, 3), keepdim=True)
    extent = values.amax(dim=(1, 2, 3), keepdim=True) - low
    return (values - low) / torch.where(extent == 0, 1, extent)


def _check_name(path: Path) -> None:
    if not path.name.lower().endswith(ENDINGS):
        raise ValueError(f"{path}: a .nii or .nii.gz file was expected")


def _opened(path: Path) -> Any:
    _check_name(path)
    try:
        from nibabel import Nifti1Image, Nifti2Image
    except ImportError as error:
        raise ImportError(_MISSING.format(path)) from error
    content = path.read_bytes()
    if path.suffix.lower() == ".gz":  # whole, so that its checksum is verified
        content = gzip.decompress(content)
    second = 540 in (int.from_bytes(content[:4], "little"), int.from_bytes(content[:4], "big"))
    image: Any = (Nifti2Image if second else Nifti1Image).from_bytes(content)
    # Before memory is taken for what a damaged header claims.
    expected = image.dataobj.offset + math.prod(image.shape) * image.get_data_dtype().itemsize
    if len(content) < expected:
        raise Unreadable(f"truncated: {expected} bytes were expected for {image.shape}, got {len(content)}")
    return image


def _turned(
    values: npt.NDArray[np.float32], spacing: list[float], affine: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float32], list[float]]:
    """Turn (X, Y, Z, C) so that X runs from the patient's right to left, Y from front to back, Z upward."""
    from nibabel.orientations import apply_orientation, axcodes2ornt, ornt_transform

    turn = ornt_transform(_orientation(affine), axcodes2ornt(("L", "P", "S")))
    return apply_orientation(values, turn), [spacing[int(axis)] for axis in np.argsort(turn[:, 0])]


def _orientation(affine: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Nearest anatomical axis and direction of each axis; raise ValueError where the header's matrix has none."""
    from nibabel.orientations import io_orientation

    found: npt.NDArray[np.float64] = np.full((3, 2), np.nan)
    if np.isfinite(affine).all():
        found = io_orientation(affine)
    if np.isnan(found).any():
        raise ValueError(f"the header does not say which way the axes run, its matrix is {affine.tolist()}")
    return found
