"""Masks of slices as a volume on the grid of another."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch

from scans import write_nifti
from sslmed.data.formats._nifti_mask import nifti_mask
from sslmed.data.formats._scans import read_frames

nibabel = pytest.importorskip("nibabel")
# A fifth of the 48 orders and directions, each axis in each place.
AXES = list(itertools.product(itertools.permutations(range(3)), itertools.product((1, -1), repeat=3)))[::5]


def affine(order: tuple[int, ...], signs: tuple[int, ...]) -> np.ndarray:
    found = np.eye(4)
    found[:3, :3] = np.eye(3)[:, list(order)] * np.array(signs) * [0.5, 0.6, 2]
    found[:3, 3] = [1, 2, 3]
    return found


@pytest.mark.parametrize("shape", [(4, 5, 3), (4, 5, 3, 2), (4, 5), (4, 5, 3, 1, 2)], ids=str)
@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_each_voxel_is_that_of_its_slice(shape: tuple[int, ...], ending: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for order, signs in AXES:
        values = rng.random(shape).astype(np.float32)
        file = write_nifti(tmp_path / f"scan{ending}", values, affine(order, signs))
        (tmp_path / f"mask{ending}").write_bytes(
            nifti_mask(file, read_frames(file, "nifti", window="full")[:, 0] > 0.5)
        )
        scan, mask = nibabel.load(file), nibabel.load(tmp_path / f"mask{ending}")
        channels = values.reshape(*(*shape, 1)[:3], -1)  # each scaled to [0, 1] by itself
        low, high = channels.min((0, 1, 2)), channels.max((0, 1, 2))
        assert (np.asarray(mask.dataobj) == ((channels - low) / (high - low) > 0.5).reshape(shape)).all()
        assert mask.shape == shape
        assert mask.get_data_dtype() == np.uint8
        assert (mask.affine == scan.affine).all()
        assert mask.header.get_zooms() == scan.header.get_zooms()
        assert [int(mask.header[k]) for k in ("qform_code", "sform_code")] == [
            int(scan.header[k]) for k in ("qform_code", "sform_code")
        ]


def test_a_scan_of_whole_numbers_with_a_slope(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(np.arange(24, dtype=np.int16).reshape(2, 3, 4), np.eye(4))
    image.header.set_slope_inter(0.5, 7)
    image.to_filename(tmp_path / "a.nii")
    (tmp_path / "b.nii").write_bytes(nifti_mask(tmp_path / "a.nii", torch.ones(4, 3, 2, dtype=torch.bool)))
    assert (nibabel.load(tmp_path / "b.nii").get_fdata() == 1).all()


def test_masks_of_another_number_are_refused(tmp_path: Path) -> None:
    file = write_nifti(tmp_path / "a.nii", np.zeros((4, 5, 3)))
    with pytest.raises(ValueError, match=r"masks of \(3, 5, 4\) were expected, got \(3, 4, 5\)"):
        nifti_mask(file, torch.zeros(3, 4, 5, dtype=torch.bool))
