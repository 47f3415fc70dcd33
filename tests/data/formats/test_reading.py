"""The boundary of file reading: every damage is a ValueError or OSError that names the file."""

from __future__ import annotations

import errno
import zlib
from pathlib import Path

import pytest
import torch

from sslmed.data.formats._reading import Unreadable, frame_of, reading


@pytest.mark.parametrize(
    "error",
    [
        StopIteration(),
        IndexError("frame 3"),
        zlib.error("incomplete stream"),
        RecursionError("too deep"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
        OSError("image file is truncated"),
        ValueError("bad header"),
    ],
)
def test_errors_of_decoders_become_value_errors_that_name_the_file(tmp_path: Path, error: Exception) -> None:
    with (
        pytest.raises(ValueError, match=r"a\.dcm: not a readable DICOM file; it may be corrupt") as caught,
        reading(tmp_path / "a.dcm", "DICOM file"),
    ):
        raise error
    assert caught.value.__cause__ is error
    assert type(error).__name__ in str(caught.value)


def test_errors_of_the_system_keep_their_type(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    with pytest.raises(FileNotFoundError, match=r"a\.png"), reading(path, "PNG image"):
        path.read_bytes()
    with pytest.raises(OSError, match=r"Input/output error: .*a\.png") as caught, reading(path, "PNG image"):
        raise OSError(errno.EIO, "Input/output error")
    assert caught.value.errno == errno.EIO


@pytest.mark.parametrize("kind", [MemoryError, ImportError, KeyboardInterrupt, GeneratorExit])
def test_what_is_not_about_the_file_passes_unchanged(tmp_path: Path, kind: type[BaseException]) -> None:
    error = kind("as it is")
    with pytest.raises(kind) as caught, reading(tmp_path / "a.png", "PNG image"):
        raise error
    assert caught.value is error


def test_a_readers_own_refusals_get_the_files_name_once(tmp_path: Path) -> None:
    path = tmp_path / "a.dcm"
    for error in (Unreadable("no window"), ValueError(f"{path}: no window")):
        with (
            pytest.raises(ValueError, match="no window") as caught,
            reading(path, "DICOM file"),
            reading(path, "DICOM file"),
        ):
            raise error
        assert str(caught.value) == f"{path}: no window"


def test_empty_files(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"")
    with pytest.raises(ValueError, match=r"a\.png: the file is empty"), reading(path, "PNG image"):
        pass


def test_a_frame_that_is_gone_does_not_end_a_loop(tmp_path: Path) -> None:
    frames = torch.arange(3.0)[:, None]
    assert frame_of(frames, 2, tmp_path / "a.gif") == 2
    with pytest.raises(ValueError, match=r"a\.gif: frame 3 was expected, but the file holds 3"):
        frame_of(frames, 3, tmp_path / "a.gif")
