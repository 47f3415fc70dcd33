"""DICOM: pydicom's own files, and files written here for what it has none of."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from scans import RAMP, compressed, dataset
from scans import write_dicom as write
from sslmed.data.formats.dicom import dicom_shape, is_dicom, read_dicom

pydicom = pytest.importorskip("pydicom")


def shipped(name: str) -> Path:
    from pydicom.data import get_testdata_file

    path = get_testdata_file(name, download=False)
    if path is None:
        pytest.skip(f"this pydicom does not ship {name}")
    return Path(path)


def test_range_of_the_stored_bits_whatever_the_values(tmp_path: Path) -> None:
    image = read_dicom(write(tmp_path / "a.dcm", RAMP))
    assert image.shape == (1, 1, 2, 3)
    assert image.dtype == torch.float32
    torch.testing.assert_close(image[0, 0], torch.tensor(RAMP.astype(np.float32)) / 4095)
    dark = read_dicom(write(tmp_path / "b.dcm", RAMP // 16))
    torch.testing.assert_close(dark[0, 0], torch.tensor((RAMP // 16).astype(np.float32)) / 4095)


def test_signed_values_start_at_the_lowest_of_the_bits(tmp_path: Path) -> None:
    stored = RAMP.astype(np.int16) - 2048
    image = read_dicom(write(tmp_path / "a.dcm", stored))
    torch.testing.assert_close(image[0, 0], torch.tensor(RAMP.astype(np.float32)) / 4095)


def test_monochrome1_and_a_falling_rescale_turn_the_image_over(tmp_path: Path) -> None:
    plain = read_dicom(write(tmp_path / "a.dcm", RAMP))
    inverted = read_dicom(write(tmp_path / "b.dcm", RAMP, PhotometricInterpretation="MONOCHROME1"))
    torch.testing.assert_close(inverted, 1 - plain)
    falling = {"RescaleSlope": -2.0, "RescaleIntercept": 100.0}
    torch.testing.assert_close(read_dicom(write(tmp_path / "c.dcm", RAMP, **falling)), 1 - plain)
    both = read_dicom(write(tmp_path / "d.dcm", RAMP, PhotometricInterpretation="MONOCHROME1", **falling))
    torch.testing.assert_close(both, plain)


def test_header_window_is_the_standards_linear_function(tmp_path: Path) -> None:
    tags = {
        "RescaleSlope": 2.0,
        "RescaleIntercept": -1000.0,
        "WindowCenter": [3000.0, 1.0],
        "WindowWidth": [1001.0, 1.0],
    }
    image = read_dicom(write(tmp_path / "a.dcm", RAMP, **tags), window="header")[0, 0]
    x = RAMP.astype(np.float64) * 2 - 1000
    expected = np.clip((x - 2999.5) / 1000 + 0.5, 0, 1)
    torch.testing.assert_close(image, torch.tensor(expected, dtype=torch.float32))


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        ("LINEAR_EXACT", lambda x: ((x - 2000) / 1000 + 0.5).clamp(0, 1)),
        ("SIGMOID", lambda x: 1 / (1 + (-4 * (x - 2000) / 1000).exp())),
    ],
)
def test_header_window_follows_the_headers_function(
    tmp_path: Path, function: str, expected: Callable[[torch.Tensor], torch.Tensor]
) -> None:
    tags = {"WindowCenter": 2000, "WindowWidth": 1000, "VOILUTFunction": function}
    stored = np.array([[0, 1600, 1900], [2000, 2300, 4000]], dtype=np.uint16)
    image = read_dicom(write(tmp_path / "a.dcm", stored, **tags), window="header")[0, 0]
    torch.testing.assert_close(image, expected(torch.tensor(stored.astype(np.float32))))
    with pytest.raises(ValueError, match=r"b\.dcm.*unknown function of the window, CUBIC"):
        read_dicom(write(tmp_path / "b.dcm", stored, **tags | {"VOILUTFunction": "CUBIC"}), window="header")


def test_own_window_runs_from_least_to_greatest(tmp_path: Path) -> None:
    image = read_dicom(write(tmp_path / "a.dcm", RAMP // 16 + 7), window="own")
    assert (image.min(), image.max()) == (0, 1)
    constant = read_dicom(write(tmp_path / "b.dcm", np.full_like(RAMP, 9)), window="own")
    assert not constant.any()


def test_modality_table_has_a_range_of_its_own(tmp_path: Path) -> None:
    from pydicom.dataset import Dataset
    from pydicom.sequence import Sequence

    table = Dataset()
    table.LUTDescriptor = [4, 0, 8]
    table.ModalityLUTType = "US"
    table.add_new("LUTData", "US", [0, 51, 102, 255])
    stored = np.array([[0, 1], [2, 3]], dtype=np.uint16)
    image = read_dicom(write(tmp_path / "a.dcm", stored, ModalityLUTSequence=Sequence([table])))
    torch.testing.assert_close(image[0, 0], torch.tensor([[0.0, 0.2], [0.4, 1.0]]))


def test_frames(tmp_path: Path) -> None:
    path = write(tmp_path / "clip", np.stack([RAMP, RAMP // 2, RAMP // 4]))
    clip = read_dicom(path)
    assert clip.shape == (3, 1, 2, 3)
    assert dicom_shape(path) == (3, 2, 3)
    torch.testing.assert_close(clip[1, 0], torch.tensor((RAMP // 2).astype(np.float32)) / 4095)
    assert is_dicom(path)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("examples_palette.dcm", (1, 1, 350, 800)),  # ultrasound
        ("examples_rgb_color.dcm", (1, 1, 240, 320)),
        ("examples_ybr_color.dcm", (30, 1, 240, 320)),  # a clip
        ("SC_rgb_rle_16bit_2frame.dcm", (2, 1, 100, 100)),
        ("MR_small_bigendian.dcm", (1, 1, 64, 64)),
    ],
)
def test_files_that_pydicom_ships(name: str, shape: tuple[int, ...]) -> None:
    path = shipped(name)
    image = read_dicom(path)
    assert image.shape == shape
    assert 0 <= image.min() < image.max() <= 1
    assert dicom_shape(path) == (shape[0], *shape[2:])


def test_palettes_and_ybr_become_luma() -> None:
    from pydicom.pixels import apply_color_lut, pixel_array

    luma = np.array((0.299, 0.587, 0.114))
    header = pydicom.dcmread(shipped("examples_palette.dcm"))
    rgb = apply_color_lut(header.pixel_array, header)
    expected = rgb / np.iinfo(rgb.dtype).max @ luma
    torch.testing.assert_close(
        read_dicom(shipped("examples_palette.dcm"))[0, 0].double(), torch.tensor(expected), rtol=0, atol=1e-6
    )
    # Of full-range YBR the first channel is luma itself.
    raw = pixel_array(shipped("examples_ybr_color.dcm"), raw=True)[..., 0] / 255
    ours = read_dicom(shipped("examples_ybr_color.dcm"))[:, 0].numpy()
    inside = (raw > 0.1) & (raw < 0.7)  # RGB saturates near the ends
    assert np.median(np.abs(ours - raw)[inside]) < 0.01


def test_byte_orders_and_lossless_compression_agree() -> None:
    plain = read_dicom(shipped("MR_small.dcm"))
    for name in ("MR_small_bigendian.dcm", "MR_small_RLE.dcm", "MR_small_implicit.dcm"):
        assert torch.equal(read_dicom(shipped(name)), plain)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("MR_truncated.dcm", "truncated"),
        ("test-SR.dcm", "without an image"),
        ("no_meta.dcm", "not a readable DICOM"),
    ],
)
def test_damaged_and_imageless_files_name_the_file(name: str, message: str) -> None:
    path = shipped(name)
    with pytest.raises(ValueError, match=f"{name}.*{message}"):
        read_dicom(path)


@pytest.mark.filterwarnings("ignore::UserWarning")  # pydicom's, about elements cut in half
def test_cut_files_at_any_length(tmp_path: Path) -> None:
    whole = write(tmp_path / "whole.dcm", RAMP).read_bytes()
    for length in range(0, len(whole), 7):
        path = tmp_path / "cut ü.dcm"
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"cut ü\.dcm") as caught:
            read_dicom(path)
        assert "Secret" not in str(caught.value)


RGB = {
    "PhotometricInterpretation": "RGB",
    "SamplesPerPixel": 3,
    "BitsAllocated": 8,
    "BitsStored": 8,
    "HighBit": 7,
}


@pytest.mark.filterwarnings("ignore::UserWarning")  # pydicom's, about pixels too many
@pytest.mark.parametrize(
    ("tags", "message"),
    [
        ({"NumberOfFrames": None}, r"has \(1, 2, 3, 1\) .*its pixels have the shape \(3, 2, 3\)"),
        ({"NumberOfFrames": 2}, r"has \(2, 2, 3, 1\) .*its pixels have the shape \(3, 2, 3\)"),
        ({"NumberOfFrames": 4}, "less than expected"),
        ({"Rows": 1}, r"has \(3, 1, 3, 1\) .*its pixels have the shape \(6, 1, 3\)"),
        ({"Columns": 4}, "less than expected"),
        ({"Rows": 0}, "rows and columns were expected"),
        ({"SamplesPerPixel": 3, "PlanarConfiguration": 0}, "3 samples a pixel, but MONOCHROME2"),
        ({"PhotometricInterpretation": "RGB"}, "1 samples a pixel, but RGB"),
        ({"PhotometricInterpretation": "CMYK"}, "pixels of CMYK; read are MONOCHROME1"),
        ({"PhotometricInterpretation": "YBR_PARTIAL_422"}, "pixels of YBR_PARTIAL_422"),
        ({"HighBit": 15}, "12 bits up to bit 15"),
    ],
)
def test_pixels_that_deny_their_header(tmp_path: Path, tags: dict[str, object], message: str) -> None:
    path = write(tmp_path / "a.dcm", np.stack([RAMP, RAMP // 2, RAMP // 4]), **tags)
    with pytest.raises(ValueError, match=rf"a\.dcm: .*{message}"):
        read_dicom(path)


def test_the_planar_configuration_is_followed(tmp_path: Path) -> None:
    colours = np.arange(18, dtype=np.uint8).reshape(2, 3, 3) * 10
    by_pixel = write(tmp_path / "a.dcm", RAMP, PixelData=colours.tobytes(), PlanarConfiguration=0, **RGB)
    planes = np.moveaxis(colours, 2, 0).tobytes()
    by_plane = write(tmp_path / "b.dcm", RAMP, PixelData=planes, PlanarConfiguration=1, **RGB)
    expected = torch.tensor(colours / 255 @ np.array((0.299, 0.587, 0.114)), dtype=torch.float32)
    torch.testing.assert_close(read_dicom(by_pixel)[0, 0], expected)
    torch.testing.assert_close(read_dicom(by_plane)[0, 0], expected)
    unsaid = write(tmp_path / "c.dcm", RAMP, PixelData=colours.tobytes(), **RGB)
    with pytest.raises(ValueError, match=r"c\.dcm: .*Planar Configuration"):
        read_dicom(unsaid)


@pytest.mark.parametrize("syntax", ["explicit", "implicit", "big"])
def test_the_first_channel_of_ybr_is_luma(tmp_path: Path, syntax: str) -> None:
    tags = RGB | {"PlanarConfiguration": 0, "PhotometricInterpretation": "YBR_FULL"}
    gray = np.arange(6, dtype=np.uint8).reshape(2, 3) * 50
    pixels = np.stack([gray, np.full_like(gray, 128), np.full_like(gray, 128)], axis=-1).tobytes()
    image = read_dicom(write(tmp_path / "a.dcm", RAMP, syntax=syntax, PixelData=pixels, **tags))
    torch.testing.assert_close(image[0, 0], torch.tensor(gray / np.float32(255)))
    tags["PhotometricInterpretation"] = "YBR_RCT"
    with pytest.raises(ValueError, match=r"b\.dcm: YBR_RCT, which is of JPEG 2000"):
        read_dicom(write(tmp_path / "b.dcm", RAMP, syntax=syntax, PixelData=pixels, **tags))


@pytest.mark.filterwarnings("ignore::UserWarning")  # pydicom's, about frames too many
@pytest.mark.parametrize("syntax", ["rle", "jpeg"])
def test_compressed_frames_of_another_number(tmp_path: Path, syntax: str) -> None:
    clip = np.stack([RAMP, RAMP // 2, RAMP // 4]).astype(np.uint8)
    assert read_dicom(compressed(tmp_path / "a.dcm", clip, syntax)).shape == (3, 1, 2, 3)
    with pytest.raises(ValueError, match=r"b\.dcm: .*4 frames, but there are 3"):
        read_dicom(compressed(tmp_path / "b.dcm", clip, syntax, NumberOfFrames=4))
    with pytest.raises(ValueError, match=r"c\.dcm: "):
        read_dicom(compressed(tmp_path / "c.dcm", clip, syntax, NumberOfFrames=2))


@pytest.mark.parametrize(("rows", "columns"), [(3, 2), (1, 6), (1, 1)])
def test_compressed_frames_of_another_size(tmp_path: Path, rows: int, columns: int) -> None:
    still = RAMP.astype(np.uint8)
    path = compressed(tmp_path / "a.dcm", still, "jpeg", Rows=rows, Columns=columns)
    with pytest.raises(ValueError, match=rf"a\.dcm: .*\({rows}, {columns}\).*a frame \(2, 3\)"):
        read_dicom(path)


def test_a_truncated_deflated_file_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.dcm", RAMP, syntax="deflated")
    assert torch.equal(read_dicom(path), read_dicom(write(tmp_path / "b.dcm", RAMP)))
    path.write_bytes(path.read_bytes()[:-20])
    for read in (read_dicom, dicom_shape):
        with pytest.raises(ValueError, match=r"a\.dcm: not a readable DICOM file.*truncated stream"):
            read(path)


def test_no_name_is_read_even_where_its_element_is_malformed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    group = dataset(FrameContentSequence=[dataset(PatientBirthDate="20000101")], PatientBirthDate="20000101")
    tags = {"PatientBirthDate": "20000101", "PerFrameFunctionalGroupsSequence": [group]}
    path = write(tmp_path / "a.dcm", RAMP, **tags)
    path.write_bytes(path.read_bytes().replace(b"20000101", b"Secret!!"))
    read_dicom(path)  # warnings are errors
    assert "Secret" not in caplog.text


def test_other_mistakes(tmp_path: Path) -> None:
    path = write(tmp_path / "a.dcm", RAMP)
    with pytest.raises(ValueError, match="window must be"):
        read_dicom(path, window="best")
    with pytest.raises(ValueError, match=r"a\.dcm.*holds no window"):
        read_dicom(path, window="header")
    with pytest.raises(FileNotFoundError, match=r"none\.dcm"):
        read_dicom(tmp_path / "none.dcm")
    assert not is_dicom(tmp_path / "none.dcm")
    assert not is_dicom(tmp_path)


def test_without_pydicom_the_message_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.dcm", RAMP)
    monkeypatch.setitem(__import__("sys").modules, "pydicom", None)
    with pytest.raises(ImportError, match=r"python -m pip install .*pydicom>="):
        read_dicom(path)
