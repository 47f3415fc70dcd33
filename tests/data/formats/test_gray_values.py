"""Padding, rescale and window of gray DICOM files, of the whole file or of each frame."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from scans import RAMP, dataset, words, write_dicom
from sslmed.data.formats.dicom import read_dicom

pytest.importorskip("pydicom")

CLIP = np.stack([RAMP, RAMP // 2, RAMP // 4])


def window(centre: Any, width: Any, **others: Any) -> dict[str, Any]:
    return {"WindowCenter": centre, "WindowWidth": width, **others}


def linear(values: Any, centre: float, width: float) -> torch.Tensor:
    x = np.asarray(values, dtype=np.float64)
    return torch.tensor(np.clip((x - (centre - 0.5)) / (width - 1) + 0.5, 0, 1), dtype=torch.float32)


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        (window(None, None), "the header holds no window"),
        (window("", "40"), "the header holds no window"),
        ({"WindowCenter": 3}, "the header holds no window"),
        (window("NaN", "40"), "WindowCenter is nan"),
        (window("40", "inf"), "WindowWidth is inf"),
        (window(40, 0), "a window 0 wide"),
        (window(40, 0.5), "a window 0.5 wide"),
        (window(40, 0, VOILUTFunction="SIGMOID"), "a window 0 wide"),
        (window(40, -3, VOILUTFunction="LINEAR_EXACT"), "a window -3 wide"),
        (window(40, 80, RescaleSlope=0), "RescaleSlope is 0"),
        (window(40, 80, RescaleIntercept="NaN"), "RescaleIntercept is nan"),
    ],
)
@pytest.mark.filterwarnings("ignore:Invalid value:UserWarning")
def test_windows_without_meaning_are_refused(tmp_path: Path, tags: dict[str, Any], message: str) -> None:
    path = write_dicom(tmp_path / "a.dcm", RAMP, **tags)
    with pytest.raises(ValueError, match=rf"a\.dcm: {message}"):
        read_dicom(path, window="header")


def test_the_narrowest_window_is_a_step(tmp_path: Path) -> None:
    stored = np.array([[9, 10], [11, 12]], dtype=np.uint16)
    step = read_dicom(write_dicom(tmp_path / "a.dcm", stored, **window(10.5, 1)), window="header")
    assert step[0, 0].tolist() == [[0, 0], [1, 1]]


@pytest.mark.parametrize("name", ["RescaleSlope", "RescaleIntercept"])
def test_an_empty_rescale_changes_nothing(tmp_path: Path, name: str) -> None:
    tags = {"RescaleSlope": 1, "RescaleIntercept": 0} | window(2000, 3000)
    plain = write_dicom(tmp_path / "a.dcm", RAMP, **tags)
    empty = write_dicom(tmp_path / "b.dcm", RAMP, **tags | {name: None})
    for how in ("full", "header", "own"):
        assert torch.equal(read_dicom(empty, window=how), read_dicom(plain, window=how))


def test_a_slope_without_intercept_counts(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a.dcm", RAMP, RescaleSlope=2, **window(2000, 3000))
    torch.testing.assert_close(read_dicom(path, window="header")[0, 0], linear(RAMP * 2.0, 2000, 3000))


def test_padding_is_black_and_takes_no_part_in_the_range(tmp_path: Path) -> None:
    stored = np.array([[-2000, 100], [200, 300]], dtype=np.int16)
    tags: dict[str, Any] = {"BitsStored": 16, "HighBit": 15, "PixelPaddingValue": -2000}
    path = write_dicom(tmp_path / "a.dcm", stored, **tags)
    assert read_dicom(path, window="own")[0, 0].tolist() == [[0, 0], [0.5, 1]]
    full = read_dicom(path)[0, 0]
    assert full[0, 0] == 0
    assert full[0, 1] == np.float32(32768 + 100) / np.float32(65535)
    tags |= window(150, 400) | {"PhotometricInterpretation": "MONOCHROME1"}
    turned = read_dicom(write_dicom(tmp_path / "b.dcm", stored, **tags), window="header")[0, 0]
    assert turned[0, 0] == 0  # not white
    torch.testing.assert_close(turned.ravel()[1:], 1 - linear([100, 200, 300], 150, 400))
    empty = write_dicom(tmp_path / "c.dcm", np.full_like(stored, -2000), **tags)
    assert not read_dicom(empty, window="own").any()


@pytest.mark.parametrize("limits", [(100, 102), (102, 100)])
def test_padding_may_be_a_range(tmp_path: Path, limits: tuple[int, int]) -> None:
    stored = np.array([[99, 100, 101], [102, 103, 107]], dtype=np.uint16)
    tags = {"PixelPaddingValue": limits[0], "PixelPaddingRangeLimit": limits[1]}
    own = read_dicom(write_dicom(tmp_path / "a.dcm", stored, **tags), window="own")[0, 0]
    assert own.tolist() == [[0, 0, 0], [0, 0.5, 1]]


def test_overlays_in_unused_bits_are_no_pixels(tmp_path: Path) -> None:
    plain = write_dicom(tmp_path / "a.dcm", RAMP)
    drawn = write_dicom(tmp_path / "b.dcm", RAMP | 0x8000 | (RAMP % 2 << 12))
    for how in ("full", "own"):
        assert torch.equal(read_dicom(drawn, window=how), read_dicom(plain, window=how))
    signed = RAMP.astype(np.int16) - 2048
    plain = write_dicom(tmp_path / "c.dcm", signed)
    drawn = write_dicom(tmp_path / "d.dcm", (signed.view(np.uint16) & 0x0FFF | 0x4000).view(np.int16))
    assert torch.equal(read_dicom(drawn), read_dicom(plain))


def group(*, slope: float | None = None, voi: dict[str, Any] | None = None) -> Any:
    """A functional group with a rescale and a window."""
    item = dataset()
    if slope is not None:
        item.PixelValueTransformationSequence = [dataset(RescaleSlope=slope, RescaleIntercept=10, RescaleType="US")]
    if voi is not None:
        item.FrameVOILUTSequence = [dataset(**voi)]
    return item


@pytest.mark.parametrize("syntax", ["explicit", "implicit", "big"])
def test_values_of_a_frame_come_before_shared_ones_and_those_before_the_files(tmp_path: Path, syntax: str) -> None:
    tags = {
        "RescaleSlope": 1000,  # of no frame
        "RescaleIntercept": 1000,
        "SharedFunctionalGroupsSequence": [group(slope=2, voi=window(4000, 5001))],
        "PerFrameFunctionalGroupsSequence": [
            group(slope=3, voi=window(6000, 8001)),
            group(),
            group(voi=window(500, 901)),
        ],
    }
    path = write_dicom(tmp_path / "a.dcm", CLIP, syntax=syntax, **tags)
    shown = read_dicom(path, window="header")[:, 0]
    for k, (slope, centre, width) in enumerate([(3, 6000, 8001), (2, 4000, 5001), (2, 500, 901)]):
        torch.testing.assert_close(shown[k], linear(CLIP[k] * float(slope) + 10, centre, width))
    own = read_dicom(path, window="own")[:, 0]
    values = CLIP * np.array([3.0, 2.0, 2.0])[:, None, None] + 10
    torch.testing.assert_close(own, torch.tensor((values - 10) / (values.max() - 10)).float())
    top = write_dicom(tmp_path / "b.dcm", CLIP, syntax=syntax, **window(500, 901))
    torch.testing.assert_close(read_dicom(top, window="header")[:, 0], linear(CLIP, 500, 901))


def test_a_frame_whose_slope_falls_is_turned_over(tmp_path: Path) -> None:
    groups = [group(slope=2), group(slope=-2), group(slope=0.5)]
    turned = read_dicom(write_dicom(tmp_path / "a.dcm", CLIP, PerFrameFunctionalGroupsSequence=groups))
    plain = read_dicom(write_dicom(tmp_path / "b.dcm", CLIP))
    torch.testing.assert_close(turned[[0, 2]], plain[[0, 2]])
    torch.testing.assert_close(turned[1], 1 - plain[1])


def test_a_frame_may_have_a_table(tmp_path: Path) -> None:
    table = dataset(LUTDescriptor=[4096, 0, 8], LUTData=words(np.arange(4096) % 256))
    table["LUTData"].VR = "OW"
    groups = [group(voi=window(500, 901)), group(voi={"VOILUTSequence": [table]}), group()]
    path = write_dicom(tmp_path / "a.dcm", CLIP, PerFrameFunctionalGroupsSequence=groups, **window(2000, 3000))
    shown = read_dicom(path, window="header")[:, 0]
    torch.testing.assert_close(shown[0], linear(CLIP[0], 500, 901))
    torch.testing.assert_close(shown[1], torch.tensor(CLIP[1] % 256 / np.float32(255)))
    torch.testing.assert_close(shown[2], linear(CLIP[2], 2000, 3000))


def test_groups_of_another_number_of_frames_are_refused(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a.dcm", CLIP, PerFrameFunctionalGroupsSequence=[group(slope=2)] * 2)
    with pytest.raises(ValueError, match=r"a\.dcm: NumberOfFrames is 3, but the header describes 2 frames"):
        read_dicom(path)
