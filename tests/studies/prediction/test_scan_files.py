"""Names of masks, and frames as squares and back."""

from __future__ import annotations

import pytest

pytest.importorskip("lightning")

import torch

from sslmed.studies.prediction.scan_files import as_square, at_size, mask_names


def test_a_mask_has_the_name_of_its_scan() -> None:
    files = [("a/scan 1.png", "image", 1), ("b.JPG", "image", 1), ("IM1", "dicom", 1), ("c.dcm", "dicom", 1)]
    assert [names[0] for names in mask_names(files)] == ["a/scan 1.png", "b.png", "IM1.png", "c.png"]
    assert mask_names([("v/x.nii.gz", "nifti", 9)]) == [("v/x.nii.gz",)]
    assert mask_names([("clip.gif", "gif", 2)]) == [("clip-0000.png", "clip-0001.png")]


def test_numbers_with_dots_are_no_endings() -> None:
    files = [("1.2.840.1", "dicom", 1), ("1.2.840.2", "dicom", 1)]
    assert [names[0] for names in mask_names(files)] == ["1.2.840.1.png", "1.2.840.2.png"]


def test_scans_whose_masks_would_have_one_name_keep_their_endings() -> None:
    files = [("a.png", "image", 1), ("A.bmp", "image", 1), ("x.gif", "gif", 2), ("x-0001.tif", "image", 1)]
    assert mask_names(files) == [
        ("a.png.png",),
        ("A.bmp.png",),
        ("x.gif-0000.png", "x.gif-0001.png"),
        ("x-0001.tif.png",),
    ]
    # The longer name of one is the shorter name of another.
    files = [("a.png", "image", 1), ("a.jpg", "image", 1), ("a.png.png", "image", 1)]
    assert mask_names(files) == [("a.png.png",), ("a.jpg.png",), ("a.png.png.png",)]


@pytest.mark.parametrize("fit", ["stretch", "pad"])
@pytest.mark.parametrize("shape", [(40, 64), (64, 40), (64, 64), (20, 20)])
def test_a_square_goes_back_to_its_frame(fit: str, shape: tuple[int, int]) -> None:
    frame = torch.zeros(1, *shape)
    frame[:, shape[0] // 4 : shape[0] // 2, shape[1] // 2 : 3 * shape[1] // 4] = 1
    back = at_size(as_square(frame, 32, fit), shape, fit)
    assert back.shape == frame.shape
    overlap = ((back > 0.5) & (frame > 0.5)).sum() / ((back > 0.5) | (frame > 0.5)).sum()
    assert overlap > 0.9
