"""NIfTI: volumes written here in every orientation, and the files nibabel ships."""

from __future__ import annotations

import gzip
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from scans import write_nifti as write
from sslmed.data import UnlabelledImages
from sslmed.data.formats.nifti import nifti_shape, read_nifti, unit_range

nibabel = pytest.importorskip("nibabel")


def coordinates() -> np.ndarray[Any, Any]:
    """A volume whose value names the place: 100 x + 10 y + z in (right, front, up) of a 4 x 5 x 3 grid."""
    x, y, z = np.indices((4, 5, 3))
    return 100.0 * x + 10 * y + z


def test_slices_are_axial_with_the_front_up_and_the_right_on_the_left(tmp_path: Path) -> None:
    # The file's axes grow to the patient's right, front and head.
    volume = read_nifti(write(tmp_path / "a.nii", coordinates(), np.diag([0.5, 0.7, 3, 1])))
    assert volume.values.shape == (1, 3, 5, 4)
    assert volume.spacing_mm == pytest.approx((3, 0.7, 0.5))
    lowest = volume.values[0, 0]
    assert lowest[0].tolist() == [340, 240, 140, 40]  # the frontmost row, from the right side to the left
    assert lowest[:, 0].tolist() == [340, 330, 320, 310, 300]
    assert volume.values[0, :, 4, 3].tolist() == [0, 1, 2]  # upward


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("flips", [(1, 1, 1), (-1, 1, -1), (-1, -1, -1)])
def test_any_order_of_the_files_axes_gives_the_same_volume(
    tmp_path: Path, order: tuple[int, ...], flips: tuple[int, ...]
) -> None:
    plain = read_nifti(write(tmp_path / "plain.nii", coordinates(), np.diag([0.5, 0.7, 3, 1])))
    steps = np.array([0.5, 0.7, 3])
    values = coordinates()[:: flips[0], :: flips[1], :: flips[2]].transpose(order)
    affine = np.zeros((4, 4))
    for column, axis in enumerate(order):
        affine[axis, column] = flips[axis] * steps[axis]
    affine[3, 3] = 1
    turned = read_nifti(write(tmp_path / "turned.nii.gz", values, affine))
    assert torch.equal(turned.values, plain.values)
    assert turned.spacing_mm == pytest.approx(plain.spacing_mm)


def test_axes_of_the_file(tmp_path: Path) -> None:
    volume = read_nifti(write(tmp_path / "a.nii", coordinates(), np.diag([0.5, 0.7, 3, 1])), axes="file")
    assert volume.spacing_mm == pytest.approx((3, 0.7, 0.5))
    assert volume.values[0, 0, 0].tolist() == [0, 100, 200, 300]


def test_byte_order_scale_and_channels(tmp_path: Path) -> None:
    values = np.arange(2 * 3 * 4 * 2, dtype=np.int16).reshape(2, 3, 4, 2)
    little, big = (read_nifti(write(tmp_path / f"{k}.nii", values, dtype=k + "i2"), axes="file") for k in "<>")
    assert torch.equal(little.values, big.values)
    assert little.values.shape == (2, 4, 3, 2)
    assert little.values[1, 0, 0, 0] == 1
    image = nibabel.Nifti1Image(values, np.eye(4))
    image.header.set_slope_inter(0.5, -3)
    image.to_filename(tmp_path / "scaled.nii")
    stored = nibabel.load(tmp_path / "scaled.nii")
    scaled = read_nifti(tmp_path / "scaled.nii", axes="file").values
    torch.testing.assert_close(scaled, torch.tensor(stored.get_fdata().transpose(3, 2, 1, 0), dtype=torch.float32))


def test_flat_images(tmp_path: Path) -> None:
    flat = read_nifti(write(tmp_path / "flat.nii", np.arange(6.0).reshape(3, 2)), axes="file")
    assert flat.values.tolist() == [[[[0, 2, 4], [1, 3, 5]]]]


