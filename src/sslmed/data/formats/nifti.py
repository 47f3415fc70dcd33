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

from ... import _checks
from ..._compat import install_hint
from ._reading import Unreadable, reading

ENDINGS = (".nii", ".nii.gz")

_TO_MM = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}  # by the header's unit: unknown, metre, millimetre, micron


@dataclass(frozen=True)
class Volume:
    """A stack of slices.

    Attributes:
        values: (C, D, H, W) float32 in the file's units (its slope and intercept applied): channels or sequences,
            slices, rows, columns.
        spacing_mm: (D, H, W) millimetres from slice to slice, row to row, column to column; numbers without a unit are
            taken for millimetres.
    """

    values: torch.Tensor
    spacing_mm: tuple[float, float, float]


def read_nifti(path: str | os.PathLike[str], *, axes: str = "anatomical") -> Volume:
    """Read a NIfTI file of either byte order, plain or gzipped.

    Voxels are reordered, never interpolated, and a label volume read alike stays in step with its image.

    Args:
        path: a `.nii` or `.nii.gz` file with two to four dimensions; the fourth gives the channels. More are allowed if
            all but one of those after the third have length 1, as vectors are written.
        axes: "anatomical" turns and flips the axes to the nearest anatomical ones: slices are axial, from feet to
            head, with the patient's front up and right side on the left. The header must hold a qform or an sform, in
            images and masks alike: spacing alone tells no orientation. "file" takes the file's first axis for columns,
            its second for rows and its third for slices, as they are, which suits images without anatomy in their
            headers, such as ultrasound.

    Returns:
        The volume.

    Raises:
        FileNotFoundError: there is no such file.
        ImportError: nibabel is not installed.
        ValueError: the file is no NIfTI file, is truncated or corrupt, has other dimensions, holds complex, colour or
            no values, or NaN or infinity, its spacing is no positive length, or, with anatomical axes, its header does
            not say which way the axes run: it has neither a qform nor an sform, or a singular one.

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
    shape = _checked_shape(path, image)
    values = np.asarray(image.get_fdata(dtype=np.float32, caching="unchanged"))
    spacing = _spacing_mm(path, image.header)
    if not np.isfinite(values).all():
        raise ValueError(f"{path}: the volume holds {int((~np.isfinite(values)).sum())} values of NaN or infinity")
    values = values.reshape(shape)
    if axes == "anatomical":
        try:
            values, spacing = _turned(values, spacing, orientation_of(image))
        except ValueError as error:
            raise ValueError(f"{path}: {error}; axes='file' needs none") from error
    # A copy always: along axes of length 1 NumPy calls an array contiguous that torch refuses for its negative steps.
    stack = torch.from_numpy(values.transpose(3, 2, 1, 0).copy())
    return Volume(stack, (spacing[2], spacing[1], spacing[0]))


def nifti_shape(path: str | os.PathLike[str]) -> tuple[int, int, int, int]:
    """Return (C, D, H, W) of `read_nifti`, with anatomical axes, from the header alone; raise as it does."""
    path = Path(path)
    with reading(path, "NIfTI file"):
        image = header_of(path)
        shape = _checked_shape(path, image)
        _spacing_mm(path, image.header)
        axes = [int(axis) for axis in orientation_of(image)[:, 0]]
    left, back, up = (shape[axes.index(k)] for k in range(3))
    return shape[3], up, back, left


def header_of(path: Path) -> Any:
    """Open a NIfTI file with nibabel, its pixels unread; for a body of `reading`."""
    _check_name(path)
    try:
        import nibabel
    except ImportError as error:
        raise ImportError(f"{path}: NIfTI files need nibabel. {install_hint('medical')}") from error
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
        raise ImportError(f"{path}: NIfTI files need nibabel. {install_hint('medical')}") from error
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


def _checked_shape(path: Path, image: Any) -> tuple[int, int, int, int]:
    """Return (X, Y, Z, C); raise ValueError unless the header is of real numbers on such a grid."""
    shape: tuple[int, ...] = image.shape
    channels = [length for length in shape[3:] if length != 1]
    if len(shape) < 2 or len(channels) > 1:
        raise ValueError(f"{path}: a volume of two to four dimensions was expected, got shape {shape}")
    if 0 in shape or image.get_data_dtype().kind not in "iuf":
        raise ValueError(f"{path}: real numbers were expected, got {image.get_data_dtype()}, shape {shape}")
    x, y, z = (*shape, 1)[:3]
    return x, y, z, channels[0] if channels else 1


def _spacing_mm(path: Path, header: Any) -> list[float]:
    """Return the millimetres between neighbours along X, Y and Z."""
    unit = int(header["xyzt_units"]) % 8
    steps = [float(step) for step in header.get_zooms()[:3]]
    if unit not in _TO_MM or not all(0 < step < np.inf for step in steps):
        raise ValueError(f"{path}: a spacing in metres, millimetres or microns was expected, got {steps}, unit {unit}")
    return [_TO_MM[unit] * step for step in steps] + [1.0] * (3 - len(steps))


def _turned(
    values: npt.NDArray[np.float32], spacing: list[float], orientation: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float32], list[float]]:
    """Turn (X, Y, Z, C) so that X runs from the patient's right to left, Y from front to back, Z upward."""
    from nibabel.orientations import apply_orientation, axcodes2ornt, ornt_transform

    turn = ornt_transform(orientation, axcodes2ornt(("L", "P", "S")))
    return apply_orientation(values, turn), [spacing[int(axis)] for axis in np.argsort(turn[:, 0])]


def orientation_of(image: Any) -> npt.NDArray[np.float64]:
    """Nearest anatomical axis and direction of each axis; raise ValueError where the header does not tell them."""
    from nibabel.orientations import io_orientation

    # nibabel would guess a matrix from the spacing.
    if not image.header["sform_code"] and not image.header["qform_code"]:
        raise ValueError("the header does not say which way the axes run, it has neither a qform nor an sform")
    found: npt.NDArray[np.float64] = np.full((3, 2), np.nan)
    if np.isfinite(image.affine).all():
        found = io_orientation(image.affine)
    if np.isnan(found).any():
        raise ValueError(f"the header does not say which way the axes run, its matrix is {image.affine.tolist()}")
    return found
