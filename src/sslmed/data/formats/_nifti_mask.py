"""Masks of the slices of a NIfTI volume, as a NIfTI volume on the same grid."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import torch

from .nifti import header_of, nifti_shape, orientation_of


def nifti_mask(source: Path, masks: torch.Tensor) -> bytes:
    """The content of a NIfTI file of masks: with the shape, the affine matrix and the spacing of another volume.

    Args:
        source: the volume; the content is gzipped where it is.
        masks: (F, H, W) bool, one for each slice in the order of `read_frames`.

    Returns:
        What to write into a file with the same ending; voxels are uint8, 0 and 1.

    Raises:
        ValueError: there are more or fewer masks than slices, or of another size.
    """
    from nibabel.orientations import apply_orientation, axcodes2ornt, ornt_transform

    image, (channels, up, back, left) = header_of(source), nifti_shape(source)
    turn = ornt_transform(axcodes2ornt(("L", "P", "S")), orientation_of(image))
    if masks.shape != (channels * up, back, left):
        raise ValueError(f"{source}: masks of {(channels * up, back, left)} were expected, got {tuple(masks.shape)}")
    stack = masks.numpy().astype(np.uint8).reshape(channels, up, back, left).transpose(3, 2, 1, 0)
    voxels = apply_orientation(stack, turn).reshape(image.shape)
    header = image.header.copy()
    header.set_data_dtype(np.uint8)
    header.set_slope_inter(1, 0)
    header["cal_min"] = header["cal_max"] = 0
    content: bytes = type(image)(np.ascontiguousarray(voxels), image.affine, header).to_bytes()
    return gzip.compress(content, mtime=0) if source.suffix.lower() == ".gz" else content