@pytest.mark.parametrize("name", ["anatomical.nii", "example4d.nii.gz", "standard.nii.gz"])
def test_files_that_nibabel_ships(name: str) -> None:
    path = Path(nibabel.__file__).parent / "tests" / "data" / name
    if not path.is_file():
        pytest.skip(f"this nibabel does not ship {name}")
    volume = read_nifti(path)
    stored = nibabel.load(path)
    assert volume.values.numel() == np.prod(stored.shape)
    assert volume.values.sum().item() == pytest.approx(stored.get_fdata().sum(), rel=1e-5)
    assert sorted(volume.spacing_mm) == pytest.approx(sorted(stored.header.get_zooms()[:3]))


def shapes() -> list[tuple[int, ...]]:
    """One to seven dimensions, the axes behind the third of length 1 or 2 in all combinations."""
    grids: list[tuple[int, ...]] = [(3,), (3, 4), (1, 4), (1, 1), (3, 4, 2), (1, 4, 1), (3, 1, 2), (1, 1, 1)]
    tails = [tail for n in range(1, 5) for tail in itertools.product((1, 2), repeat=n)]
    return grids + [grid + tail for grid in grids if len(grid) == 3 for tail in tails]


def test_listing_length_and_reading_agree_for_every_shape(tmp_path: Path) -> None:
    read = 0
    for shape in shapes():
        path = write(tmp_path / "a.nii", np.arange(np.prod(shape)).reshape(shape), np.diag([1, -2, -3, 1]))
        shape = nibabel.load(path).shape
        if len(shape) < 2 or sum(k > 1 for k in shape[3:]) > 1:
            for refused in (read_nifti, nifti_shape, lambda _: UnlabelledImages(tmp_path)):
                with pytest.raises(ValueError, match=r"a\.nii: .*dimensions was expected"):
                    refused(path)
            continue
        values = read_nifti(path).values
        assert nifti_shape(path) == values.shape == (np.prod(shape[3:]), *(*shape, 1)[2::-1]), shape
        assert values.numel() == np.prod(shape)
        for broken in ("error", "skip"):
            scans = UnlabelledImages(tmp_path, broken=broken)
            assert len(scans) == len(values) * len(values[0]), shape
            assert len([scan["image"] for scan in scans]) == len(scans)
        read += 1
    assert read > 40


def test_vectors_become_channels(tmp_path: Path) -> None:
    values = np.arange(2 * 3 * 4 * 2.0).reshape(2, 3, 4, 1, 2)
    plain = read_nifti(write(tmp_path / "a.nii", values[:, :, :, 0]))
    assert torch.equal(read_nifti(write(tmp_path / "b.nii", values)).values, plain.values)


@pytest.mark.parametrize("unit", ["unknown", "meter", "mm", "micron"])
def test_spacing_is_in_millimetres(tmp_path: Path, unit: str) -> None:
    mm = {"unknown": 1, "meter": 1000, "mm": 1, "micron": 0.001}[unit]
    image = nibabel.Nifti1Image(np.ones((2, 3, 4, 2), np.float32), np.diag([0.5, 2, 3, 1]))
    image.header.set_xyzt_units(unit, "msec")
    image.to_filename(tmp_path / "a.nii")
    for axes in ("anatomical", "file"):
        assert read_nifti(tmp_path / "a.nii", axes=axes).spacing_mm == pytest.approx((3 * mm, 2 * mm, 0.5 * mm))


@pytest.mark.parametrize(("place", "value"), [(123, b"\x05"), (80, np.float32(np.nan).tobytes())])
def test_a_spacing_that_is_no_length(tmp_path: Path, place: int, value: bytes) -> None:
    path = write(tmp_path / "a.nii", np.ones((2, 3, 4)))
    content = bytearray(path.read_bytes())
    content[place : place + len(value)] = value
    path.write_bytes(content)
    for read in (read_nifti, nifti_shape, lambda path: read_nifti(path, axes="file")):
        with pytest.raises(ValueError, match=r"a\.nii: .*a spacing in metres, millimetres or microns was expected"):
            read(path)


@pytest.mark.parametrize(("kind", "ending"), [("Nifti1Image", "nii"), ("Nifti2Image", "nii.gz")])
def test_spacing_alone_tells_no_orientation(tmp_path: Path, kind: str, ending: str) -> None:
    path = tmp_path / f"a.{ending}"
    image = getattr(nibabel, kind)(np.ones((2, 3, 4), np.float32), None)
    image.header.set_zooms((0.5, 2, 3))
    image.to_filename(path)
    for read in (read_nifti, nifti_shape, lambda _: UnlabelledImages(tmp_path)):
        with pytest.raises(ValueError, match=r"a\.nii.*which way the axes run, it has neither a qform nor an sform"):
            read(path)
    assert read_nifti(path, axes="file").spacing_mm == (3, 2, 0.5)
    for qform, sform in ((1, 0), (0, 1)):
        image.set_qform(np.diag([0.5, 2, 3, 1]), code=qform)
        image.set_sform(np.diag([0.5, 2, 3, 1]), code=sform)
        image.to_filename(path)
        assert read_nifti(path).spacing_mm == (3, 2, 0.5)


def test_unit_range_by_channel() -> None:
    values = torch.stack([torch.rand(3, 4, 5) * 900 - 50, torch.full((3, 4, 5), 7.0)])
    scaled = unit_range(values)
    assert (scaled[0].min(), scaled[0].max()) == (0, 1)
    assert not scaled[1].any()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_no_numbers(tmp_path: Path, bad: float) -> None:
    values = coordinates()
    values[1, 2, 0] = bad
    with pytest.raises(ValueError, match=r"a\.nii.*1 values of NaN or infinity"):
        read_nifti(write(tmp_path / "a.nii", values))


def test_damaged_files_name_the_file(tmp_path: Path) -> None:
    whole = write(tmp_path / "whole.nii.gz", np.random.default_rng(0).random((9, 9, 9))).read_bytes()
    for length in (0, 5, 200, len(whole) // 2, len(whole) - 9):
        path = tmp_path / "cut é 1.nii.gz"
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"cut é 1\.nii\.gz"):
            read_nifti(path)
    plain = gzip.decompress(whole)
    (tmp_path / "cut.nii").write_bytes(plain[:-40])
    with pytest.raises(ValueError, match=r"cut\.nii"):
        read_nifti(tmp_path / "cut.nii")


@pytest.mark.parametrize("rows", [np.zeros((3, 4)), np.full((3, 4), np.nan), [[1, 0, 0, 0]] * 2 + [[0, 0, 1, 0]]])
def test_axes_that_run_nowhere(tmp_path: Path, rows: Any) -> None:
    path = write(tmp_path / "a.nii", np.ones((2, 3, 4), dtype=np.float32), np.eye(4))
    content = bytearray(path.read_bytes())
    content[252:256] = np.array([0, 1], dtype=np.int16).tobytes()  # the matrix counts, the quaternion does not
    content[280:328] = np.asarray(rows, dtype=np.float32).tobytes()
    path.write_bytes(content)
    for read in (read_nifti, nifti_shape):
        with pytest.raises(ValueError, match=r"a\.nii: .*the header does not say which way the axes run"):
            read(path)
    assert read_nifti(path, axes="file").values.shape == (1, 4, 3, 2)


def test_other_mistakes(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_nifti(tmp_path / "none.nii")
    with pytest.raises(ValueError, match=r"\.nii or \.nii\.gz"):
        read_nifti(tmp_path / "a.mha")
    with pytest.raises(ValueError, match="axes must be"):
        read_nifti(tmp_path / "a.nii", axes="best")
    with pytest.raises(ValueError, match=r"c\.nii.*real numbers"):
        read_nifti(write(tmp_path / "c.nii", np.ones((2, 2, 2)), dtype="<c8"))
    with pytest.raises(ValueError, match=r"d\.nii.*two to four dimensions"):
        read_nifti(write(tmp_path / "d.nii", np.ones((2, 2, 2, 2, 2))))


def test_without_nibabel_the_message_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.nii", coordinates())
    monkeypatch.setitem(__import__("sys").modules, "nibabel", None)
    with pytest.raises(ImportError, match=r"python -m pip install .*nibabel>="):
        read_nifti(path)
